package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
)

// findAtOnce is how many machines are taken up at once: each that does not
// answer takes its time.
const findAtOnce = 8

// recoverMachines takes up what an earlier process left: machines that run get
// their network back at once, those that nobody wants are destroyed.
func (r *Runner) recoverMachines(ctx context.Context) error {
	rows, err := r.Store.Machines(ctx)
	if err != nil {
		return err
	}
	known := map[machine.ID]bool{}
	var finding errgroup.Group
	finding.SetLimit(findAtOnce)
	for _, row := range rows {
		known[machine.ID(row.ID)] = true
		if row.State == store.MachineUnwanted {
			r.work.Go(func() { r.discard(ctx, row.Agent) })
		}
		if row.State != store.MachineWanted || row.Handle == "" {
			continue
		}
		finding.Go(func() error {
			if err := r.find(ctx, row); err != nil {
				// One broken machine must not keep the server from starting; its
				// agent's next run says what is wrong with it.
				r.Log.Warn("cannot take up a machine", "agent", row.Agent, "machine", row.ID, "error", err)
			}
			return nil
		})
	}
	_ = finding.Wait() // always nil
	held, err := r.Driver.List(ctx)
	if err != nil {
		return fmt.Errorf("listing machines: %w", err)
	}
	// What was made meanwhile, for a person or a setup, is none of an earlier
	// process. Its row was written before the machine was.
	if rows, err = r.Store.Machines(ctx); err != nil {
		return err
	}
	for _, row := range rows {
		known[machine.ID(row.ID)] = true
	}
	builds, err := r.Store.OpenBuilds(ctx)
	if err != nil {
		return err
	}
	for _, b := range builds {
		known[build.MachineID(b.ID)] = true // it is made further, or destroyed, by what makes builds
	}
	for _, h := range held {
		if known[h.ID] {
			continue
		}
		r.Log.Info("destroying a stray machine", "machine", h.ID)
		r.work.Go(func() {
			if err := r.destroy(ctx, h.ID); err != nil && ctx.Err() == nil {
				r.Log.Warn("cannot destroy a stray machine; the next start tries again", "machine", h.ID, "error", err)
			}
		})
	}
	return nil
}

// find opens the network and the line of a machine that was running.
func (r *Runner) find(ctx context.Context, row store.Machine) error {
	var h machine.Handle
	if err := json.Unmarshal([]byte(row.Handle), &h); err != nil {
		return fmt.Errorf("reading the handle: %w", err)
	}
	m, err := r.Driver.Open(ctx, h)
	if err != nil {
		return err
	}
	agent, err := r.Store.Agent(ctx, row.Agent)
	if err != nil {
		return err
	}
	p := r.placeOf(row.Agent)
	if err := p.preparing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.preparing.Release(1)
	if p.current() != nil {
		return nil // a person was faster
	}
	p.take(m)
	setup, err := r.setup(ctx, agent)
	if err != nil {
		return err
	}
	if err := r.unlock(ctx, p, &setup); err != nil {
		// Its machine goes on meanwhile; it pushes nothing and takes no new work
		// before they can be opened.
		r.Log.Warn("cannot open an agent's secrets", "agent", row.Agent, "error", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := r.open(ctx, p, m, "", setup.policy); err != nil {
		if errors.Is(err, machine.ErrStopped) {
			p.take(nil) // the next run wakes it
			return nil
		}
		return err
	}
	return nil
}

// destroy removes a machine and its row. A machine that is not there is no error.
func (r *Runner) destroy(ctx context.Context, id machine.ID) error {
	held, err := r.Driver.List(ctx)
	if err != nil {
		return fmt.Errorf("listing machines: %w", err)
	}
	for _, h := range held {
		if h.ID != id {
			continue
		}
		m, err := r.Driver.Open(ctx, h)
		if err == nil {
			err = m.Destroy(ctx)
		}
		if err != nil && !errors.Is(err, machine.ErrNotFound) {
			return err
		}
	}
	return r.Store.Write(ctx, func(t *store.Tx) error { return t.DropMachine(string(id)) })
}

// discard forgets the repository of a deleted agent and destroys its machine.
// The machine's row goes last, so that the next start does what we could not.
func (r *Runner) discard(ctx context.Context, agent errand.AgentID) {
	r.mu.Lock()
	p := r.places[agent]
	delete(r.places, agent)
	r.mu.Unlock()
	if p != nil {
		if p.preparing.Acquire(ctx, 1) != nil {
			return
		}
		defer p.preparing.Release(1)
		p.close()
		r.hide(p, trusted{})
	}
	err := r.Mirrors.Forget(ctx, agent)
	if err == nil {
		err = r.destroy(ctx, machineID(agent))
	}
	if err != nil && ctx.Err() == nil {
		r.Log.Warn("cannot remove what a deleted agent left; the next start tries again", "agent", agent, "error", err)
	}
}

// hibernateIdle stops machines that nobody has used for Defaults.Idle, until
// ctx ends.
func (r *Runner) hibernateIdle(ctx context.Context) {
	every := min(max(r.Defaults.Idle/4, 100*time.Millisecond), 15*time.Second)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r.stopIdle(ctx)
	}
}

// stopIdle stops the machines that are idle now. One that cannot be stopped is
// tried again the next time.
func (r *Runner) stopIdle(ctx context.Context) {
	r.mu.Lock()
	var idle []*place
	for _, p := range r.places {
		if p.idleFor(r.Defaults.Idle) {
			idle = append(idle, p)
		}
	}
	r.mu.Unlock()
	for _, p := range idle {
		if err := r.hibernate(ctx, p); err != nil && ctx.Err() == nil {
			r.Log.Warn("cannot stop an idle machine", "agent", p.agent, "error", err)
		}
	}
}

// idleFor says whether the place's machine is up, whatever became of its line,
// and nobody has used it for d.
func (p *place) idleFor(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine != nil && p.users == 0 && time.Since(p.used) > d
}

// hibernate stops the place's machine, unless somebody came meanwhile.
func (r *Runner) hibernate(ctx context.Context, p *place) error {
	if err := p.preparing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.preparing.Release(1)
	m := p.now().machine
	h, ok := m.(machine.Hibernator)
	if !ok || !p.idleFor(r.Defaults.Idle) {
		return nil
	}
	p.close()
	r.hide(p, trusted{})
	if err := h.Hibernate(ctx); err != nil {
		return err
	}
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		row, err := t.Machine(ctx, p.agent)
		if err != nil {
			return err
		}
		row.State, row.Boot = store.MachineHibernated, ""
		if err := t.PutMachine(row); err != nil {
			return err
		}
		if err := r.meter(ctx, t.Tx, p.agent, false); err != nil {
			return err
		}
		return t.Tell(p.agent, "", machine.Told("stopped", m, ""))
	})
	if err != nil {
		return err
	}
	p.take(nil)
	return nil
}
