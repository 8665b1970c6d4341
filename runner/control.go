package runner

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/store"
)

// Cancel ends a run. A run that waits is cancelled at once, one under way as
// soon as it has stopped. One that has ended is a Conflict.
func (r *Runner) Cancel(ctx context.Context, caller errand.Caller, agent errand.AgentID, id errand.RunID) error {
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		run, err := t.Run(ctx, agent, id)
		if err != nil {
			return err
		}
		if run.Status.Ended() {
			return errand.Errorf(errand.Conflict, "run_not_cancellable", "Run %s has ended already (%s).", id, run.Status)
		}
		if run.Status != errand.RunQueued {
			if err := endTakeover(t, agent, errand.Ending{Caller: caller, Why: errand.EndingCancel}); err != nil {
				return err
			}
		}
		return r.askCancel(t, caller, run)
	})
	if err != nil {
		return err
	}
	r.stop(agent, []errand.RunID{id})
	return nil
}

// askCancel notes the wish to end run. One that nobody has taken up yet ends
// here.
func (r *Runner) askCancel(t *journal.Tx, caller errand.Caller, run errand.Run) error {
	if !run.CancelAsked {
		run.CancelAsked = true
		if err := t.UpdateRun(run); err != nil {
			return err
		}
		if err := t.Tell(run.Agent, run.ID, errand.Fact{Kind: errand.EventRunCancelAsked, Data: errand.CancelAsked{Caller: caller}}); err != nil {
			return err
		}
	}
	if run.Status != errand.RunQueued {
		return t.TakeUp(run.Agent) // whoever takes it up ends it
	}
	return r.endRun(t, run, errand.RunCancelled, "", nil)
}

// stop makes the drives of an agent's runs end, if this process has them. Those that
// were set aside are taken up for that, and its take-over ends if that was decided.
func (r *Runner) stop(agent errand.AgentID, runs []errand.RunID) {
	r.nudge()
	r.keepers.poke(agent)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range runs {
		if a, ok := r.active[id]; ok {
			a.cancel(errCancelled)
		}
	}
}

// Archive puts an agent away: it stays readable and takes no runs. Runs that
// have not ended are cancelled.
func (r *Runner) Archive(ctx context.Context, caller errand.Caller, id errand.AgentID) error {
	var stopped []errand.RunID
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, id)
		if err != nil || agent.Status == errand.AgentArchived {
			return err
		}
		busy, err := t.BusyRuns(ctx, id)
		if err != nil {
			return err
		}
		for _, run := range busy {
			if err := r.askCancel(t, caller, run); err != nil {
				return err
			}
			stopped = append(stopped, run.ID)
		}
		if err := endTakeover(t, id, errand.Ending{Caller: caller, Why: errand.EndingArchive}); err != nil {
			return err
		}
		return setStatus(ctx, t, id, errand.AgentArchived)
	})
	if err != nil {
		return err
	}
	r.stop(id, stopped)
	return nil
}

// Unarchive makes an archived agent take runs again.
func (r *Runner) Unarchive(ctx context.Context, caller errand.Caller, id errand.AgentID) error {
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, id)
		if err != nil || agent.Status != errand.AgentArchived {
			return err
		}
		return setStatus(ctx, t, id, errand.AgentIdle)
	})
	return err
}

func setStatus(ctx context.Context, t *journal.Tx, id errand.AgentID, status errand.AgentStatus) error {
	agent, err := t.Agent(ctx, id)
	if err != nil || agent.Status == status {
		return err
	}
	agent.Status = status
	if err := t.UpdateAgent(agent); err != nil {
		return err
	}
	return t.Tell(id, "", errand.Fact{Kind: errand.EventAgentChanged, Data: errand.AgentChanged{Status: status}})
}

// Delete removes an agent with its journal, and its machine with all that is on
// it. It returns when the agent is gone for callers; the machine follows.
func (r *Runner) Delete(ctx context.Context, caller errand.Caller, id errand.AgentID) error {
	busy, err := r.Store.BusyRuns(ctx, id)
	if err != nil {
		return err
	}
	var ended []<-chan struct{}
	r.mu.Lock()
	for _, run := range busy {
		if a, ok := r.active[run.ID]; ok {
			a.cancel(errCancelled)
			ended = append(ended, a.done)
		}
	}
	r.mu.Unlock()
	for _, done := range ended {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.keepers.drop(id)
	if _, err := r.Journal.Decide(ctx, func(t *journal.Tx) error { return r.forget(ctx, t, id) }); err != nil {
		r.keepers.poke(id)
		return err
	}
	r.Journal.Deleted(id)
	r.work.Go(func() { r.discard(context.WithoutCancel(ctx), id) })
	return nil
}

// forget removes the agent's rows and marks its machine as unwanted, so that it
// goes even if we do not live to destroy it. The builds that its runs have open
// end: nobody would end them afterwards.
func (r *Runner) forget(ctx context.Context, t *journal.Tx, id errand.AgentID) error {
	if _, err := t.Agent(ctx, id); err != nil {
		return err
	}
	busy, err := t.BusyRuns(ctx, id)
	if err != nil {
		return err
	}
	for _, run := range busy {
		if err := r.Builds.EndRun(t, run.ID, nil); err != nil {
			return err
		}
	}
	m, err := t.Machine(ctx, id)
	if err != nil && errand.KindOf(err) != errand.NotFound {
		return err
	}
	if err := r.meter(ctx, t.Tx, id, false); err != nil {
		return err
	}
	// Without a machine too: until the row is gone nobody else gets the id.
	m.ID, m.Agent, m.State = string(machineID(id)), id, store.MachineUnwanted
	if err := t.PutMachine(m); err != nil {
		return err
	}
	return t.DeleteAgent(id)
}
