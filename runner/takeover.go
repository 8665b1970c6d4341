package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/handover"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/store"
)

// readyWait is how long Takeover waits until the machine's state is recorded.
const readyWait = 30 * time.Second

// maxNote bounds what a person says when they hand back, in bytes.
const maxNote = 64 << 10

// errHeld says that a run may begin nothing new now: somebody has its agent in
// hand, or had since the conversation was read.
var errHeld = errors.New("a person has the agent in hand")

// TakeoverRequest asks for an agent.
type TakeoverRequest struct {
	// Force takes it from whoever has it.
	Force bool
}

// Takeover gives an agent into a person's hand: it begins nothing new until it is
// handed back, or Defaults.Takeover is over; asked again by the same person that
// time begins anew. A call or a request that is under way ends by itself. Who
// asks is answered once the machine's state is recorded, so that all they change
// from then on is known to be theirs, or after half a minute without. Where
// somebody else has the agent it is a Conflict.
func (r *Runner) Takeover(ctx context.Context, caller errand.Caller, id errand.AgentID, req TakeoverRequest) (errand.Agent, error) {
	var number int
	told, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, id)
		if err != nil {
			return err
		}
		if err := takeable(t, agent, caller, req.Force); err != nil {
			return err
		}
		held := errand.Takeover{Number: agent.Takeovers + 1, Since: t.Now()}
		started := errand.TakeoverStarted{Caller: caller}
		if before := agent.Takeover; before != nil {
			held = *before
			if started.Longer = before.By.Person() == caller.Person(); !started.Longer {
				started.From = &before.By
			}
		}
		held.By, held.Until, held.Reminded = caller, t.Now().Add(r.Defaults.Takeover), 0
		started.Number, started.Until, number = held.Number, held.Until, held.Number
		if err := t.PutTakeover(id, &held); err != nil {
			return err
		}
		return tellTakeover(t, id, errand.EventTakeoverStarted, started)
	})
	if err != nil {
		return errand.Agent{}, err
	}
	r.keepers.poke(id)
	waiting, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	agent, err := r.Store.Agent(ctx, id)
	if err != nil || agent.Takeover == nil || agent.Takeover.Number != number || agent.Takeover.From != nil {
		return agent, err
	}
	for e := range r.Journal.Follow(waiting, id, told[0].Seq) {
		if e.Kind == errand.EventTakeoverReady || e.Kind == errand.EventTakeoverEnded {
			break
		}
	}
	return r.Store.Agent(ctx, id)
}

// takeable says why an agent cannot be taken over now.
func takeable(t *journal.Tx, agent errand.Agent, caller errand.Caller, force bool) error {
	if agent.Status == errand.AgentArchived {
		return errand.Errorf(errand.Conflict, "agent_archived", "Agent %s is archived. Unarchive it first: errand unarchive %s", agent.ID, agent.ID)
	}
	if held := agent.Takeover; held != nil {
		switch {
		case held.Ending != nil:
			return errand.Errorf(errand.Conflict, "agent_handing_back", "Agent %s is just being handed back. Try again in a moment.", agent.ID)
		case held.By.Person() != caller.Person() && !force:
			return taken(agent, t.Now(), fmt.Sprintf("Talk to them, or take it from them: errand takeover --force %s", agent.ID))
		}
		return nil
	}
	_, err := t.Machine(t.Context(), agent.ID)
	if errand.KindOf(err) == errand.NotFound && agent.LatestRun != "" {
		return errand.Errorf(errand.Conflict, "machine_not_ready", "Agent %s has no machine yet that could be taken over. It gets one when its first run is prepared: errand logs -f %s", agent.ID, agent.ID)
	}
	if errand.KindOf(err) == errand.NotFound {
		return nil // one that has no runs is given one
	}
	return err
}

