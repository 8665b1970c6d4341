package runner_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	builds "github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

// shelf is a driver whose machines are there and do nothing.
type shelf struct {
	listing func() // called when machines are listed, before

	mu        sync.Mutex
	held      []machine.ID
	destroyed chan machine.ID
}

func newShelf(held ...machine.ID) *shelf {
	return &shelf{listing: func() {}, held: held, destroyed: make(chan machine.ID, 100)}
}

func (s *shelf) put(id machine.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, id)
}

func (s *shelf) Create(context.Context, machine.ID, machine.Spec) (machine.Machine, error) {
	return nil, machine.ErrNotFound
}

func (s *shelf) Open(_ context.Context, h machine.Handle) (machine.Machine, error) {
	return shelved{s, h.ID}, nil
}

func (s *shelf) List(context.Context) ([]machine.Handle, error) {
	s.listing()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []machine.Handle
	for _, id := range s.held {
		all = append(all, machine.Handle{Driver: "shelf", ID: id})
	}
	return all, nil
}

// shelved is a machine of a shelf.
type shelved struct {
	shelf *shelf
	id    machine.ID
}

func (m shelved) Handle() machine.Handle                 { return machine.Handle{Driver: "shelf", ID: m.id} }
func (m shelved) Dial(context.Context) (net.Conn, error) { return nil, machine.ErrStopped }

func (m shelved) Destroy(context.Context) error {
	m.shelf.mu.Lock()
	defer m.shelf.mu.Unlock()
	m.shelf.held = slices.DeleteFunc(m.shelf.held, func(id machine.ID) bool { return id == m.id })
	m.shelf.destroyed <- m.id
	return nil
}

// bare gives a runner that has a store and a driver, and nothing to work with.
func bare(t *testing.T, driver machine.Driver) *runner.Runner {
	t.Helper()
	return bareIn(t, t.TempDir(), driver)
}

