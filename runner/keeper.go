package runner

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/handover"
	"github.com/errand-dev/errand/journal"
)

// keepers see to the agents that people have in hand: one goroutine for each, which
// records how its machine stands, marks its terminals, keeps it awake, reminds,
// and ends the take-over. What is to be done stands in the agent's row, so a
// keeper of the next process goes on where this one's was.
type keepers struct {
	wakeup chan struct{} // an agent may want a keeper

	mu   sync.Mutex
	kept map[errand.AgentID]*keeper
}

func newKeepers() *keepers {
	return &keepers{wakeup: make(chan struct{}, 1), kept: map[errand.AgentID]*keeper{}}
}

// keeper is one agent's.
type keeper struct {
	agent  errand.AgentID
	poked  chan struct{} // the agent's row has changed
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended

	place  *place // the machine, held awake; nil before it is ready
	status string // what terminals were told to show
	failed int    // how often in a row the end could not be read
}

const (
	// keeperRetry is how long a keeper waits after something that went wrong.
	keeperRetry = 5 * time.Second
	// keeperTries is how often a machine is asked what was done in it.
	keeperTries = 3
)

// keepTakeovers gives each agent that is taken over its keeper, until ctx ends.
func (r *Runner) keepTakeovers(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		ids, err := r.Store.TakenOver(ctx)
		if err != nil && ctx.Err() == nil {
			r.Log.Error("cannot read which agents are taken over", "error", err)
		}
		for _, id := range ids {
			k, work := r.keepers.add(ctx, id)
			if k == nil {
				continue
			}
			all.Go(func() {
				defer r.keepers.remove(k)
				r.keep(work, k)
			})
		}
		select {
		case <-r.keepers.wakeup:
		case <-ctx.Done():
			return
		}
	}
}

// add makes an agent's keeper, nil where it has one.
func (ks *keepers) add(ctx context.Context, id errand.AgentID) (*keeper, context.Context) {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	if ks.kept[id] != nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	k := &keeper{agent: id, poked: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{})}
	ks.kept[id] = k
	return k, ctx
}

// remove lets a keeper go. Who poked it in its last moment is heard by the next.
func (ks *keepers) remove(k *keeper) {
	k.cancel()
	ks.mu.Lock()
	delete(ks.kept, k.agent)
	ks.mu.Unlock()
	close(k.done)
	ks.wake()
}

// poke has an agent's row looked at.
func (ks *keepers) poke(id errand.AgentID) {
	ks.mu.Lock()
	k := ks.kept[id]
	ks.mu.Unlock()
	if k == nil {
		ks.wake()
		return
	}
	k.poke()
}

func (ks *keepers) wake() {
	select {
	case ks.wakeup <- struct{}{}:
	default:
	}
}

func (k *keeper) poke() {
	select {
	case k.poked <- struct{}{}:
	default:
	}
}

// drop ends an agent's keeper and waits for it.
func (ks *keepers) drop(id errand.AgentID) {
	ks.mu.Lock()
	k := ks.kept[id]
	ks.mu.Unlock()
	if k != nil {
		k.cancel()
		<-k.done
	}
}

