package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/errand-dev/errand"
)

const agentColumns = `id, name, status, caller, repositories, branch, base, pushed, settings, latest_run, environment, version, build, takeover, takeovers, created_at, updated_at,
	COALESCE((SELECT r.status FROM runs r WHERE r.id = latest_run), '')`

// scanner is a row or rows.
type scanner interface{ Scan(...any) error }

func scanAgent(s scanner) (errand.Agent, error) {
	var a errand.Agent
	var caller, repositories, settings, takeover string
	var created, updated int64
	err := s.Scan(&a.ID, &a.Name, &a.Status, &caller, &repositories, &a.Branch, &a.Base, &a.Pushed, &settings, &a.LatestRun,
		&a.Environment, &a.Version, &a.Build, &takeover, &a.Takeovers, &created, &updated, &a.LatestStatus)
	if err != nil {
		return a, err
	}
	a.CreatedAt, a.UpdatedAt = fromMillis(created), fromMillis(updated)
	for _, f := range []struct {
		text string
		to   any
	}{{caller, &a.Caller}, {repositories, &a.Repositories}, {settings, &a.Settings}, {cmp.Or(takeover, "null"), &a.Takeover}} {
		if err := json.Unmarshal([]byte(f.text), f.to); err != nil {
			return a, fmt.Errorf("reading agent %s: %w", a.ID, err)
		}
	}
	return a, nil
}

// collect reads all rows and closes them.
func collect[T any](rows *sql.Rows, scan func(scanner) (T, error)) ([]T, error) {
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// Agent gives one agent, or a NotFound error.
func (q queries) Agent(ctx context.Context, id errand.AgentID) (errand.Agent, error) {
	a, err := scanAgent(q.db.QueryRowContext(ctx, `SELECT `+agentColumns+` FROM agents WHERE id = $1`, id))
	return a, notFound(err, "agent_not_found", "There is no agent %s. `errand ls` shows which there are.", id)
}

// AgentQuery chooses agents.
type AgentQuery struct {
	Limit           int    // at most so many
	Cursor          string // from the page before; "" for the first
	IncludeArchived bool
}

// Agents gives a page of agents, newest first, and the cursor of the next one (""
// on the last). A cursor that is none is an Invalid error.
func (q queries) Agents(ctx context.Context, query AgentQuery) ([]errand.Agent, string, error) {
	before, err := parseCursor(query.Cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := q.db.QueryContext(ctx, `
		SELECT number, `+agentColumns+` FROM agents
		WHERE ($1 = 0 OR number < $1)
		  AND ($2 OR status <> 'archived')
		ORDER BY number DESC LIMIT $3`, before, query.IncludeArchived, query.Limit+1)
	if err != nil {
		return nil, "", err
	}
	return page(rows, query.Limit, scanAgent)
}

// InsertAgent keeps a new agent with its sealed variables ("" for none). An id
// that is there already is a Conflict.
func (t *Tx) InsertAgent(a errand.Agent, env string) error {
	caller, repositories, settings, err := agentJSON(a)
	if err != nil {
		return err
	}
	_, err = t.exec(`
		INSERT INTO agents (id, number, name, status, caller, repositories, branch, base, pushed, settings, env, latest_run, last_seq, created_at, updated_at)
		VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM agents), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, $13)`,
		a.ID, a.Name, a.Status, caller, repositories, a.Branch, a.Base, a.Pushed, settings, env, a.LatestRun, millis(a.CreatedAt), millis(a.UpdatedAt))
	if conflicts(err) {
		return errand.Errorf(errand.Conflict, "agent_id_conflict", "Agent %s exists already.", a.ID)
	}
	return err
}

func agentJSON(a errand.Agent) (caller, repositories, settings string, err error) {
	var out [3]string
	for i, v := range []any{a.Caller, a.Repositories, a.Settings} {
		b, err := json.Marshal(v)
		if err != nil {
			return "", "", "", fmt.Errorf("writing agent %s: %w", a.ID, err)
		}
		out[i] = string(b)
	}
	return out[0], out[1], out[2], nil
}

// UpdateAgent writes what may change of an agent: its name, status, settings,
// branch, base, pushed commit, latest run, and what its machine was made from; its
// take-over is PutTakeover's. It sets UpdatedAt.
func (t *Tx) UpdateAgent(a errand.Agent) error {
	_, _, settings, err := agentJSON(a)
	if err != nil {
		return err
	}
	_, err = t.exec(`UPDATE agents SET name = $2, status = $3, branch = $4, base = $5, pushed = $6, latest_run = $7,
			environment = $8, version = $9, build = $10, settings = $11, updated_at = $12 WHERE id = $1`,
		a.ID, a.Name, a.Status, a.Branch, a.Base, a.Pushed, a.LatestRun, a.Environment, a.Version, a.Build, settings, t.now.UnixMilli())
	return err
}

// DeleteAgent removes an agent with its runs, events and requests, and the earlier
// values of secrets that only it was given. Its machine's row stays, without an
// owner, until the machine is destroyed.
func (t *Tx) DeleteAgent(id errand.AgentID) error {
	// The agent goes first: its events may not be deleted while it is there.
	for _, q := range []string{
		`DELETE FROM agents WHERE id = $1`,
		`DELETE FROM events WHERE subject = $1`,
		`DELETE FROM runs WHERE agent = $1`,
		`DELETE FROM requests WHERE agent = $1`,
		`DELETE FROM secrets WHERE scope = 'agent' AND owner = $1`,
	} {
		if _, err := t.exec(q, id); err != nil {
			return fmt.Errorf("deleting agent %s: %w", id, err)
		}
	}
	return t.dropEarlier()
}

// AgentEnv gives an agent's sealed variables, "" for none.
func (q queries) AgentEnv(ctx context.Context, id errand.AgentID) (string, error) {
	var env string
	err := q.db.QueryRowContext(ctx, `SELECT env FROM agents WHERE id = $1`, id).Scan(&env)
	return env, notFound(err, "agent_not_found", "There is no agent %s.", id)
}
