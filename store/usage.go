package store

import (
	"context"
	"fmt"
	"time"

	"github.com/errand-dev/errand"
)

// day is the unit in which usage is kept.
const day = 24 * time.Hour

// AddUsage adds up what was used now. Of what, its Usage, Cost and Machine count;
// where Machine is set, it is the time that ended now, which may reach back over
// midnight.
func (t *Tx) AddUsage(of errand.UsageOf, what errand.Spent) error {
	if err := t.addUsage(t.now.Unix()/int64(day/time.Second), of, what, 0); err != nil {
		return err
	}
	for from, until := t.now.Add(-what.Machine), t.now; from.Before(until); {
		began := until.Add(-time.Millisecond).Truncate(day) // of the day that ends with until, or has it
		if began.Before(from) {
			began = from
		}
		if err := t.addUsage(began.Unix()/int64(day/time.Second), of, errand.Spent{}, until.Sub(began)); err != nil {
			return err
		}
		until = began
	}
	return nil
}

func (t *Tx) addUsage(on int64, of errand.UsageOf, what errand.Spent, machine time.Duration) error {
	u := what.Usage
	if u == (errand.Usage{}) && machine == 0 {
		return nil
	}
	_, err := t.exec(`
		INSERT INTO usage (day, model, repository, person, tokens_in, tokens_out, tokens_read, tokens_write, unpriced, cost, machine_ms)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (day, model, repository, person) DO UPDATE SET
			tokens_in = usage.tokens_in + excluded.tokens_in, tokens_out = usage.tokens_out + excluded.tokens_out,
			tokens_read = usage.tokens_read + excluded.tokens_read, tokens_write = usage.tokens_write + excluded.tokens_write,
			unpriced = usage.unpriced + excluded.unpriced, cost = usage.cost + excluded.cost, machine_ms = usage.machine_ms + excluded.machine_ms`,
		on, of.Model, of.Repository, of.Person, u.Input, u.Output, u.CacheRead, u.CacheWrite, what.Unpriced, what.Cost, machine.Milliseconds())
	return err
}

// StartMeter begins to count an agent's machine's time. What is counted already
// goes on, unless the machine began anew: then it is not known when it ended, and
// what was not added up is lost.
func (t *Tx) StartMeter(agent errand.AgentID, anew bool) error {
	_, err := t.exec(`UPDATE machines SET metered_at = $2 WHERE agent = $1 AND (metered_at = 0 OR $3)`, agent, t.now.UnixMilli(), anew)
	return err
}

// MeterMachine gives how long an agent's machine has run since it was asked last,
// and counts on from now; without running it ends there. It is 0 for a machine
// whose time is not counted, or that is not there.
func (t *Tx) MeterMachine(agent errand.AgentID, running bool) (time.Duration, error) {
	var from int64
	err := t.tx.QueryRowContext(t.ctx, `SELECT COALESCE(MAX(metered_at), 0) FROM machines WHERE agent = $1`, agent).Scan(&from)
	if err != nil {
		return 0, fmt.Errorf("reading a machine's time: %w", err)
	}
	if from == 0 {
		return 0, nil
	}
	next := int64(0)
	if running {
		next = t.now.UnixMilli()
	}
	_, err = t.exec(`UPDATE machines SET metered_at = $2 WHERE agent = $1`, agent, next)
	return max(0, t.now.Sub(fromMillis(from))), err
}

// UsageQuery asks for usage over time.
type UsageQuery struct {
	From, To time.Time // the first and the last day, whole days of UTC
	Weeks    bool      // in weeks, which begin on Monday; else in days
	By       string    // "model", "repository", "person"; "" is all in one
	Most     int       // so many names have figures of their own; the others are one
}

// usageBy is the column that each way to part usage goes by.
var usageBy = map[string]string{"": "''", "model": "model", "repository": "repository", "person": "person"}

// Usage gives what was used in each day or week, in order. Time in which nothing
// was used is left out. The names with the most tokens, and then with the most
// machine time, have figures of their own.
func (q queries) Usage(ctx context.Context, query UsageQuery) ([]errand.UsageIn, error) {
	column, ok := usageBy[query.By]
	if !ok {
		return nil, fmt.Errorf("usage is not kept by %q", query.By)
	}
	start := "day"
	if query.Weeks {
		start = "day - (day + 3) % 7" // day 0 was a Thursday
	}
	rows, err := q.db.QueryContext(ctx, `
		WITH asked AS (SELECT `+start+` AS start, `+column+` AS name, tokens_in, tokens_out, tokens_read, tokens_write, unpriced, cost, machine_ms
				FROM usage WHERE day BETWEEN $1 AND $2),
			most AS (SELECT name FROM asked GROUP BY name
				ORDER BY SUM(tokens_in + tokens_out + tokens_read + tokens_write) DESC, SUM(machine_ms) DESC, name LIMIT $3),
			named AS (SELECT asked.*, name IN (SELECT name FROM most) AS own FROM asked)
		SELECT start, CASE WHEN own THEN name ELSE '' END AS shown, NOT own, SUM(tokens_in), SUM(tokens_out), SUM(tokens_read), SUM(tokens_write), SUM(unpriced), SUM(cost), SUM(machine_ms)
		FROM named GROUP BY start, shown, own ORDER BY start, own DESC, shown`,
		query.From.Unix()/int64(day/time.Second), query.To.Unix()/int64(day/time.Second), query.Most)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (u errand.UsageIn, err error) {
		var start, ms int64
		err = s.Scan(&start, &u.Name, &u.Others, &u.Usage.Input, &u.Usage.Output, &u.Usage.CacheRead, &u.Usage.CacheWrite, &u.Unpriced, &u.Cost, &ms)
		u.Start, u.Machine = time.Unix(start*int64(day/time.Second), 0).UTC(), time.Duration(ms)*time.Millisecond
		return u, err
	})
}
