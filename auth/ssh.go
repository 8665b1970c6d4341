package auth

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

// maxSSHKeys bounds a person's public keys.
const maxSSHKeys = 100

// AddSSHKey keeps a public key, a line as in authorized_keys(5), by which the
// caller walks into machines from then on. Options before the key are refused:
// they would not hold here. To add it again is no error; a key is one person's.
func (k *Keys) AddSSHKey(ctx context.Context, who errand.Caller, line string) (store.SSHKey, error) {
	public, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case strings.Contains(line, "PRIVATE KEY"):
		return store.SSHKey{}, errand.Errorf(errand.Invalid, "validation_error", "This is a private key, which nobody else should have. Add the public one beside it, the file that ends in .pub.")
	case err != nil:
		return store.SSHKey{}, errand.Errorf(errand.Invalid, "validation_error", "This is no public ssh key. It is one line, as in ~/.ssh/id_ed25519.pub: ssh-ed25519 AAAA… comment")
	case len(options) > 0:
		return store.SSHKey{}, errand.Errorf(errand.Invalid, "validation_error", "The key has options before it (%s), which would not hold here. Add it without them.", strings.Join(options, ","))
	}
	if _, ok := public.(*ssh.Certificate); ok {
		return store.SSHKey{}, errand.Errorf(errand.Invalid, "validation_error", "This is a certificate. Add the public key itself.")
	}
	added := store.SSHKey{
		ID: "sshkey-" + uuid.NewString(), Person: who.Person(), Name: who.Name, Fingerprint: ssh.FingerprintSHA256(public),
		Public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))), Comment: clipComment(comment),
	}
	err = k.store.Write(ctx, func(t *store.Tx) error {
		known, err := t.SSHKeyByFingerprint(ctx, added.Fingerprint)
		switch {
		case err == nil && known.Person == added.Person:
			added = known
			return nil
		case err == nil:
			return errand.Errorf(errand.Conflict, "ssh_key_conflict", "This key is another person's here already. Make one of your own: ssh-keygen -t ed25519")
		case errand.KindOf(err) != errand.NotFound:
			return err
		}
		all, err := t.SSHKeys(ctx, added.Person)
		if err != nil {
			return err
		}
		if len(all) >= maxSSHKeys {
			return errand.Errorf(errand.Conflict, "ssh_keys_limit", "You have %d ssh keys, and at most that many are allowed. Remove one: errand ssh-key rm", maxSSHKeys)
		}
		added.CreatedAt = t.Now()
		return t.InsertSSHKey(added)
	})
	return added, err
}

// clipComment makes of a key's comment a short line.
func clipComment(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	return strings.ToValidUTF8(s[:min(len(s), 100)], "")
}

// SSHKeys gives the caller's public keys, oldest first.
func (k *Keys) SSHKeys(ctx context.Context, who errand.Caller) ([]store.SSHKey, error) {
	return k.store.SSHKeys(ctx, who.Person())
}

// RemoveSSHKey ends one of the caller's public keys, by id or fingerprint, from
// the next connection on.
func (k *Keys) RemoveSSHKey(ctx context.Context, who errand.Caller, key string) error {
	return k.store.Write(ctx, func(t *store.Tx) error { return t.DeleteSSHKey(who.Person(), key) })
}

// CheckSSHKey says whose public key this is. One that is not known here, or whose
// person has no API key any more that holds, is Unauthorized.
func (k *Keys) CheckSSHKey(ctx context.Context, public ssh.PublicKey) (errand.Caller, error) {
	key, err := k.store.SSHKeyByFingerprint(ctx, ssh.FingerprintSHA256(public))
	if errand.KindOf(err) == errand.NotFound {
		return errand.Caller{}, unauthorized()
	}
	if err != nil {
		return errand.Caller{}, fmt.Errorf("looking up an ssh key: %w", err)
	}
	all, err := k.store.Keys(ctx)
	if err != nil {
		return errand.Caller{}, fmt.Errorf("looking up an ssh key: %w", err)
	}
	for _, api := range all {
		who := errand.Caller{Key: api.Name, Name: api.Person, Email: api.Email}
		if api.RevokedAt.IsZero() && who.Person() == key.Person {
			return who, k.store.Write(ctx, func(t *store.Tx) error { return t.TouchSSHKey(key.ID) })
		}
	}
	return errand.Caller{}, unauthorized()
}
