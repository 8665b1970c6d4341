package store

import (
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
	err := q.db.QueryRowContext(ctx, `
		SELECT COALESCE(SUM(tokens_in), 0), COALESCE(SUM(tokens_out), 0), COALESCE(SUM(tokens_read), 0), COALESCE(SUM(tokens_write), 0),
			COALESCE(MAX(CASE WHEN id = $2 THEN phase END), '')
		FROM runs WHERE agent = $1`, g.ID, g.LatestRun).Scan(&u.Input, &u.Output, &u.CacheRead, &u.CacheWrite, &g.Phase)
	if err != nil {
		return err
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
