package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/errand-dev/errand"
)

func scanEvent(s scanner) (errand.Event, error) {
	var e errand.Event
	var at int64
	var data string
	if err := s.Scan(&e.Agent, &e.Seq, &e.Run, &at, &e.Kind, &data); err != nil {
		return e, err
	}
	e.Time, e.Data = fromMillis(at), json.RawMessage(data)
	return e, nil
}

// Events gives an agent's events after a number, oldest first, at most limit.
func (q queries) Events(ctx context.Context, agent errand.AgentID, after errand.Seq, limit int) ([]errand.Event, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT agent, seq, run, time, kind, data FROM events WHERE agent = $1 AND seq > $2 ORDER BY seq LIMIT $3`, agent, after, limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanEvent)
}

// AppendEvents numbers events (their Seq is set here), gives them the
// transaction's time and keeps them. All are of one agent, which must exist.
func (t *Tx) AppendEvents(agent errand.AgentID, events []errand.Event) error {
	var last errand.Seq
	err := t.tx.QueryRowContext(t.ctx, `UPDATE agents SET last_seq = last_seq + $2, updated_at = $3 WHERE id = $1 RETURNING last_seq`,
		agent, len(events), t.now.UnixMilli()).Scan(&last)
	if err != nil {
		return notFound(diskError(err), "agent_not_found", "There is no agent %s.", agent)
	}
	first := last - errand.Seq(len(events)) + 1
	for i := range events {
		e := &events[i]
		e.Agent, e.Seq, e.Time = agent, first+errand.Seq(i), t.now
		if _, err := t.exec(`INSERT INTO events (agent, seq, run, time, kind, data) VALUES ($1, $2, $3, $4, $5, $6)`,
			e.Agent, e.Seq, e.Run, e.Time.UnixMilli(), e.Kind, string(e.Data)); err != nil {
			return fmt.Errorf("keeping an event of %s: %w", agent, err)
		}
	}
	return nil
}
