package runner

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/terminal"
)

// root is where the agent's repository stands in its machine.
const root = "/workspace"

// place is what this process holds of one agent's machine.
type place struct {
	runner *Runner
	agent  errand.AgentID

	// preparing is held by whoever brings the machine up or down. Waiting for it
	// ends with the waiter's context.
	preparing *semaphore.Weighted

	mu sync.Mutex
	standing
	trusted
	users int
	used  time.Time
}

// standing is how a place stands at one moment.
type standing struct {
	machine     machine.Machine // that was up last, or was to be; nil once we have stopped it
	line        *guest.Line
	network     egress.Joined
	boot        string // of the guest that line leads to
	ready       bool   // start and terminals have run in this boot
	environment environment.Environment
	env         []string // for what runs in the machine
	notes       []string // what the agent should know of its environment
}

// isReady says whether one can work: a line whose machine has died is none.
func (s standing) isReady() bool { return s.ready && s.line != nil && s.line.Err() == nil }

// now gives how the place stands.
func (p *place) now() standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.standing
}

// placeOf gives the agent's place, new and empty if need be.
func (r *Runner) placeOf(agent errand.AgentID) *place {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.places[agent]
	if !ok {
		p = &place{runner: r, agent: agent, preparing: semaphore.NewWeighted(1)}
		r.places[agent] = p
	}
	return p
}

// machineID is the agent's machine's. It follows from the agent, so that making
// it again finds it.
func machineID(agent errand.AgentID) machine.ID {
	var id []byte
	for _, c := range []byte(agent[len("bc-"):]) {
		if c != '-' {
			id = append(id, c)
		}
	}
	return machine.ID("m-" + string(id))
}

// wake brings the agent's machine up, ready for work, and gives its place. The
// caller releases it. Events belong to run; "" where a person asks.
func (r *Runner) wake(ctx context.Context, agent errand.AgentID, run errand.RunID) (*place, error) {
	p := r.placeOf(agent)
	p.hold()
	if err := p.preparing.Acquire(ctx, 1); err != nil {
		p.release()
		return nil, err
	}
	defer p.preparing.Release(1)
	if p.now().isReady() {
		return p, nil
	}
	if err := r.prepare(ctx, p, run); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

func (p *place) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
}

// release ends one use of the place. Its machine may sleep when there are none.
func (p *place) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	p.used = time.Now()
}

// current gives the line, nil where there is none.
func (p *place) current() *guest.Line { return p.now().line }

// open connects this process with a machine that runs: network first, so that
// nothing inside waits for it, then the line, then what the guest offers.
func (r *Runner) open(ctx context.Context, p *place, m machine.Machine, run errand.RunID, policy egress.Policy) (*guest.Line, error) {
	p.close()
	p.take(m) // it runs, whatever comes of the rest
	network, err := r.Gate.Join(ctx, m, policy, r.connections(ctx, p.agent))
	if err != nil {
		return nil, err
	}
	broker, err := r.broker(ctx, p.agent)
	if err != nil {
		network.Close()
		return nil, err
	}
	line, err := build.OpenLine(ctx, m, broker, r.Log.With("agent", p.agent))
	if err != nil {
		network.Close()
		return nil, err
	}
	if err := errors.Join(r.planStatus(ctx, p.agent, line), terminal.Sweep(ctx, line)); err != nil {
		line.Close()
		network.Close()
		return nil, err
	}
	p.mu.Lock()
	p.line, p.network, p.boot, p.ready = line, network, line.Hello().Boot, false
	p.mu.Unlock()
	return line, r.keepMachine(ctx, p, run)
}

// take notes a machine that runs, or may, and is stopped when nobody uses it; nil:
// none does.
func (p *place) take(m machine.Machine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.machine, p.boot, p.used = m, "", time.Now()
}

// connections gives what writes the connections of an agent's machine into its
// journal.
func (r *Runner) connections(ctx context.Context, agent errand.AgentID) func([]errand.Connection) {
	ctx = context.WithoutCancel(ctx)
	return func(ended []errand.Connection) {
		// A connection may end when its agent is deleted already.
		if err := r.Journal.AppendConnections(ctx, agent, ended); err != nil && errand.KindOf(err) != errand.NotFound {
			r.Log.Error("cannot record connections", "agent", agent, "connections", len(ended), "error", err)
		}
	}
}

// keepMachine writes down how the machine is found again, and tells the first
// sight of each of its lives.
func (r *Runner) keepMachine(ctx context.Context, p *place, run errand.RunID) error {
	s := p.now()
	m, boot := s.machine, s.boot
	handle, err := json.Marshal(m.Handle())
	if err != nil {
		return err
	}
	_, err = r.Journal.Decide(ctx, func(t *journal.Tx) error {
		row, err := t.Machine(ctx, p.agent)
		if err != nil && errand.KindOf(err) != errand.NotFound {
			return err
		}
		what := "created"
		switch {
		case row.Boot == boot:
			what = "found"
		case row.Handle != "":
			what = "woken"
		}
		row = store.Machine{ID: string(m.Handle().ID), Agent: p.agent, State: store.MachineWanted, Handle: string(handle), Boot: boot, Prepared: row.Prepared, UsedAt: t.Now()}
		if err := t.PutMachine(row); err != nil {
			return err
		}
		if err := t.StartMeter(p.agent, what != "found"); err != nil {
			return err
		}
		return t.Tell(p.agent, run, machine.Told(what, m, boot))
	})
	return err
}

// close drops line and network. The machine stays as it is.
func (p *place) close() {
	p.mu.Lock()
	line, network := p.line, p.network
	p.line, p.network, p.ready = nil, egress.Joined{}, false
	p.mu.Unlock()
	if line != nil {
		line.Close()
	}
	network.Close()
}

// lose notes that a machine's processes are gone and drops the place's hold,
// unless somebody else has woken it meanwhile.
func (r *Runner) lose(ctx context.Context, agent errand.AgentID, run errand.RunID, why error) {
	p := r.placeOf(agent)
	if p.preparing.Acquire(ctx, 1) != nil {
		return
	}
	defer p.preparing.Release(1)
	s := p.now()
	if s.isReady() {
		return
	}
	p.close()
	r.Log.Warn("a machine ended", "agent", agent, "error", why)
	if s.machine == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		if err := r.meter(ctx, t.Tx, agent, false); err != nil {
			return err
		}
		return t.Tell(agent, run, machine.Told("lost", s.machine, s.boot))
	})
	if err != nil {
		r.Log.Error("cannot record the loss of a machine", "agent", agent, "error", err)
	}
}

// dropPlaces lets go of all machines without touching them.
func (r *Runner) dropPlaces() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.places {
		p.close()
	}
	clear(r.places)
}
