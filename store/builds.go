package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/errand-dev/errand"
)

const buildColumns = `id, environment, version, status, reason, draft, forced, ref, failure, commits, disk_key, parts, snapshot, caller, agent, run,
	cancel_asked, created_at, started_at, ended_at, updated_at`

func scanBuild(s scanner) (errand.Build, error) {
	var b errand.Build
	var failure, commits, parts, caller string
	var created, started, ended, updated int64
	err := s.Scan(&b.ID, &b.Environment, &b.Version, &b.Status, &b.Trigger, &b.Draft, &b.Force, &b.Ref, &failure, &commits, &b.Key, &parts, &b.Snapshot,
		&caller, &b.Agent, &b.Run, &b.CancelAsked, &created, &started, &ended, &updated)
	if err != nil {
		return b, err
	}
	b.CreatedAt, b.StartedAt, b.EndedAt, b.UpdatedAt = fromMillis(created), fromMillis(started), fromMillis(ended), fromMillis(updated)
	for _, f := range []struct {
		text string
		to   any
	}{{failure, &b.Failure}, {commits, &b.Commits}, {parts, &b.Parts}, {caller, &b.Caller}} {
		if f.text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(f.text), f.to); err != nil {
			return b, fmt.Errorf("reading build %s: %w", b.ID, err)
		}
	}
	return b, nil
}

// Build gives one build of an environment, or a NotFound error.
func (q queries) Build(ctx context.Context, id errand.BuildID) (errand.Build, error) {
	b, err := scanBuild(q.db.QueryRowContext(ctx, `SELECT `+buildColumns+` FROM builds WHERE id = $1`, id))
	return b, notFound(err, "build_not_found", "There is no build %s. `errand build ls` shows which there are.", id)
}

// Builds gives an environment's builds, newest first: at most limit, made
// before the build before ("" for all).
func (q queries) Builds(ctx context.Context, environment errand.EnvironmentID, limit int, before errand.BuildID) ([]errand.Build, error) {
	return q.builds(ctx, `
		environment = $1 AND ($2 = '' OR number < COALESCE((SELECT number FROM builds WHERE id = $2 AND environment = $1), 0))
		ORDER BY number DESC LIMIT $3`, environment, before, limit)
}

// OpenBuilds gives all builds that have not ended, oldest first.
func (q queries) OpenBuilds(ctx context.Context) ([]errand.Build, error) {
	return q.builds(ctx, `status IN ('queued', 'running') ORDER BY number`)
}

// BuildsOfKey gives an environment's builds that succeeded for a key, newest
// first. Those that an agent asked for are not among them: a person decides
// whether they are used.
func (q queries) BuildsOfKey(ctx context.Context, environment errand.EnvironmentID, key string) ([]errand.Build, error) {
	return q.builds(ctx, `environment = $1 AND disk_key = $2 AND disk_key <> '' AND status = 'succeeded' AND reason <> 'AGENT' ORDER BY number DESC`, environment, key)
}

// BuildsOfRun gives the builds that came about within a run, oldest first.
// Those that its agent asked for are not among them.
func (q queries) BuildsOfRun(ctx context.Context, run errand.RunID) ([]errand.Build, error) {
	return q.builds(ctx, `run = $1 AND run <> '' AND reason <> 'AGENT' ORDER BY number`, run)
}

func (q queries) builds(ctx context.Context, where string, args ...any) ([]errand.Build, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT `+buildColumns+` FROM builds WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanBuild)
}

// InsertBuild keeps a new build.
func (t *Tx) InsertBuild(b errand.Build) error {
	f, err := buildJSON(b)
	if err != nil {
		return err
	}
	_, err = t.exec(`
		INSERT INTO builds (id, number, environment, version, status, reason, draft, forced, ref, failure, commits, disk_key, parts, snapshot, caller, agent, run,
			cancel_asked, last_seq, created_at, started_at, ended_at, updated_at)
		VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM builds), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 0, $18, $19, $20, $18)`,
		b.ID, b.Environment, b.Version, b.Status, b.Trigger, b.Draft, b.Force, b.Ref, f.failure, f.commits, b.Key, f.parts, b.Snapshot, f.caller, b.Agent, b.Run,
		b.CancelAsked, millis(b.CreatedAt), millis(b.StartedAt), millis(b.EndedAt))
	return err
}

// UpdateBuild writes what may change of a build: version, status, failure,
// commits, key and parts, snapshot, the wish to cancel, and the times of start
// and end. It sets UpdatedAt. With one that has ended the earlier values of secrets
// go that only it was given.
func (t *Tx) UpdateBuild(b errand.Build) error {
	f, err := buildJSON(b)
	if err != nil {
		return err
	}
	_, err = t.exec(`
		UPDATE builds SET version = $2, status = $3, failure = $4, commits = $5, disk_key = $6, parts = $7, snapshot = $8, cancel_asked = $9,
			started_at = $10, ended_at = $11, updated_at = $12 WHERE id = $1`,
		b.ID, b.Version, b.Status, f.failure, f.commits, b.Key, f.parts, b.Snapshot, b.CancelAsked,
		millis(b.StartedAt), millis(b.EndedAt), t.now.UnixMilli())
	if err != nil || !b.Status.Ended() {
		return err
	}
	return t.dropEarlier()
}

// buildTexts are a build's fields that are kept as JSON.
type buildTexts struct{ failure, commits, parts, caller string }

func buildJSON(b errand.Build) (buildTexts, error) {
	var f buildTexts
	for _, field := range []struct {
		v    any
		none bool
		to   *string
	}{
		{b.Failure, b.Failure == nil, &f.failure}, {b.Commits, len(b.Commits) == 0, &f.commits},
		{b.Parts, len(b.Parts) == 0, &f.parts}, {b.Caller, false, &f.caller},
	} {
		if field.none {
			continue
		}
		text, err := json.Marshal(field.v)
		if err != nil {
			return f, fmt.Errorf("writing build %s: %w", b.ID, err)
		}
		*field.to = string(text)
	}
	return f, nil
}
