package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/errand-dev/errand"
)

// telling are the kinds of events that say in a line what an agent does.
const telling = `'text', 'tool.called', 'phase.started', 'notice', 'run.status'`

// Changed gives agents of which something was written at since or later, the
// longest ago first, at most limit.
func (q queries) Changed(ctx context.Context, since time.Time, limit int) ([]errand.Glance, error) {
	return q.glances(ctx, `WHERE updated_at >= $1 ORDER BY updated_at LIMIT $2`, since.UnixMilli(), limit)
}

// Glance gives one agent as lists show it, or a NotFound error.
func (q queries) Glance(ctx context.Context, id errand.AgentID) (errand.Glance, error) {
	all, err := q.glances(ctx, `WHERE id = $1`, id)
	if err == nil && len(all) == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return errand.Glance{}, notFound(err, "agent_not_found", "There is no agent %s.", id)
	}
	return all[0], nil
}

func (q queries) glances(ctx context.Context, which string, args ...any) ([]errand.Glance, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT `+agentColumns+` FROM agents `+which, args...)
	if err != nil {
		return nil, err
	}
	agents, err := collect(rows, scanAgent)
	if err != nil {
		return nil, err
	}
	all := make([]errand.Glance, len(agents))
	for i, a := range agents {
		all[i].Agent = a
		if err := q.glance(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// glance fills in what is not in the agent's own row.
func (q queries) glance(ctx context.Context, g *errand.Glance) error {
	u := &g.Usage
	var under, begun errand.RunStatus
	err := q.db.QueryRowContext(ctx, `
		SELECT COALESCE(SUM(tokens_in), 0), COALESCE(SUM(tokens_out), 0), COALESCE(SUM(tokens_read), 0), COALESCE(SUM(tokens_write), 0),
			COALESCE(MAX(CASE WHEN status IN ('preparing', 'running') THEN status END), ''),
			COALESCE(MAX(CASE WHEN status IN ('preparing', 'running') THEN phase END), ''),
			COUNT(CASE WHEN status = 'queued' THEN 1 END),
			COALESCE((SELECT b.status FROM runs b WHERE b.agent = $1 AND b.started_at > 0 ORDER BY b.number DESC LIMIT 1), '')
		FROM runs WHERE agent = $1`, g.ID).Scan(&u.Input, &u.Output, &u.CacheRead, &u.CacheWrite, &under, &g.Phase, &g.Waiting, &begun)
	if err != nil {
		return err
	}
	switch {
	case under != "":
		g.State = under
	case g.Waiting > 0:
		g.State = errand.RunQueued
		g.Waiting--
	default:
		g.State = cmp.Or(begun, g.LatestStatus)
	}
	// Only among the newest: a list need not read a long journal.
	g.Last, err = scanEvent(q.db.QueryRowContext(ctx, `
		SELECT subject, seq, run, time, kind, data FROM (
			SELECT * FROM events WHERE subject = $1 ORDER BY seq DESC LIMIT 40
		) AS newest WHERE kind IN (`+telling+`) ORDER BY seq DESC LIMIT 1`, g.ID))
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}