// taken is the refusal where somebody else has the agent.
func taken(agent errand.Agent, now time.Time, next string) error {
	held := agent.Takeover
	return errand.Errorf(errand.Conflict, "agent_taken_over", "%s has had agent %s in hand since %s (%s). %s",
		held.By.Called(), agent.ID, held.Since.Format(time.RFC3339), now.Sub(held.Since).Round(time.Second), next)
}

// HandbackRequest ends a take-over.
type HandbackRequest struct {
	Note  string // for the agent, in the person's words; may be ""
	Force bool   // also where somebody else has it
}

// Handback gives an agent back: what the person did is put into the conversation,
// and the run that was paused goes on, or the next that waits. It returns when
// that is written, with what is told of it. Where nobody has the agent, or
// somebody else, it is a Conflict.
func (r *Runner) Handback(ctx context.Context, caller errand.Caller, id errand.AgentID, req HandbackRequest) (errand.TakeoverEnded, error) {
	var none errand.TakeoverEnded
	if len(req.Note) > maxNote {
		return none, errand.Errorf(errand.TooLarge, "validation_error", "The note has %d bytes; at most %d are taken. Put the rest into a file in the machine, and name it.", len(req.Note), maxNote)
	}
	var number int
	var after errand.Seq
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, id)
		if err != nil {
			return err
		}
		held := agent.Takeover
		switch {
		case held == nil:
			return errand.Errorf(errand.Conflict, "agent_not_taken_over", "Nobody has agent %s in hand, so there is nothing to hand back.", id)
		case held.By.Person() != caller.Person() && !req.Force:
			return taken(agent, t.Now(), fmt.Sprintf("It is theirs to hand back; to do it for them: errand handback --force %s", id))
		}
		number = held.Number
		if after, err = t.LastSeq(ctx, id); err != nil {
			return err
		}
		return endTakeover(t, id, errand.Ending{Caller: caller, Why: errand.EndingHandback, Note: strings.TrimSpace(req.Note)})
	})
	if err != nil {
		return none, err
	}
	r.keepers.poke(id)
	for e, err := range r.Journal.Follow(ctx, id, after) {
		if err != nil {
			return none, err
		}
		if e.Kind != errand.EventTakeoverEnded {
			continue
		}
		var ended errand.TakeoverEnded
		if err := json.Unmarshal(e.Data, &ended); err != nil {
			return none, fmt.Errorf("reading event %d: %w", e.Seq, err)
		}
		if ended.Number == number {
			return ended, nil
		}
	}
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	return none, errand.Errorf(errand.NotFound, "agent_not_found", "Agent %s was deleted.", id)
}

// endTakeover decides the end of an agent's take-over, unless that was done or
// nobody has it. Whoever keeps it does the rest.
func endTakeover(t *journal.Tx, id errand.AgentID, ending errand.Ending) error {
	agent, err := t.Agent(t.Context(), id)
	if err != nil || agent.Takeover == nil || agent.Takeover.Ending != nil {
		return err
	}
	agent.Takeover.Ending = &ending
	if err := t.PutTakeover(id, agent.Takeover); err != nil {
		return err
	}
	return tellTakeover(t, id, errand.EventTakeoverEnding, errand.TakeoverEnding{Number: agent.Takeover.Number, Ending: ending})
}

// anyTakeovers stands for however many there were.
const anyTakeovers = -1

// unheld refuses facts by which a run would begin something, while somebody has the
// agent in hand, and where there were other take-overs than the run knows of.
func unheld(t *journal.Tx, id errand.AgentID, known int, facts []errand.Fact) error {
	for _, f := range facts {
		if !begins(f) {
			continue
		}
		agent, err := t.Agent(t.Context(), id)
		if err != nil {
			return err
		}
		if agent.Takeover != nil || known != anyTakeovers && agent.Takeovers != known {
			return errHeld
		}
	}
	return nil
}

