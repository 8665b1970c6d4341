package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/errand-dev/errand"
)

func scanEvent(s scanner) (errand.Event, error) {
	var e errand.Event
	var at int64
	var subject, data string
	if err := s.Scan(&subject, &e.Seq, &e.Run, &at, &e.Kind, &data); err != nil {
		return e, err
	}
	e.Time, e.Data = fromMillis(at), json.RawMessage(data)
	switch {
	case strings.HasPrefix(subject, "bld-"):
		e.Build = errand.BuildID(subject)
	case strings.HasPrefix(subject, "set-"):
		e.Setup = errand.SetupID(subject)
	default:
		e.Agent = errand.AgentID(subject)
	}
	return e, nil
}

// Events gives a journal's events after a number, oldest first, at most limit.
func (q queries) Events(ctx context.Context, of errand.Subject, after errand.Seq, limit int) ([]errand.Event, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT subject, seq, run, time, kind, data FROM events WHERE subject = $1 AND seq > $2 ORDER BY seq LIMIT $3`, of.Journal(), after, limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanEvent)
}

// HasSubject says whether the agent, build or setup is there whose journal is asked
// for.
func (q queries) HasSubject(ctx context.Context, of errand.Subject) (bool, error) {
	var there bool
	err := q.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM agents WHERE id = $1) OR EXISTS (SELECT 1 FROM builds WHERE id = $1)
		OR EXISTS (SELECT 1 FROM setups WHERE id = $1)`, of.Journal()).Scan(&there)
	return there, err
}

// AppendEvents numbers events (their Seq is set here), gives them the
// transaction's time and keeps them. All are of one subject, which must exist.
func (t *Tx) AppendEvents(of errand.Subject, events []errand.Event) error {
	var table, code string
	var about errand.Event
	switch id := of.(type) {
	case errand.AgentID:
		table, code, about.Agent = "agents", "agent_not_found", id
	case errand.BuildID:
		table, code, about.Build = "builds", "build_not_found", id
	case errand.SetupID:
		table, code, about.Setup = "setups", "setup_not_found", id
	default:
		return fmt.Errorf("keeping an event: a %T has no journal", of)
	}
	var last errand.Seq
	err := t.tx.QueryRowContext(t.ctx, `UPDATE `+table+` SET last_seq = last_seq + $2, updated_at = $3 WHERE id = $1 RETURNING last_seq`,
		of.Journal(), len(events), t.now.UnixMilli()).Scan(&last)
	if err != nil {
		return notFound(diskError(err), code, "There is no %s.", of.Journal())
	}
	first := last - errand.Seq(len(events)) + 1
	for i := range events {
		e := &events[i]
		e.Agent, e.Build, e.Setup, e.Seq, e.Time = about.Agent, about.Build, about.Setup, first+errand.Seq(i), t.now
		if _, err := t.exec(`INSERT INTO events (subject, seq, run, time, kind, data) VALUES ($1, $2, $3, $4, $5, $6)`,
			of.Journal(), e.Seq, e.Run, e.Time.UnixMilli(), e.Kind, string(e.Data)); err != nil {
			return fmt.Errorf("keeping an event of %s: %w", of.Journal(), err)
		}
	}
	return nil
}
