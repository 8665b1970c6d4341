package store

import (
	"context"

	"github.com/errand-dev/errand"
)

// earlierColumns are those of secretColumns where the table of earlier values
// has them.
const earlierColumns = `id, '', '', name, kind, '[]', revision, 0, 0, kek, kek_version, data_key, sealed, wrapped_at`

// allSealed is every row that is sealed, as secretColumns.
const allSealed = `(SELECT ` + secretColumns + ` FROM secrets UNION ALL SELECT ` + earlierColumns + ` FROM earlier_secrets) AS s`

// inUse says whether there is still an agent, or an open build, whose machine was
// given the value that the row s is.
const inUse = `(
	EXISTS (SELECT 1 FROM secret_uses u JOIN agents a ON a.id = u.agent WHERE u.secret = s.id AND u.revision = s.revision) OR
	EXISTS (SELECT 1 FROM secret_uses u JOIN builds b ON b.id = u.build
		WHERE u.secret = s.id AND u.revision = s.revision AND b.status IN ('queued', 'running')))`

// keepEarlier keeps the value that a secret has now, which is about to give way to
// that of another revision (0: to none), where a machine has it.
func (t *Tx) keepEarlier(id errand.SecretID, next int64) error {
	_, err := t.exec(`
		INSERT INTO earlier_secrets (id, revision, name, kind, kek, kek_version, data_key, sealed, wrapped_at)
		SELECT id, revision, name, kind, kek, kek_version, data_key, sealed, wrapped_at FROM secrets s
		WHERE id = $1 AND revision <> $2 AND kind <> $3 AND `+inUse+`
		ON CONFLICT (id, revision) DO NOTHING`, id, next, errand.SecretVariable)
	return err
}

// dropEarlier removes the earlier values that no machine can have any more.
func (t *Tx) dropEarlier() error {
	_, err := t.exec(`DELETE FROM earlier_secrets AS s WHERE NOT ` + inUse)
	return err
}

// SecretsGiven gives the runtime and build secrets that an agent's or a build's
// machine was ever given ("" for none), each value once: those that hold now and
// earlier ones. What was deleted is among them.
func (q queries) SecretsGiven(ctx context.Context, agent errand.AgentID, build errand.BuildID) ([]SecretRow, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+secretColumns+` FROM `+allSealed+`
		WHERE kind <> $3 AND (
			$1 <> '' AND EXISTS (SELECT 1 FROM secret_uses u WHERE u.secret = s.id AND u.revision = s.revision AND u.agent = $1) OR
			$2 <> '' AND EXISTS (SELECT 1 FROM secret_uses u WHERE u.secret = s.id AND u.revision = s.revision AND u.build = $2))
		ORDER BY name, id, revision`, agent, build, errand.SecretVariable)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanSecret)
}

// AgentsGiven gives the agents that are there and were given a value, oldest
// first.
func (q queries) AgentsGiven(ctx context.Context, id errand.SecretID, revision int64) ([]errand.AgentID, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT id FROM agents WHERE id IN (SELECT agent FROM secret_uses WHERE secret = $1 AND revision = $2) ORDER BY number`, id, revision)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (id errand.AgentID, err error) { return id, s.Scan(&id) })
}
