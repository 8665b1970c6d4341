package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/errand-dev/errand"
)

const runColumns = `id, agent, prompt, mode, status, phase, result, error, tokens_in, tokens_out, tokens_read, tokens_write, cancel_asked, build, created_at, started_at, ended_at, updated_at`

func scanRun(s scanner) (errand.Run, error) {
	var r errand.Run
	var prompt, failure string
	var created, started, ended, updated int64
	err := s.Scan(&r.ID, &r.Agent, &prompt, &r.Mode, &r.Status, &r.Phase, &r.Result, &failure,
		&r.Usage.Input, &r.Usage.Output, &r.Usage.CacheRead, &r.Usage.CacheWrite,
		&r.CancelAsked, &r.Build, &created, &started, &ended, &updated)
	if err != nil {
		return r, err
	}
	r.CreatedAt, r.StartedAt, r.EndedAt, r.UpdatedAt = fromMillis(created), fromMillis(started), fromMillis(ended), fromMillis(updated)
	if err := json.Unmarshal([]byte(prompt), &r.Prompt); err != nil {
		return r, fmt.Errorf("reading run %s: %w", r.ID, err)
	}
	if failure == "" {
		return r, nil
	}
	if err := json.Unmarshal([]byte(failure), &r.Error); err != nil {
		return r, fmt.Errorf("reading run %s: %w", r.ID, err)
	}
	return r, nil
}

// Run gives one run of agent, or a NotFound error.
func (q queries) Run(ctx context.Context, agent errand.AgentID, id errand.RunID) (errand.Run, error) {
	r, err := scanRun(q.db.QueryRowContext(ctx, `SELECT `+runColumns+` FROM runs WHERE id = $1 AND agent = $2`, id, agent))
	return r, notFound(err, "run_not_found", "Agent %s has no run %s.", agent, id)
}

// Runs gives an agent's runs, newest first: at most limit, made before the run
// before ("" for all). They come without their prompts' pictures, of which one
// list would otherwise hold gigabytes.
func (q queries) Runs(ctx context.Context, agent errand.AgentID, limit int, before errand.RunID) ([]errand.Run, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+runColumns+` FROM runs
		WHERE agent = $1 AND ($2 = '' OR number < COALESCE((SELECT number FROM runs WHERE id = $2 AND agent = $1), 0))
		ORDER BY number DESC LIMIT $3`, agent, before, limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (errand.Run, error) {
		r, err := scanRun(s)
		r.Prompt.Images = nil
		return r, err
	})
}

// Usages gives an agent's newest runs, at most limit, newest first, with nothing
// but ID and Usage.
func (q queries) Usages(ctx context.Context, agent errand.AgentID, limit int) ([]errand.Run, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT id, tokens_in, tokens_out, tokens_read, tokens_write FROM runs WHERE agent = $1 ORDER BY number DESC LIMIT $2`, agent, limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (r errand.Run, err error) {
		return r, s.Scan(&r.ID, &r.Usage.Input, &r.Usage.Output, &r.Usage.CacheRead, &r.Usage.CacheWrite)
	})
}

// BusyRuns gives an agent's runs that have not ended, oldest first.
func (q queries) BusyRuns(ctx context.Context, agent errand.AgentID) ([]errand.Run, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+runColumns+` FROM runs
		WHERE agent = $1 AND status IN ('queued', 'preparing', 'running') ORDER BY number`, agent)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanRun)
}

// InsertRun keeps a new run.
func (t *Tx) InsertRun(r errand.Run) error {
	prompt, err := json.Marshal(r.Prompt)
	if err != nil {
		return fmt.Errorf("writing run %s: %w", r.ID, err)
	}
	_, err = t.exec(`
		INSERT INTO runs (id, agent, number, prompt, mode, status, phase, result, error, tokens_in, tokens_out, tokens_read, tokens_write,
			cancel_asked, owner, lease_until, created_at, started_at, ended_at, updated_at)
		VALUES ($1, $2, (SELECT COALESCE(MAX(number), 0) + 1 FROM runs WHERE agent = $2), $3, $4, $5, '', '', '', 0, 0, 0, 0, 0, '', 0, $6, 0, 0, $6)`,
		r.ID, r.Agent, string(prompt), r.Mode, r.Status, millis(r.CreatedAt))
	return err
}

// UpdateRun writes what may change of a run: status, phase, result, error,
// usage, the wish to cancel, the build, and the times of start and end. It sets
// UpdatedAt.
func (t *Tx) UpdateRun(r errand.Run) error {
	failure := ""
	if r.Error != nil {
		b, err := json.Marshal(r.Error)
		if err != nil {
			return fmt.Errorf("writing run %s: %w", r.ID, err)
		}
		failure = string(b)
	}
	_, err := t.exec(`
		UPDATE runs SET status = $2, phase = $3, result = $4, error = $5, tokens_in = $6, tokens_out = $7, tokens_read = $8, tokens_write = $9,
			cancel_asked = $10, started_at = $11, ended_at = $12, updated_at = $13, build = $14 WHERE id = $1`,
		r.ID, r.Status, r.Phase, r.Result, failure, r.Usage.Input, r.Usage.Output, r.Usage.CacheRead, r.Usage.CacheWrite,
		r.CancelAsked, millis(r.StartedAt), millis(r.EndedAt), t.now.UnixMilli(), r.Build)
	return err
}
