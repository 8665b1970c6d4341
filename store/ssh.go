package store

import (
	"context"
	"encoding/json"
	"time"

	"github.com/errand-dev/errand"
)

// SSHKey is a public key by which a person walks into machines.
type SSHKey struct {
	ID          string
	Person      string // Caller.Person
	Name        string // the person's, "" where it is not known
	Fingerprint string // SHA256:…
	Public      string // as in authorized_keys, without its comment
	Comment     string
	// Principals are whom certificates that the key signs may be for; nil for a key
	// that itself lets its person in.
	Principals []string
	CreatedAt  time.Time
	UsedAt     time.Time // zero: never
}

const sshKeyColumns = `id, person, name, fingerprint, public, comment, principals, created_at, used_at`

func scanSSHKey(s scanner) (SSHKey, error) {
	var k SSHKey
	var created, used int64
	var principals string
	err := s.Scan(&k.ID, &k.Person, &k.Name, &k.Fingerprint, &k.Public, &k.Comment, &principals, &created, &used)
	if err == nil && principals != "" {
		err = json.Unmarshal([]byte(principals), &k.Principals)
	}
	k.CreatedAt, k.UsedAt = fromMillis(created), fromMillis(used)
	return k, err
}

// SSHKeys gives a person's keys, oldest first.
func (q queries) SSHKeys(ctx context.Context, person string) ([]SSHKey, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT `+sshKeyColumns+` FROM ssh_keys WHERE person = $1 ORDER BY created_at, id`, person)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanSSHKey)
}

// SSHKeyByFingerprint gives a key, or NotFound.
func (q queries) SSHKeyByFingerprint(ctx context.Context, fingerprint string) (SSHKey, error) {
	k, err := scanSSHKey(q.db.QueryRowContext(ctx, `SELECT `+sshKeyColumns+` FROM ssh_keys WHERE fingerprint = $1`, fingerprint))
	return k, notFound(err, "ssh_key_not_found", "This key is not known here.")
}

// InsertSSHKey keeps a new key.
func (t *Tx) InsertSSHKey(k SSHKey) error {
	principals := ""
	if k.Principals != nil {
		text, err := json.Marshal(k.Principals)
		if err != nil {
			return err
		}
		principals = string(text)
	}
	_, err := t.exec(`INSERT INTO ssh_keys (`+sshKeyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		k.ID, k.Person, k.Name, k.Fingerprint, k.Public, k.Comment, principals, millis(k.CreatedAt), millis(k.UsedAt))
	return err
}

// TouchSSHKey notes that a key was used now.
func (t *Tx) TouchSSHKey(id string) error {
	_, err := t.exec(`UPDATE ssh_keys SET used_at = $2 WHERE id = $1`, id, t.now.UnixMilli())
	return err
}

// DeleteSSHKey removes a person's key, by its id or fingerprint. One that is not
// there is NotFound.
func (t *Tx) DeleteSSHKey(person, key string) error {
	n, err := t.exec(`DELETE FROM ssh_keys WHERE person = $1 AND (id = $2 OR fingerprint = $2)`, person, key)
	if err == nil && n == 0 {
		return errand.Errorf(errand.NotFound, "ssh_key_not_found", "You have no ssh key %q. `errand ssh-key ls` shows which there are.", key)
	}
	return err
}
