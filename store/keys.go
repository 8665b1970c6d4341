package store

import (
	"context"
	"time"

	"github.com/errand-dev/errand"
)

// Key is a token's row. The token itself is kept nowhere.
type Key struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Hash      string    `json:"-"` // hex SHA-256 of the token
	Person    string    `json:"person,omitempty"`
	Email     string    `json:"email,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	UsedAt    time.Time `json:"usedAt,omitzero"`
	RevokedAt time.Time `json:"revokedAt,omitzero"` // zero: it holds
}

const keyColumns = `id, name, hash, person, email, created_at, used_at, revoked_at`

func scanKey(s scanner) (Key, error) {
	var k Key
	var created, used, revoked int64
	err := s.Scan(&k.ID, &k.Name, &k.Hash, &k.Person, &k.Email, &created, &used, &revoked)
	k.CreatedAt, k.UsedAt, k.RevokedAt = fromMillis(created), fromMillis(used), fromMillis(revoked)
	return k, err
}

// KeyByHash gives the key whose token has this hash, revoked or not, or a
// NotFound error.
func (q queries) KeyByHash(ctx context.Context, hash string) (Key, error) {
	k, err := scanKey(q.db.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM keys WHERE hash = $1`, hash))
	return k, notFound(err, "api_key_not_found", "This key is not known here.")
}

// Key gives the key with this id, revoked or not, or a NotFound error.
func (q queries) Key(ctx context.Context, id string) (Key, error) {
	k, err := scanKey(q.db.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM keys WHERE id = $1`, id))
	return k, notFound(err, "api_key_not_found", "This key is not known here.")
}

// Keys gives all keys, oldest first.
func (q queries) Keys(ctx context.Context) ([]Key, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT `+keyColumns+` FROM keys ORDER BY created_at, id`)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanKey)
}

// KeyPage gives a page of keys, newest first, and the cursor of the next one (""
// on the last). A cursor that is none is an Invalid error.
func (q queries) KeyPage(ctx context.Context, limit int, cursor string) ([]Key, string, error) {
	before, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	// Keys are never deleted, so their count up to one is its number.
	rows, err := q.db.QueryContext(ctx, `
		SELECT number, `+keyColumns+` FROM (SELECT ROW_NUMBER() OVER (ORDER BY created_at, id) AS number, * FROM keys) AS numbered
		WHERE $1 = 0 OR number < $1 ORDER BY number DESC LIMIT $2`, before, limit+1)
	if err != nil {
		return nil, "", err
	}
	return page(rows, limit, scanKey)
}

// InsertKey keeps a new key.
func (t *Tx) InsertKey(k Key) error {
	_, err := t.exec(`INSERT INTO keys (`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		k.ID, k.Name, k.Hash, k.Person, k.Email, millis(k.CreatedAt), millis(k.UsedAt), millis(k.RevokedAt))
	return err
}

// TouchKey notes that a key was used now.
func (t *Tx) TouchKey(id string) error {
	_, err := t.exec(`UPDATE keys SET used_at = $2 WHERE id = $1`, id, t.now.UnixMilli())
	return err
}

// RevokeKey ends a key by its id or name. A key that is not there is NotFound;
// to revoke again is no error.
func (t *Tx) RevokeKey(name string) error {
	n, err := t.exec(`UPDATE keys SET revoked_at = CASE revoked_at WHEN 0 THEN $2 ELSE revoked_at END WHERE id = $1 OR name = $1`, name, t.now.UnixMilli())
	if err == nil && n == 0 {
		return errand.Errorf(errand.NotFound, "api_key_not_found", "There is no key %q. `errand key ls` shows which there are.", name)
	}
	return err
}

// Request is what an idempotency key once led to.
type Request struct {
	Agent errand.AgentID
	Run   errand.RunID
	// Made says that it made the agent, with Run; else it was a follow-up.
	Made bool
}

// Request finds what caller's idempotency key led to, and false for a new one.
func (q queries) Request(ctx context.Context, caller, key string) (Request, bool, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT agent, run, made FROM requests WHERE caller = $1 AND key = $2`, caller, key)
	if err != nil {
		return Request{}, false, err
	}
	all, err := collect(rows, func(s scanner) (r Request, err error) { return r, s.Scan(&r.Agent, &r.Run, &r.Made) })
	if err != nil || len(all) == 0 {
		return Request{}, false, err
	}
	return all[0], true, nil
}

// PutRequest keeps what caller's idempotency key led to.
func (t *Tx) PutRequest(caller, key string, r Request) error {
	_, err := t.exec(`INSERT INTO requests (caller, key, agent, run, made, at) VALUES ($1, $2, $3, $4, $5, $6)`, caller, key, r.Agent, r.Run, r.Made, t.now.UnixMilli())
	return err
}
