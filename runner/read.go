package runner

import (
	"cmp"
	"context"
	"iter"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/store"
)

// Agent gives one agent.
func (r *Runner) Agent(ctx context.Context, _ errand.Caller, id errand.AgentID) (errand.Agent, error) {
	return r.Store.Agent(ctx, id)
}

// AgentQuery chooses agents for a list.
type AgentQuery struct {
	Limit           int    // at most so many; 0 is 20
	Cursor          string // from the page before; "" for the first
	IncludeArchived bool
}

// Agents gives agents, newest first, and the cursor of the next page ("" on the
// last one).
func (r *Runner) Agents(ctx context.Context, _ errand.Caller, q AgentQuery) ([]errand.Agent, string, error) {
	return r.Store.Agents(ctx, store.AgentQuery{Limit: cmp.Or(q.Limit, 20), Cursor: q.Cursor, IncludeArchived: q.IncludeArchived})
}

// OneRun gives one run of an agent.
func (r *Runner) OneRun(ctx context.Context, _ errand.Caller, agent errand.AgentID, run errand.RunID) (errand.Run, error) {
	if _, err := r.Store.Agent(ctx, agent); err != nil {
		return errand.Run{}, err
	}
	return r.Store.Run(ctx, agent, run)
}

// Runs gives an agent's runs without their prompts' pictures, newest first, and
// the cursor of the next page ("" on the last one).
func (r *Runner) Runs(ctx context.Context, _ errand.Caller, agent errand.AgentID, limit int, cursor string) ([]errand.Run, string, error) {
	if _, err := r.Store.Agent(ctx, agent); err != nil {
		return nil, "", err
	}
	before, err := errand.Before(cursor, errand.ParseRunID)
	if err != nil {
		return nil, "", err
	}
	all, err := r.Store.Runs(ctx, agent, limit+1, before)
	page, next := errand.Page(all, limit, func(x errand.Run) errand.RunID { return x.ID })
	return page, next, err
}

// Follow gives an agent's events after a number and then each as it is written,
// until ctx ends or the agent is deleted. An agent that is not there gives one
// NotFound error.
func (r *Runner) Follow(ctx context.Context, _ errand.Caller, agent errand.AgentID, after errand.Seq) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		if _, err := r.Store.Agent(ctx, agent); err != nil {
			yield(errand.Event{}, err)
			return
		}
		for e, err := range r.Journal.Follow(ctx, agent, after) {
			if !yield(e, err) {
				return
			}
		}
	}
}

// Events gives at most limit of an agent's events after a number, those that
// are there now.
func (r *Runner) Events(ctx context.Context, _ errand.Caller, agent errand.AgentID, after errand.Seq, limit int) ([]errand.Event, error) {
	if _, err := r.Store.Agent(ctx, agent); err != nil {
		return nil, err
	}
	return r.Store.Events(ctx, agent, after, limit)
}

// RunUsage is what one run used.
type RunUsage struct {
	Run   errand.RunID
	Usage errand.Usage
}

// Usage gives what each run of an agent used, newest run first.
func (r *Runner) Usage(ctx context.Context, _ errand.Caller, agent errand.AgentID) ([]RunUsage, error) {
	if _, err := r.Store.Agent(ctx, agent); err != nil {
		return nil, err
	}
	runs, err := r.Store.Usages(ctx, agent, 10_000)
	if err != nil {
		return nil, err
	}
	all := make([]RunUsage, len(runs))
	for i, run := range runs {
		all[i] = RunUsage{run.ID, run.Usage}
	}
	return all, nil
}

// ListModels gives the models that an agent can have now, the default first.
func (r *Runner) ListModels(ctx context.Context) []llm.Entry { return r.Models.List(ctx) }
