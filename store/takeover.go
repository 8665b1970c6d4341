package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/errand-dev/errand"
)

// aside is the end of the lease of a run that is set aside: never.
const aside = math.MaxInt64

// PutTakeover keeps who has an agent in hand, nil for nobody. It sets UpdatedAt.
func (t *Tx) PutTakeover(id errand.AgentID, held *errand.Takeover) error {
	text, number := "", 0
	if held != nil {
		b, err := json.Marshal(held)
		if err != nil {
			return fmt.Errorf("writing the take-over of agent %s: %w", id, err)
		}
		text, number = string(b), held.Number
	}
	_, err := t.exec(`UPDATE agents SET takeover = $2, takeovers = CASE WHEN takeovers < $3 THEN $3 ELSE takeovers END, updated_at = $4 WHERE id = $1`, id, text, number, t.now.UnixMilli())
	return err
}

// TakenOver gives the agents that somebody has in hand.
func (q queries) TakenOver(ctx context.Context) ([]errand.AgentID, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT id FROM agents WHERE takeover <> '' ORDER BY id`)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (id errand.AgentID, err error) { return id, s.Scan(&id) })
}

// SetAside gives a run back, and nobody may have it before TakeUp.
func (t *Tx) SetAside(run errand.RunID) error {
	_, err := t.exec(`UPDATE runs SET owner = '', lease_until = $2 WHERE id = $1`, run, int64(aside))
	return err
}

// TakeUp lets go on what was set aside of an agent's runs.
func (t *Tx) TakeUp(agent errand.AgentID) error {
	_, err := t.exec(`UPDATE runs SET lease_until = 0 WHERE agent = $1 AND lease_until = $2`, agent, int64(aside))
	return err
}

// LastSeq is the number of an agent's newest event.
func (q queries) LastSeq(ctx context.Context, id errand.AgentID) (last errand.Seq, err error) {
	err = q.db.QueryRowContext(ctx, `SELECT last_seq FROM agents WHERE id = $1`, id).Scan(&last)
	return last, notFound(err, "agent_not_found", "There is no agent %s.", id)
}
