//go:build linux

package oci

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/errand-dev/errand/machine"
)

// The name of one machine may be the beginning of another's, which runsc takes
// for an abbreviation.
func TestNamesThatBeginAlike(t *testing.T) {
	need(t, GVisor)
	d := testDriver(t)
	short, long, longer := mustCreate(t, d, "m", machine.Spec{}), mustCreate(t, d, "m-1", machine.Spec{}), mustCreate(t, d, "m-10", machine.Spec{})
	for _, m := range []machine.Machine{long, short} {
		if err := m.Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := run(t, longer, "echo well"); got != "well" {
		t.Errorf("the machine that was left printed %q", got)
	}
}

// An engine's program that fails has done well if nothing is left: somebody
// else, of an earlier server, was faster.
func TestRemoveIsDoneWhenNothingIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name, program string
		fails         bool
	}{
		{"gone", "#!/bin/sh\nrm -rf \"$2/m.\"\necho id is ambiguous >&2\nexit 1\n", false},
		{"left", "#!/bin/sh\necho id is ambiguous >&2\nexit 1\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			e := engine{name: Runc, program: filepath.Join(dir, "program"), state: filepath.Join(dir, "state")}
			if err := os.WriteFile(e.program, []byte(tt.program), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(e.state, nameOf("m")), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := e.remove(t.Context(), "m", filepath.Join(dir, "log"), false, nil); (err != nil) != tt.fails {
				t.Errorf("removing: %v", err)
			}
		})
	}
}

// What a killed server had open is closed a moment after its end.
func TestLinkWaitsForItsHolder(t *testing.T) {
	need(t, Runc)
	d := testDriver(t)
	m := mustCreate(t, d, "held", machine.Spec{Engine: Runc}).(*Machine)
	first, err := m.Link(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	time.AfterFunc(100*time.Millisecond, func() { closed <- first.File.Close() })
	second, err := m.Link(t.Context())
	if err := errors.Join(err, <-closed); err != nil {
		t.Fatal(err)
	}
	if err := second.File.Close(); err != nil {
		t.Error(err)
	}
}

// A lock whose machine is not there was left by a process that was killed.
func TestLeftLocks(t *testing.T) {
	need(t, Runc)
	dir := t.TempDir()
	d, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := mustCreate(t, d, "there", machine.Spec{Engine: Runc})
	for _, name := range []string{"left", "held"} {
		if err := os.WriteFile(d.path("locks", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := d.lock(t.Context(), "held") // as a program does that outlived its server
	if err != nil {
		t.Fatal(err)
	}
	again, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	if names := namesIn(t, d.path("locks")); !slices.Equal(names, []string{"held", "there"}) {
		t.Errorf("after an opening there are %q", names)
	}
	unlock()
	if err := m.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(again.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	if names := namesIn(t, d.path("locks")); len(names) > 0 {
		t.Errorf("at the end there are %q", names)
	}
}

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What a snapshot leaves to be cleared away is waited for by whoever wants the
// machine next.
func TestSnapshotIsClearedAwayBehind(t *testing.T) {
	for _, engine := range []string{GVisor, Runc} {
		t.Run(engine, func(t *testing.T) {
			need(t, engine)
			d := testDriver(t)
			m := mustCreate(t, d, "kept", machine.Spec{Engine: engine}).(*Machine)
			run(t, m, "echo here > /srv/file")
			l, err := d.loadLive(m.id)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Snapshot(t.Context(), "ef"); err != nil {
				t.Fatal(err)
			}
			if (l.Gofer != nil) != (engine == GVisor) {
				t.Errorf("the gofer is %v", l.Gofer)
			}
			other := mustCreate(t, d, "other", machine.Spec{Engine: engine, From: "ef"})
			if got := run(t, other, "cat /srv/file"); got != "here" {
				t.Errorf("on the snapshot, the file has %q", got)
			}
			if err := m.Hibernate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if l.Alive() || l.Gofer != nil && l.Gofer.Alive() {
				t.Error("a process of the machine is still there")
			}
			if d.engines[engine].knows(m.id) {
				t.Error("the engine still knows the machine")
			}
			if _, err := os.Stat(d.runDir(m.id)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the run directory is still there: %v", err)
			}
		})
	}
}