// keep does for one agent what comes next, until nobody has it in hand any more.
func (r *Runner) keep(ctx context.Context, k *keeper) {
	defer func() {
		if k.place != nil {
			k.place.release()
		}
	}()
	for ctx.Err() == nil {
		agent, err := r.Store.Agent(ctx, k.agent)
		if err == nil && agent.Takeover == nil || errand.KindOf(err) == errand.NotFound {
			return
		}
		next := time.Now()
		if err == nil {
			next, err = r.keepOn(ctx, k, agent)
		}
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			r.Log.Warn("cannot see to an agent that is taken over; trying again", "agent", k.agent, "error", err)
			next = time.Now().Add(keeperRetry)
		}
		wait := time.NewTimer(time.Until(next))
		select {
		case <-wait.C:
		case <-k.poked:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// keepOn does the one thing that comes next, and says when to look again.
func (r *Runner) keepOn(ctx context.Context, k *keeper, agent errand.Agent) (next time.Time, err error) {
	held, now := *agent.Takeover, time.Now()
	over := held.Ending != nil
	if !over && !now.Before(held.Until) {
		_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
			// It may just have been made longer.
			agent, err := t.Agent(ctx, k.agent)
			if err != nil || agent.Takeover == nil || t.Now().Before(agent.Takeover.Until) {
				return err
			}
			return endTakeover(t, k.agent, errand.Ending{Why: errand.EndingLimit})
		})
		return now, err
	}
	if k.place == nil {
		err := r.enter(ctx, k, over)
		if err == nil || !over {
			return now, err
		}
		// Its machine is not to be had: what was done there stays untold.
		return now, r.handBack(ctx, k, held, errand.Changes{Problem: "The machine could not be entered: " + r.Redactor.String(err.Error())})
	}
	switch {
	case held.From == nil && !over:
		return now, r.markStart(ctx, k, held)
	case over:
		return now, r.end(ctx, k, held)
	}
	if err := r.showStatus(ctx, k, r.statusOf(&held, k.agent)); err != nil {
		return now, err
	}
	due, more := handover.Reminder(held, r.Defaults.Takeover)
	if !more || due.After(held.Until) {
		return held.Until, nil
	}
	if now.Before(due) {
		return due, nil
	}
	return now, r.remind(ctx, k, held)
}

// enter wakes the machine and holds it. It leaves off, without an error, when the
// row has changed meanwhile, unless the take-over is over.
func (r *Runner) enter(ctx context.Context, k *keeper, over bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var leave error
	changed, watched := make(chan struct{}), sync.WaitGroup{}
	if !over {
		watched.Go(func() {
			select {
			case <-k.poked:
				leave = context.Canceled
				k.poke()
				cancel()
			case <-changed:
			}
		})
	}
	p, err := r.visit(ctx, k.agent)
	close(changed)
	watched.Wait()
	if err == nil {
		k.place = p
		return nil
	}
	if leave != nil {
		return nil
	}
	return err
}

// machineOf gives the machine of a take-over, waking it where it has ended.
func (r *Runner) machineOf(ctx context.Context, k *keeper, held errand.Takeover) (handover.Machine, error) {
	s := k.place.now()
	if !s.isReady() {
		p, err := r.visit(ctx, k.agent)
		if err != nil {
			return handover.Machine{}, err
		}
		k.place.release()
		k.place, s = p, p.now()
	}
	if s.line == nil {
		return handover.Machine{}, guest.ErrRebooted
	}
	return handover.Machine{Line: s.line, Dir: root, User: s.environment.User, Redactor: r.Redactor, Number: held.Number}, nil
}

// markStart records how the machine stands.
func (r *Runner) markStart(ctx context.Context, k *keeper, held errand.Takeover) error {
	m, err := r.machineOf(ctx, k, held)
	if err != nil {
		return err
	}
	mark, err := m.Mark(ctx, false)
	if err != nil {
		return err
	}
	_, err = r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, k.agent)
		if err != nil || agent.Takeover == nil || agent.Takeover.From != nil {
			return err
		}
		agent.Takeover.From = &mark
		if err := t.PutTakeover(k.agent, agent.Takeover); err != nil {
			return err
		}
		return tellTakeover(t, k.agent, errand.EventTakeoverReady, errand.TakeoverReady{Number: agent.Takeover.Number, Mark: mark})
	})
	return err
}

// showStatus has the terminals show a line; "" takes it away.
func (r *Runner) showStatus(ctx context.Context, k *keeper, text string) error {
	s := k.place.now()
	if s.line == nil || k.status == text {
		return nil
	}
	if err := s.line.SetStatus(ctx, text); err != nil {
		if errors.Is(err, guest.ErrNoTmux) {
			return nil
		}
		return err
	}
	k.status = text
	return nil
}

// planStatus has the terminals that will be opened on a new line show what those of
// an agent that is taken over do.
func (r *Runner) planStatus(ctx context.Context, id errand.AgentID, line *guest.Line) error {
	agent, err := r.Store.Agent(ctx, id)
	if err == nil {
		line.PlanStatus(r.statusOf(agent.Takeover, id))
	}
	return err
}

