package environment_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci"
)

var errKilled = errors.New("killed")

// slow is project with an install that prints slowly, so that a kill can come
// between two of its lines.
var slow = map[string]string{
	".errand/environment.json": `{ "install": "sh install.sh" }`,
	"install.sh":               "echo ran >>/opt/trace; for i in 1 2 3 4 5 6; do echo out $i; echo err $i >&2; sleep 0.06; done",
}

func slowOutput() string {
	var b strings.Builder
	for _, stream := range []string{"out", "err"} {
		for i := range 6 {
			fmt.Fprintf(&b, "%s %d\n", stream, i+1)
		}
	}
	return b.String()
}

// checkWhole holds that a preparation which was killed left the same as one
// that was not: the same journal, one install, a snapshot without the agent's
// own branch.
func checkWhole(t *testing.T, a *agent, ready *environment.Ready) {
	t.Helper()
	if diff := cmp.Diff(whole, a.story()); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(slowOutput(), a.output()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if got := in(t, ready, "cat /opt/trace; git branch --format='%(refname:short)'"); got != "ran\n"+a.branch {
		t.Errorf("the machine has %q", got)
	}
	kept, err := a.driver.ListSnapshots(t.Context())
	if name := a.kept(); err != nil || !slices.ContainsFunc(kept, func(s machine.Snapshot) bool { return environment.Short(s.Key) == name }) {
		t.Errorf("there is no snapshot %s: %v, %v", name, kept, err)
	}
}

// kept gives the short name of the snapshot that the journal tells of.
func (a *agent) kept() (name string) {
	for _, e := range a.events {
		if d, ok := decode(a.t, e).(*errand.PhaseEnded); ok && d.Phase == errand.PhaseSnapshot {
			name = d.Note
		}
	}
	return name
}

// restart lets go of what a killed process had.
func (a *agent) restart() {
	a.close()
	a.onRecord = nil
}

// fresh gives an agent whose install nobody has run.
func (h *host) fresh(n int) *agent {
	h.push(map[string]string{"package.json": fmt.Sprint(n)})
	return h.agent(fmt.Sprint("a", n))
}

// TestPrepareKilledAtEachRecord kills a preparation whenever it records
// something, before it is kept or after, and enters it again until it gets
// through.
func TestPrepareKilledAtEachRecord(t *testing.T) {
	h := newHost(t, oci.Runc, slow)
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("kept ", after), func(t *testing.T) {
			h.t = t
			a := h.agent(fmt.Sprint("kept-", after))
			if after {
				a = h.fresh(1)
			}
			seen := 0 // facts of Prepare that were there when it was killed last
			for kills := 0; ; kills++ {
				ctx, kill := context.WithCancel(t.Context())
				a.onRecord = func(_ int, kept bool) error {
					told := a.told()
					if kept != after || !after && told <= seen {
						return nil
					}
					seen = told
					kill()
					return errKilled
				}
				_, err := a.prepare(ctx)
				kill()
				a.restart()
				if errors.Is(err, context.Canceled) || errors.Is(err, errKilled) {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if kills < 12 {
					t.Errorf("it was killed %d times, want at least 12", kills)
				}
				ready, err := a.prepare(t.Context()) // with a line again
				if err != nil {
					t.Fatal(err)
				}
				checkWhole(t, a, ready)
				return
			}
		})
	}
}

// enduring is a driver whose Create goes to its end whatever becomes of the
// caller, as that of a killed process does: engines run in sessions of their own.
type enduring struct{ *oci.Driver }

func (d enduring) Create(ctx context.Context, id machine.ID, spec machine.Spec) (machine.Machine, error) {
	m, err := d.Driver.Create(context.WithoutCancel(ctx), id, spec)
	return m, errors.Join(err, ctx.Err())
}

