package store

import (
	"context"
	"time"
)

// SignIn is a browser that a key let in. What its cookie holds is kept nowhere.
type SignIn struct {
	Hash      string // hex SHA-256 of the cookie's value
	Key       string // the key's id
	CreatedAt time.Time
	ExpiresAt time.Time
}

// KeyBySignIn gives the key behind a cookie with this hash, revoked or not. A
// sign-in that is not there, or that has expired, is NotFound.
func (q queries) KeyBySignIn(ctx context.Context, hash string, now time.Time) (Key, error) {
	k, err := scanKey(q.db.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM keys
		WHERE id = (SELECT key FROM sign_ins WHERE hash = $1 AND expires_at > $2)`, hash, now.UnixMilli()))
	return k, notFound(err, "sign_in_not_found", "This browser is not signed in.")
}

// InsertSignIn keeps a sign-in, and forgets those that have expired.
func (t *Tx) InsertSignIn(s SignIn) error {
	if _, err := t.exec(`DELETE FROM sign_ins WHERE expires_at <= $1`, t.now.UnixMilli()); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO sign_ins (hash, key, created_at, expires_at) VALUES ($1, $2, $3, $4)`,
		s.Hash, s.Key, millis(s.CreatedAt), millis(s.ExpiresAt))
	return err
}

// DeleteSignIn ends a sign-in. One that is not there is no error.
func (t *Tx) DeleteSignIn(hash string) error {
	_, err := t.exec(`DELETE FROM sign_ins WHERE hash = $1`, hash)
	return err
}