// remind tells of the end that is to come.
func (r *Runner) remind(ctx context.Context, k *keeper, held errand.Takeover) error {
	left := time.Until(held.Until)
	told := false
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, k.agent)
		if err != nil || agent.Takeover == nil || agent.Takeover.Ending != nil || agent.Takeover.Reminded != held.Reminded || !agent.Takeover.Until.Equal(held.Until) {
			return err
		}
		told = true
		agent.Takeover.Reminded++
		if err := t.PutTakeover(k.agent, agent.Takeover); err != nil {
			return err
		}
		return tellTakeover(t, k.agent, errand.EventTakeoverReminded, errand.TakeoverReminded{
			Number: held.Number, Caller: held.By, Until: held.Until, LeftMs: left.Milliseconds(),
		})
	})
	if line := k.place.current(); err == nil && told && line != nil {
		if err := line.Announce(ctx, handover.Reminding(left)); err != nil && ctx.Err() == nil {
			r.Log.Debug("reminding in the terminals", "agent", k.agent, "err", err) // the event and the panel do
		}
	}
	return err
}

// end reads what the person did and hands the agent back.
func (r *Runner) end(ctx context.Context, k *keeper, held errand.Takeover) error {
	if held.From == nil {
		return r.handBack(ctx, k, held, errand.Changes{Problem: "It was handed back before the machine's state could be recorded, so what was changed is not known."})
	}
	m, err := r.machineOf(ctx, k, held)
	var changed errand.Changes
	if err == nil {
		changed, err = r.changes(ctx, k, m, held)
	}
	if err != nil {
		if k.failed++; ctx.Err() != nil || k.failed < keeperTries {
			return err
		}
		return r.handBack(ctx, k, held, errand.Changes{Problem: "The machine could not be read: " + r.Redactor.String(err.Error())})
	}
	if err := r.handBack(ctx, k, held, changed); err != nil {
		return err
	}
	if err := m.Forget(ctx); err != nil && ctx.Err() == nil {
		r.Log.Debug("forgetting a take-over's commands", "agent", k.agent, "err", err) // they cost the machine a little memory
	}
	return nil
}

// changes reads what the person did. The terminals are marked no more: until the
// end is written, the next process would mark them again.
func (r *Runner) changes(ctx context.Context, k *keeper, m handover.Machine, held errand.Takeover) (errand.Changes, error) {
	mark, err := m.Mark(ctx, true)
	if err != nil {
		return errand.Changes{}, err
	}
	changed, err := m.Changes(ctx, *held.From, mark)
	if err != nil {
		return changed, err
	}
	k.status = "?" // another process may have marked them
	return changed, r.showStatus(ctx, k, r.statusOf(nil, k.agent))
}

// handBack writes a take-over's end: with it the runs go on.
func (r *Runner) handBack(ctx context.Context, k *keeper, held errand.Takeover, changed errand.Changes) error {
	commands, err := r.commandsOf(ctx, k.agent, held.Number)
	if err != nil {
		return err
	}
	changed.Commands = handover.Newest(append(commands, changed.Commands...))
	_, err = r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, k.agent)
		if err != nil || agent.Takeover == nil {
			return err
		}
		ended := errand.TakeoverEnded{Number: held.Number, Holder: held.By, Since: held.Since, Ending: *held.Ending, Changed: changed}
		ended.Ending.Note = r.Redactor.String(ended.Ending.Note)
		ended.Summary = handover.Summary(ended, t.Now())
		if err := t.PutTakeover(k.agent, nil); err != nil {
			return err
		}
		if err := t.TakeUp(k.agent); err != nil {
			return err
		}
		return tellTakeover(t, k.agent, errand.EventTakeoverEnded, ended)
	})
	if err == nil {
		r.nudge()
	}
	return err
}

// commandsOf gives the commands that people ran outside of shared terminals.
func (r *Runner) commandsOf(ctx context.Context, id errand.AgentID, number int) (all []errand.TakenCommand, err error) {
	events, err := r.Journal.All(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		var d errand.TakeoverCommand
		if e.Kind == errand.EventTakeoverCommand && json.Unmarshal(e.Data, &d) == nil && d.Number == number {
			all = append(all, errand.TakenCommand{Who: d.Caller.Called(), Text: d.Command})
		}
	}
	return all, nil
}
