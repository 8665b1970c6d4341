// Package machinetest is the contract that every machine.Driver passes.
//
// A driver's own test says how to open it and what a machine is made of; Test
// then does to it what the server does, and worse: the same machine is created
// twice and at once, its processes are killed from outside, and the process
// that holds the driver is killed with -9 at moments nobody chose. After each
// of these, what was promised must hold and nothing may be left on the host.
//
// The package tests through the guest, as the product does. It does not test
// the guest itself, nor what a driver offers beyond the interfaces of package
// machine.
package machinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
)

// Subject is a driver under test.
type Subject struct {
	// Name tells subjects of one test program apart.
	Name string
	// Open gives the driver that keeps its things in dir. A second call for
	// the same dir is what a server does after its restart.
	Open func(dir string) (Driver, error)
	// Spec makes a machine that starts fast and has a shell. Limits are left
	// to the tests.
	Spec machine.Spec
	// KillOutside ends the machine's processes behind the driver's back.
	KillOutside func(m machine.Machine) error
	// Processor gives how much processor time the host has charged to the
	// machine. What is counted inside a machine may include the time in which it
	// was kept waiting.
	Processor func(m machine.Machine) (time.Duration, error)
	// Leftovers lists what dir's driver has left on the host outside of dir:
	// mounts, namespaces, processes. Nothing is right when no machine is.
	Leftovers func(dir string) ([]string, error)
}

// Driver is a machine.Driver that can be let go of.
type Driver interface {
	machine.Driver
	io.Closer
}

// limit is how long any one step may take.
const limit = 60 * time.Second

// Test runs the whole contract. Main must have been called from TestMain.
func Test(t *testing.T, s Subject) {
	tests := []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"lifecycle", testLifecycle},
		{"create at once", testCreateAtOnce},
		{"inside", testInside},
		{"bad setup", testBadSetup},
		{"killed outside", testKilledOutside},
		{"hibernate", testHibernate},
		{"snapshot", testSnapshot},
		{"limits", testLimits},
		{"link", testLink},
		{"restart", testRestart},
		{"crash", testCrash},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

// open opens the subject's driver in dir and sees at the end of the test that
// nothing is left of it.
func open(t *testing.T, s Subject, dir string) Driver {
	t.Helper()
	d, err := s.Open(dir)
	if err != nil {
		t.Fatalf("opening driver: %v", err)
	}
	t.Cleanup(func() { clear(t, s, d, dir) })
	return d
}

// clear destroys all machines and snapshots and checks that nothing is left.
func clear(t *testing.T, s Subject, d Driver, dir string) {
	ctx := context.Background()
	handles, err := d.List(ctx)
	if err != nil {
		t.Errorf("listing machines: %v", err)
	}
	for _, h := range handles {
		m, err := d.Open(ctx, h)
		if errors.Is(err, machine.ErrNotFound) {
			continue
		}
		if err != nil {
			t.Errorf("opening machine: %v", err)
			continue
		}
		if err := m.Destroy(ctx); err != nil {
			t.Errorf("destroying machine: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Errorf("closing driver: %v", err)
	}
	left, err := s.Leftovers(dir)
	if err != nil {
		t.Errorf("looking for leftovers: %v", err)
	}
	if len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// create makes a machine of the subject's kind.
func create(t *testing.T, s Subject, d machine.Driver, id machine.ID, change ...func(*machine.Spec)) machine.Machine {
	t.Helper()
	spec := s.Spec
	for _, f := range change {
		f(&spec)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	m, err := d.Create(ctx, id, spec)
	if err != nil {
		t.Fatalf("creating %s: %v", id, err)
	}
	return m
}

func withLimits(l errand.Limits) func(*machine.Spec) {
	return func(s *machine.Spec) { s.Limits = l }
}

// line opens a line to the machine's guest.
func line(t *testing.T, m machine.Machine) *guest.Line {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l, err := openLine(ctx, m)
	if err != nil {
		t.Fatalf("opening line to %s: %v", m.Handle().ID, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func openLine(ctx context.Context, m machine.Machine) (*guest.Line, error) {
	return guest.Open(ctx, m.Dial, guest.Options{Gone: func(err error) bool {
		return errors.Is(err, machine.ErrStopped) || errors.Is(err, machine.ErrNotFound)
	}})
}

// sh runs a shell command and gives what it printed, without the last newline.
// It fails the test if the command fails.
func sh(t *testing.T, l *guest.Line, command string) string {
	t.Helper()
	out, exit, err := try(t.Context(), l, command)
	if err != nil || exit.Code != 0 {
		t.Fatalf("running %q: exit %+v, error %v\n%s", command, exit, err, out)
	}
	return out
}

// try runs a shell command.
func try(ctx context.Context, l *guest.Line, command string) (string, guest.Exit, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out bytes.Buffer
	c := guest.Command{ID: fmt.Sprintf("sh-%d", time.Now().UnixNano()), Args: []string{"sh", "-c", command}}
	exit, err := l.Run(ctx, c, func(o guest.Output) { out.Write(o.Data) })
	return strings.TrimSuffix(out.String(), "\n"), exit, err
}

// holds says whether the machine claims to enforce what word names.
func holds(m machine.Machine, word string) bool {
	r, ok := m.(machine.Reporter)
	return ok && !slices.ContainsFunc(r.Report().Unenforced, func(sentence string) bool {
		return strings.Contains(strings.ToLower(sentence), word)
	})
}

func listed(t *testing.T, d machine.Driver) []machine.ID {
	t.Helper()
	handles, err := d.List(t.Context())
	if err != nil {
		t.Fatalf("listing machines: %v", err)
	}
	var ids []machine.ID
	for _, h := range handles {
		ids = append(ids, h.ID)
	}
	slices.Sort(ids)
	return ids
}