// begins says whether a fact begins what is to wait for a person's hand-back. That
// the work has ended lets what comes after it begin.
func begins(f errand.Fact) bool {
	switch d := f.Data.(type) {
	case errand.TurnStarted, errand.ToolCalled:
		return true
	case errand.PhaseStarted:
		return d.Phase == errand.PhaseCommit || d.Phase == errand.PhasePush
	case errand.PhaseEnded:
		return d.Phase == errand.PhaseWork && d.Error == nil
	}
	return false
}

// unheldNow is errHeld while somebody has the agent in hand, or had since it was
// read: what the model said last, it said without knowing of them.
func (r *Runner) unheldNow(ctx context.Context, agent errand.Agent) error {
	now, err := r.Store.Agent(ctx, agent.ID)
	if err == nil && (now.Takeover != nil || now.Takeovers != agent.Takeovers) {
		return errHeld
	}
	return err
}

// tellTakeover tells of a take-over, as an event of the run that is under way, if
// one is.
func tellTakeover(t *journal.Tx, id errand.AgentID, kind errand.EventKind, data any) error {
	busy, err := t.BusyRuns(t.Context(), id)
	if err != nil {
		return err
	}
	var run errand.RunID
	if len(busy) > 0 && busy[0].Status != errand.RunQueued {
		run = busy[0].ID
	}
	return t.Tell(id, run, errand.Fact{Kind: kind, Data: data})
}

// setAside gives a run back until its agent is handed back, and says whether it
// did: somebody may have done so meanwhile.
func (r *Runner) setAside(ctx context.Context, log *slog.Logger, run errand.Run) (held bool) {
	r.writeEnd(ctx, log, func(ctx context.Context) error {
		held = true // also where the agent is gone
		return r.Store.Write(ctx, func(t *store.Tx) error {
			agent, err := t.Agent(ctx, run.Agent)
			if err != nil {
				return err
			}
			if held = agent.Takeover != nil; !held {
				return nil
			}
			now, err := t.Run(ctx, run.Agent, run.ID)
			if err != nil || now.CancelAsked {
				held = false
				return err
			}
			return t.SetAside(run.ID)
		})
	})
	if held {
		log.Info("a run waits: a person has its agent in hand")
	}
	return held
}

// heldSince is how long a run that goes on was paused by people, which does not
// count for its limit.
func (r *Runner) heldSince(ctx context.Context, run errand.Run) (held time.Duration, err error) {
	agent, err := r.Store.Agent(ctx, run.Agent)
	if err != nil || agent.Takeovers == 0 {
		return 0, err
	}
	events, err := r.Journal.All(ctx, run.Agent)
	if err != nil {
		return 0, err
	}
	var since time.Time
	for _, e := range events {
		switch {
		case e.Kind == errand.EventTakeoverStarted && since.IsZero():
			since = e.Time
		case e.Kind == errand.EventTakeoverEnded && !since.IsZero():
			if from := later(since, run.StartedAt); e.Time.After(from) {
				held += e.Time.Sub(from)
			}
			since = time.Time{}
		}
	}
	if !since.IsZero() {
		held += time.Since(later(since, run.StartedAt)) + r.Defaults.Takeover
	}
	return held, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// noteCommand tells a command that a person runs, while the agent is taken over.
// A command is not held up by what goes wrong here.
func (r *Runner) noteCommand(ctx context.Context, caller errand.Caller, id errand.AgentID, text string) {
	agent, err := r.Store.Agent(ctx, id)
	if err == nil && agent.Takeover == nil {
		return
	}
	_, err = r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, id)
		if err != nil || agent.Takeover == nil || agent.Takeover.Ending != nil {
			return err
		}
		return tellTakeover(t, id, errand.EventTakeoverCommand, errand.TakeoverCommand{
			Number: agent.Takeover.Number, Caller: caller, Command: handover.Command(r.Redactor, text),
		})
	})
	if err != nil && ctx.Err() == nil {
		r.Log.Warn("cannot record a person's command", "agent", id, "error", err)
	}
}
