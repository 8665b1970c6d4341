package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/errand-dev/errand"
)

// Sealed is a value under its own data key, and that key wrapped by a
// key-encryption key.
type Sealed struct {
	KEK     string // which key-encryption key
	Version string // of it; "" where it tells none
	DataKey string // wrapped, base64
	Value   string // sealed, base64
}

// SecretRow is a secret with what it is sealed in, or a value that one had before.
type SecretRow struct {
	errand.Secret
	Sealed
	WrappedAt time.Time
}

// Earlier says whether the row is a value that the secret had before. Of such a
// one only id, name, kind and revision are known.
func (r SecretRow) Earlier() bool { return r.Scope == "" }

const secretColumns = `id, scope, owner, name, kind, repositories, revision, created_at, updated_at, kek, kek_version, data_key, sealed, wrapped_at`

func scanSecret(s scanner) (SecretRow, error) {
	var r SecretRow
	var repositories string
	var created, updated, wrapped int64
	err := s.Scan(&r.ID, &r.Scope, &r.Owner, &r.Name, &r.Kind, &repositories, &r.Revision, &created, &updated,
		&r.KEK, &r.Version, &r.DataKey, &r.Value, &wrapped)
	if err != nil {
		return r, err
	}
	r.CreatedAt, r.UpdatedAt, r.WrappedAt = fromMillis(created), fromMillis(updated), fromMillis(wrapped)
	if err := json.Unmarshal([]byte(repositories), &r.Repositories); err != nil {
		return r, fmt.Errorf("reading secret %s: %w", r.ID, err)
	}
	return r, nil
}

// Secret gives one secret of an owner by its name, without regard to case, or a
// NotFound error.
func (q queries) Secret(ctx context.Context, scope errand.Scope, owner, name string) (SecretRow, error) {
	r, err := scanSecret(q.db.QueryRowContext(ctx, `SELECT `+secretColumns+` FROM secrets WHERE scope = $1 AND owner = $2 AND folded = $3`,
		scope, owner, strings.ToLower(name)))
	return r, notFound(err, "secret_not_found", "There is no secret %q of this %s. `errand secret ls` shows which there are.", name, scope)
}

// SecretByID gives one secret, or a NotFound error.
func (q queries) SecretByID(ctx context.Context, id errand.SecretID) (SecretRow, error) {
	r, err := scanSecret(q.db.QueryRowContext(ctx, `SELECT `+secretColumns+` FROM secrets WHERE id = $1`, id))
	return r, notFound(err, "secret_not_found", "There is no secret %.80s. `errand secret ls` shows which there are.", id)
}

// Secrets gives all secrets of an owner, by name.
func (q queries) Secrets(ctx context.Context, scope errand.Scope, owner string) ([]SecretRow, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT `+secretColumns+` FROM secrets WHERE scope = $1 AND owner = $2 ORDER BY folded`, scope, owner)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanSecret)
}

// SecretsOfScope gives all secrets of a scope, whoever owns them, by owner and
// name.
func (q queries) SecretsOfScope(ctx context.Context, scope errand.Scope) ([]SecretRow, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT `+secretColumns+` FROM secrets WHERE scope = $1 ORDER BY owner, folded`, scope)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanSecret)
}

// CountSecrets says how many secrets an owner has.
func (q queries) CountSecrets(ctx context.Context, scope errand.Scope, owner string) (n int, err error) {
	err = q.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM secrets WHERE scope = $1 AND owner = $2`, scope, owner).Scan(&n)
	return n, err
}

// PutSecret keeps a secret, new or in place of the one with its id, whose value
// stays known where a machine has it (SecretsGiven).
func (t *Tx) PutSecret(r SecretRow) error {
	repositories, err := json.Marshal(append([]string{}, r.Repositories...))
	if err != nil {
		return fmt.Errorf("writing secret %s: %w", r.ID, err)
	}
	if err := t.keepEarlier(r.ID, r.Revision); err != nil {
		return err
	}
	_, err = t.exec(`
		INSERT INTO secrets (`+secretColumns+`, folded) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, kind = excluded.kind, repositories = excluded.repositories,
			revision = excluded.revision, updated_at = excluded.updated_at, kek = excluded.kek, kek_version = excluded.kek_version,
			data_key = excluded.data_key, sealed = excluded.sealed, wrapped_at = excluded.wrapped_at`,
		r.ID, r.Scope, r.Owner, r.Name, r.Kind, string(repositories), r.Revision, millis(r.CreatedAt), millis(r.UpdatedAt),
		r.KEK, r.Version, r.DataKey, r.Value, millis(r.WrappedAt), strings.ToLower(r.Name))
	return err
}

// DeleteSecret removes a secret. What is on record of its uses stays, and its value
// stays known where a machine has it (SecretsGiven). To delete again is no error.
func (t *Tx) DeleteSecret(id errand.SecretID) error {
	if err := t.keepEarlier(id, 0); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM secrets WHERE id = $1`, id)
	return err
}

// SecretsWrappedBefore gives at most limit secrets, earlier values among them,
// whose data key was wrapped before a time, or by another key than kek in version
// ("" is any of its versions); the oldest first.
func (q queries) SecretsWrappedBefore(ctx context.Context, before time.Time, kek, version string, limit int) ([]SecretRow, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+secretColumns+` FROM `+allSealed+`
		WHERE wrapped_at < $1 OR kek <> $2 OR $3 <> '' AND kek_version <> $3
		ORDER BY wrapped_at, id, revision LIMIT $4`, millis(before), kek, version, limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanSecret)
}