func bareIn(t *testing.T, dir string, driver machine.Driver) *runner.Runner {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(dir, "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	log := slog.New(slog.DiscardHandler)
	mirrors, err := git.New(git.Options{Dir: filepath.Join(dir, "git"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mirrors.Close() })
	redactor := &secret.Redactor{}
	r, err := runner.Open(runner.Options{Dir: dir, Store: s, Journal: journal.New(s, redactor), Redactor: redactor, Vault: vault.Open(s, filepath.Join(dir, "key"), "", nil), Driver: driver, Mirrors: mirrors, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMachinesMadeMeanwhile makes a machine while a new server looks for those
// of an earlier one: it is no stray.
func TestMachinesMadeMeanwhile(t *testing.T) {
	const stray, fresh = "m-stray", "m-fresh"
	driver := newShelf(stray)
	r := bare(t, driver)
	driver.listing = sync.OnceFunc(func() {
		if err := r.Store.Write(t.Context(), func(tx *store.Tx) error {
			return tx.PutMachine(store.Machine{ID: fresh, Agent: errand.NewAgentID(), State: store.MachineWanted, UsedAt: tx.Now()})
		}); err != nil {
			t.Error(err)
		}
		driver.put(fresh)
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	first := <-driver.destroyed
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	close(driver.destroyed)
	if more := slices.Collect(func(yield func(machine.ID) bool) {
		for id := range driver.destroyed {
			if !yield(id) {
				return
			}
		}
	}); first != stray || len(more) > 0 {
		t.Errorf("destroyed %s and %v, want %s alone", first, more, stray)
	}
}

// sleeper is a machine that cannot be stopped at first.
type sleeper struct {
	shelved
	faults, asked int
}

func (s *sleeper) Hibernate(context.Context) error {
	if s.asked++; s.asked <= s.faults {
		return errors.New("it does not end")
	}
	return nil
}

// TestMachineThatDoesNotStop fails to stop an idle machine: it is tried again
// until it is stopped, and then no more.
func TestMachineThatDoesNotStop(t *testing.T) {
	r := bare(t, newShelf())
	agent := errand.Agent{ID: errand.NewAgentID(), Status: errand.AgentIdle, Caller: caller}
	m := &sleeper{shelved: shelved{id: "m-sleeper"}, faults: 2}
	if err := r.Store.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.InsertAgent(agent, ""), tx.PutMachine(store.Machine{ID: string(m.id), Agent: agent.ID, State: store.MachineWanted, Boot: "x"}))
	}); err != nil {
		t.Fatal(err)
	}
	r.Stand(agent.ID, m)
	for range 5 {
		r.StopIdle(t.Context())
	}
	row, err := r.Store.Machine(t.Context(), agent.ID)
	if err != nil || row.State != store.MachineHibernated || m.asked != 3 {
		t.Errorf("after being asked to stop %d times, want 3, the machine is %+v, %v", m.asked, row, err)
	}
}

// mute is a driver of one machine, which runs and whose guest does not answer.
type mute struct {
	*shelf
	dialed, stopped chan struct{}
}

func (d mute) Create(_ context.Context, id machine.ID, _ machine.Spec) (machine.Machine, error) {
	return muted{shelved{d.shelf, id}, d}, nil
}
func (d mute) Open(_ context.Context, h machine.Handle) (machine.Machine, error) {
	return muted{shelved{d.shelf, h.ID}, d}, nil
}

type muted struct {
	shelved
	driver mute
}

func (m muted) Dial(ctx context.Context) (net.Conn, error) {
	m.driver.dialed <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}
func (m muted) Hibernate(context.Context) error {
	m.driver.stopped <- struct{}{}
	return nil
}

// TestMachineThatCannotBeOpenedSleeps has machines run to which there is no line,
// because a visitor goes before it stands, and because a new server cannot read
// the agent's repository: they are stopped as any idle machine.
func TestMachineThatCannotBeOpenedSleeps(t *testing.T) {
	repo := []errand.Repository{{URL: "https://git.example/gone.git"}}
	for _, agent := range []errand.Agent{
		{ID: errand.NewAgentID(), Status: errand.AgentIdle, Caller: caller},
		{ID: errand.NewAgentID(), Status: errand.AgentIdle, Caller: caller, Repositories: repo, Base: "0123456789012345678901234567890123456789"},
	} {
		driver := mute{newShelf(), make(chan struct{}, 10), make(chan struct{}, 10)}
		r := bare(t, driver)
		r.Defaults.Idle = time.Millisecond
		id := machine.ID("m-" + strings.ReplaceAll(string(agent.ID[len("bc-"):]), "-", ""))
		driver.put(id)
		row := store.Machine{ID: string(id), Agent: agent.ID, State: store.MachineWanted}
		if agent.Repositories != nil {
			row.Handle = `{"driver": "shelf", "id": "` + string(id) + `"}`
		}
		if err := r.Store.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(tx.InsertAgent(agent, ""), tx.PutMachine(row)) }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		if agent.Repositories == nil {
			visit, leave := context.WithCancel(t.Context())
			go func() { <-driver.dialed; leave() }()
			if err := r.Wake(visit, caller, agent.ID); err == nil {
				t.Error("a machine that does not answer was woken")
			}
		}
		select {
		case <-driver.stopped:
		case <-time.After(20 * time.Second):
			t.Errorf("the machine of %+v runs on", agent)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// TestBuildsOfADeletedAgent deletes an agent in whose run builds came about: the
// one under way ends with it, and one that succeeded stays everybody's to
// activate and to deactivate, with a log that tells so.
func TestBuildsOfADeletedAgent(t *testing.T) {
	r := bare(t, newShelf())
	e, err := r.Builds.Create(t.Context(), caller, builds.NewEnvironment{Name: "web", JSON: `{"install": "true"}`})
	if err != nil {
		t.Fatal(err)
	}
	agent := errand.Agent{ID: errand.NewAgentID(), Status: errand.AgentActive, Caller: caller}
	run := errand.Run{ID: errand.NewRunID(), Agent: agent.ID, Status: errand.RunQueued}
	done := errand.Build{ID: errand.NewBuildID(time.Now()), Environment: e.ID, Version: e.Version, Status: errand.BuildSucceeded, Agent: agent.ID, Run: run.ID}
	open := done
	open.ID, open.Status = errand.NewBuildID(time.Now()), errand.BuildRunning
	if err := r.Store.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.InsertAgent(agent, ""), tx.InsertRun(run), tx.InsertBuild(done), tx.InsertBuild(open))
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), caller, agent.ID); err != nil {
		t.Fatal(err)
	}
	r.Wait()
	if b, err := r.Store.Build(t.Context(), open.ID); err != nil || b.Status != errand.BuildCancelled || b.EndedAt.IsZero() {
		t.Errorf("the build that was under way is %+v, %v", b, err)
	}
	if err := r.Builds.Activate(t.Context(), caller, e.ID, done.ID); err != nil {
		t.Errorf("activating: %v", err)
	}
	if err := r.Builds.Deactivate(t.Context(), caller, e.ID, done.ID); err != nil {
		t.Errorf("deactivating: %v", err)
	}
	var told []bool
	for event, err := range r.Builds.Follow(t.Context(), done, 0) {
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, read[errand.BuildStatusData](t, event).Active)
	}
	if !slices.Equal(told, []bool{true, false}) {
		t.Errorf("the build's log tells of %v", told)
	}
}
