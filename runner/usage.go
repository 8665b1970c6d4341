package runner

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/store"
)

// meterEvery is how old what is known of a running machine's time may be, and so
// how much of it is lost when the host goes down.
const meterEvery = time.Minute

// UsageQuery asks for usage over time.
type UsageQuery = store.UsageQuery

// UsageOver gives what was used in each day or week.
func (r *Runner) UsageOver(ctx context.Context, _ errand.Caller, q UsageQuery) ([]errand.UsageIn, error) {
	return r.Store.Usage(ctx, q)
}

// spent prices one request to a model.
func spent(entry llm.Entry, u errand.Usage) errand.Spent {
	s := errand.Spent{Usage: u}
	if p := entry.Prices; p.Input == 0 && p.Output == 0 && p.CacheRead == 0 && p.CacheWrite == 0 {
		s.Unpriced = u.Total()
	} else {
		s.Cost = int64(math.Round(p.Cost(u) * 1e9))
	}
	return s
}

// spend adds what facts say was used of a model to the usage.
func spend(t *store.Tx, of errand.UsageOf, entry llm.Entry, facts []errand.Fact) error {
	of.Model = entry.ID
	for _, f := range facts {
		var used errand.Usage
		switch d := f.Data.(type) {
		case errand.TurnEnded:
			used = d.Usage
		case errand.Compacted:
			used = d.Usage
		}
		if err := t.AddUsage(of, spent(entry, used)); err != nil {
			return err
		}
	}
	return nil
}

// usageOf says for what an agent uses something, but for the model.
func usageOf(agent errand.Agent) errand.UsageOf {
	of := errand.UsageOf{Person: agent.Caller.Person()}
	if len(agent.Repositories) > 0 {
		of.Repository = agent.Repositories[0].URL
	}
	return of
}

// meter adds the time that an agent's machine ran to the usage, up to now. Without
// running the machine has stopped.
func (r *Runner) meter(ctx context.Context, t *store.Tx, id errand.AgentID, running bool) error {
	ran, err := t.MeterMachine(id, running)
	if err != nil || ran == 0 {
		return err
	}
	agent, err := t.Agent(ctx, id)
	if err != nil {
		return err
	}
	of := usageOf(agent)
	of.Model = cmp.Or(agent.Settings.Model.ID, r.Models.Default)
	if entry, err := r.Models.Catalog.Find(of.Model); err == nil {
		of.Model = entry.ID // not one of its other names
	}
	return t.AddUsage(of, errand.Spent{Machine: ran})
}

// meterRunning meters all machines that run, until ctx ends.
func (r *Runner) meterRunning(ctx context.Context) {
	tick := time.NewTicker(meterEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := r.meterNow(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn("cannot add up how long machines run", "error", err)
		}
	}
}

func (r *Runner) meterNow(ctx context.Context) error {
	r.mu.Lock()
	var up []errand.AgentID
	for id, p := range r.places {
		if p.now().machine != nil {
			up = append(up, id)
		}
	}
	r.mu.Unlock()
	if len(up) == 0 {
		return nil
	}
	return r.Store.Write(ctx, func(t *store.Tx) error {
		for _, id := range up {
			row, err := t.Machine(ctx, id)
			if errand.KindOf(err) == errand.NotFound || err == nil && row.State != store.MachineWanted {
				continue // deleted or stopped meanwhile
			}
			if err == nil {
				err = r.meter(ctx, t, id, true)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}