// Rewrap puts a data key that was wrapped anew in the place of the one that r
// was read with, also where that value became an earlier one meanwhile. One that
// is gone, or was wrapped anew by somebody else, is left as it is.
func (t *Tx) Rewrap(r SecretRow, s Sealed) error {
	for _, q := range []string{
		`UPDATE secrets SET kek = $3, kek_version = $4, data_key = $5, wrapped_at = $6 WHERE id = $1 AND data_key = $2`,
		`UPDATE earlier_secrets SET kek = $3, kek_version = $4, data_key = $5, wrapped_at = $6 WHERE id = $1 AND data_key = $2`,
	} {
		if _, err := t.exec(q, r.ID, r.DataKey, s.KEK, s.Version, s.DataKey, t.now.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// KeyCount says how many values one version of a key-encryption key wraps: those
// of secrets, and earlier ones.
type KeyCount struct {
	KEK     string `json:"kek"`
	Version string `json:"version,omitempty"`
	Secrets int    `json:"secrets"`
}

// KeyCounts says which key-encryption keys are needed, and for how much.
func (q queries) KeyCounts(ctx context.Context) ([]KeyCount, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT kek, kek_version, COUNT(*) FROM `+allSealed+` GROUP BY kek, kek_version ORDER BY kek, kek_version`)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (c KeyCount, err error) { return c, s.Scan(&c.KEK, &c.Version, &c.Secrets) })
}

// AgentsWithEnv gives agents whose variables are sealed in their own row, as
// they were before secrets had rows.
func (q queries) AgentsWithEnv(ctx context.Context, limit int) ([]errand.AgentID, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT id FROM agents WHERE env <> '' ORDER BY number LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (id errand.AgentID, err error) { return id, s.Scan(&id) })
}

// CountAgentsWithEnv says how many agents AgentsWithEnv would give.
func (q queries) CountAgentsWithEnv(ctx context.Context) (n int, err error) {
	err = q.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM agents WHERE env <> ''`).Scan(&n)
	return n, err
}

// ClearAgentEnv empties an agent's own sealed variables.
func (t *Tx) ClearAgentEnv(id errand.AgentID) error {
	_, err := t.exec(`UPDATE agents SET env = '' WHERE id = $1`, id)
	return err
}

// PutSecretUses keeps uses and gives those that were not on record yet. A use
// is on record once for each revision, agent, run and build. Where the value is
// not known any more, so that nothing could hide it later, it is a Conflict of
// code SecretChanged: open the secrets again.
func (t *Tx) PutSecretUses(uses []errand.SecretUse) ([]errand.SecretUse, error) {
	var fresh []errand.SecretUse
	for _, u := range uses {
		u.At = t.now
		n, err := t.exec(`
			INSERT INTO secret_uses (secret, revision, agent, run, build, scope, name, kind, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (secret, revision, agent, run, build) DO NOTHING`,
			u.Secret, u.Revision, u.Agent, u.Run, u.Build, u.Scope, u.Name, u.Kind, millis(u.At))
		if err != nil {
			return nil, err
		}
		if n == 0 {
			continue
		}
		var known bool
		err = t.db.QueryRowContext(t.ctx, `SELECT EXISTS (SELECT 1 FROM secrets WHERE id = $1 AND revision = $2)
			OR EXISTS (SELECT 1 FROM earlier_secrets WHERE id = $1 AND revision = $2)`, u.Secret, u.Revision).Scan(&known)
		if err != nil {
			return nil, err
		}
		if !known && u.Kind != errand.SecretVariable {
			return nil, errand.Errorf(errand.Conflict, SecretChanged, "The secret %s was changed while a machine was about to be given it. Try again.", u.Name)
		}
		fresh = append(fresh, u)
	}
	return fresh, nil
}

// SecretChanged is the code of an error that says that a secret has another value
// than the one that was read.
const SecretChanged = "secret_changed"

// LastSecretUse says when a secret was last given out; zero: never.
func (q queries) LastSecretUse(ctx context.Context, id errand.SecretID) (time.Time, error) {
	var at int64
	err := q.db.QueryRowContext(ctx, `SELECT COALESCE(MAX(at), 0) FROM secret_uses WHERE secret = $1`, id).Scan(&at)
	return fromMillis(at), err
}

// SecretUses gives at most limit uses of a secret, newest first, those before
// an offset left out.
func (q queries) SecretUses(ctx context.Context, id errand.SecretID, limit, offset int) ([]errand.SecretUse, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT secret, revision, agent, run, build, scope, name, kind, at FROM secret_uses
		WHERE secret = $1 ORDER BY at DESC, agent, run, build LIMIT $2 OFFSET $3`, id, limit, offset)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (errand.SecretUse, error) {
		var u errand.SecretUse
		var at int64
		err := s.Scan(&u.Secret, &u.Revision, &u.Agent, &u.Run, &u.Build, &u.Scope, &u.Name, &u.Kind, &at)
		u.At = fromMillis(at)
		return u, err
	})
}