// TestPrepareKilledAtRandom kills preparations several times each, at moments
// that have nothing to do with what is recorded.
func TestPrepareKilledAtRandom(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			h := newHost(t, engine, slow)
			for n := range 4 {
				seed := rand.Uint64()
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
					h.t = t
					random := rand.New(rand.NewPCG(seed, 0))
					a := h.fresh(n)
					a.change = func(p *environment.Preparation) { p.Driver = enduring{h.driver} }
					for range 3 {
						ctx, kill := context.WithTimeoutCause(t.Context(), time.Duration(random.IntN(400))*time.Millisecond, errKilled)
						_, err := a.prepare(ctx)
						kill()
						if err != nil && context.Cause(ctx) == nil {
							t.Fatal(err)
						}
						a.restart()
					}
					ready, err := a.prepare(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					checkWhole(t, a, ready)
				})
			}
		})
	}
}

// TestPrepareMachineEndsInInstall ends the machine in the middle of install:
// the run is told, and entering it again runs install again.
func TestPrepareMachineEndsInInstall(t *testing.T) {
	h := newHost(t, oci.Runc, slow)
	a := h.agent("a")
	var once sync.Once
	a.onRecord = func(int, bool) error {
		if strings.Contains(a.output(), "out 2") {
			once.Do(func() {
				m, err := h.driver.Open(t.Context(), machineHandle(a))
				if err != nil {
					t.Error(err)
				}
				if err := m.(hibernator).Hibernate(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	}
	_, err := a.prepare(t.Context())
	wantCode(t, err, "machine_lost")
	a.restart()
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := in(t, ready, "cat /opt/trace"); got != "ran\nran" {
		t.Errorf("traces %q, want two", got)
	}
	began := 0
	for i, e := range a.events {
		if d, ok := decode(t, e).(*errand.PhaseStarted); ok && d.Phase == errand.PhaseInstall {
			began = i
		}
	}
	a.events = a.events[began:]
	if diff := cmp.Diff(slowOutput(), a.output()); diff != "" {
		t.Errorf("output since install began again (-want +got):\n%s", diff)
	}
}

// TestPrepareNextRuns prepares the same machine for later runs: while it runs,
// after it slept, and when its snapshot has been removed.
func TestPrepareNextRuns(t *testing.T) {
	h := newHost(t, oci.Runc, slow)
	a := h.agent("a")
	ready, err := a.prepare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in(t, ready, "echo work >work.txt")
	key := ready.Key
	cached := []string{
		"machine", "machine cached", "image", "image cached", "install", "install cached", "snapshot", "snapshot cached",
		"checkout", "checkout cached", "start", "start cached", "terminals", "terminals cached",
	}
	steps := []struct {
		name string
		do   func() error
		want []string
	}{
		{"running", func() error { return nil }, cached},
		{"asleep", func() error { return ready.Machine.(hibernator).Hibernate(t.Context()) }, replaced(cached, "checkout cached", "checkout done")},
		{"snapshot removed", func() error { return h.driver.RemoveSnapshot(t.Context(), key) }, cached},
		{"registry down", func() error {
			a.change = func(p *environment.Preparation) {
				p.Resolve = func(context.Context, string) (string, error) { return "", errors.New("no route") }
			}
			return nil
		}, cached},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			a.nextRun()
			if ready, err = a.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(step.want, a.story()); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
			if ready.Key != "" {
				t.Errorf("the key is %q, of which only the machine's disk tells", ready.Key)
			}
			if got := in(t, ready, "cat /opt/trace work.txt"); got != "ran\nwork" {
				t.Errorf("the machine has %q", got)
			}
		})
	}
}

// TestPrepareManyAtOnce lets several agents want the same install: it runs once.
func TestPrepareManyAtOnce(t *testing.T) {
	h := newHost(t, oci.Runc, slow)
	var all sync.WaitGroup
	agents := make([]*agent, 4)
	for i := range agents {
		agents[i] = h.agent(fmt.Sprint("a", i))
		all.Go(func() {
			if _, err := agents[i].prepare(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	ran := 0
	for _, a := range agents {
		if a.output() != "" {
			ran++
		}
	}
	if ran != 1 {
		t.Errorf("install ran %d times for %d agents, want once", ran, len(agents))
	}
}
