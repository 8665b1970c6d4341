//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/mount"
)

// run gives what a shell command prints on the machine.
func run(t *testing.T, m machine.Machine, command string) string {
	t.Helper()
	l, err := guest.Open(t.Context(), m.Dial, guest.Options{Gone: func(err error) bool { return errors.Is(err, machine.ErrStopped) }})
	if err != nil {
		t.Fatalf("opening line: %v", err)
	}
	defer l.Close()
	var out strings.Builder
	c := guest.Command{ID: newDiskID(), Args: []string{"sh", "-c", command}}
	exit, err := l.Run(t.Context(), c, func(o guest.Output) { out.Write(o.Data) })
	if err != nil || exit.Code != 0 {
		t.Fatalf("running %q: exit %+v, error %v: %s", command, exit, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

// testDriver opens a driver and empties it at the end.
func testDriver(t *testing.T) *Driver {
	t.Helper()
	d, err := openIn(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	emptyAtEnd(t, d)
	return d
}

func emptyAtEnd(t *testing.T, d *Driver) {
	t.Cleanup(func() {
		ctx := context.Background()
		handles, err := d.List(ctx)
		for _, h := range handles {
			err = errors.Join(err, (&Machine{driver: d, id: h.ID}).Destroy(ctx))
		}
		keys, keysErr := d.snapshotKeys()
		for _, key := range keys {
			err = errors.Join(err, d.RemoveSnapshot(ctx, key))
		}
		if err := errors.Join(err, keysErr, d.Close()); err != nil {
			t.Errorf("clearing driver: %v", err)
		}
	})
}

func mustCreate(t *testing.T, d *Driver, id machine.ID, spec machine.Spec) machine.Machine {
	t.Helper()
	m, err := d.Create(t.Context(), id, spec)
	if err != nil {
		t.Fatalf("creating %s: %v", id, err)
	}
	return m
}

// Only a host that has not what it takes goes without the limit; whatever else
// goes wrong is an error, and the next try finds it mended.
func TestDiskBounds(t *testing.T) {
	guesttest.Root(t)
	guesttest.Program(t, "errand-guest")
	guesttest.Program(t, "runsc")
	d := testDriver(t)
	programs := t.TempDir()
	t.Setenv("PATH", programs)
	bounded := &record{ID: "bounded", Disk: newDiskID(), Limits: errand.Limits{Disk: 64 << 20}}
	if err := d.makeDisk(t.Context(), bounded); err != nil || !strings.Contains(bounded.Unbounded, "e2fsprogs") {
		t.Errorf("without mkfs: %v, unbounded for %q", err, bounded.Unbounded)
	}
	mkfs := filepath.Join(programs, "mkfs.ext4")
	for _, test := range []struct {
		script string
		limit  int64
		says   string
	}{
		{"#!/bin/sh\necho no space left; exit 1\n", 64 << 20, "no space left"},
		{"#!/bin/sh\n", math.MaxInt64, "making room"},
	} {
		if err := os.WriteFile(mkfs, []byte(test.script), 0o755); err != nil {
			t.Fatal(err)
		}
		r := &record{ID: "failing", Disk: newDiskID(), Limits: errand.Limits{Disk: test.limit}}
		if err := d.makeDisk(t.Context(), r); err == nil || !strings.Contains(err.Error(), test.says) || r.Unbounded != "" {
			t.Errorf("error %v, unbounded for %q, want an error that says %q", err, r.Unbounded, test.says)
		}
		if _, err := os.Stat(d.path("disks", r.Disk, "upper")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a disk without a limit was made: %v", err)
		}
	}
}

// Disks hold the ids of the machine's inside whatever the engine, so a
// snapshot of one engine is one of the other.
func TestSnapshotAcrossEngines(t *testing.T) {
	need(t, GVisor)
	need(t, Runc)
	for _, engines := range [][2]string{{Runc, GVisor}, {GVisor, Runc}} {
		t.Run(engines[0]+" to "+engines[1], func(t *testing.T) {
			d := testDriver(t)
			first := mustCreate(t, d, "first", machine.Spec{Engine: engines[0]})
			run(t, first, "mkdir -p /srv/a/b; echo mine > /srv/a/b/c; chown 12:34 /srv/a/b/c; chmod 4750 /srv/a/b/c; rm /usr/bin/env")
			if err := first.(*Machine).Snapshot(t.Context(), "ab"); err != nil {
				t.Fatal(err)
			}
			second := mustCreate(t, d, "second", machine.Spec{Engine: engines[1], From: "ab"})
			got := run(t, second, "stat -c '%u:%g %a' /srv/a/b/c; test -e /usr/bin/env || echo gone; mv /srv/a /srv/z; cat /srv/z/b/c")
			if want := "12:34 4750\ngone\nmine"; got != want {
				t.Errorf("on the other engine: %q, want %q", got, want)
			}
		})
	}
}

// Root in a machine under runc must be nobody on the host, and no two machines
// the same nobody.
func TestRuncRootIsNobody(t *testing.T) {
	need(t, Runc)
	d := testDriver(t)
	seen := map[string]bool{}
	for _, id := range []machine.ID{"one", "two"} {
		m := mustCreate(t, d, id, machine.Spec{Engine: Runc})
		for _, sentence := range m.(*Machine).Report().Unenforced {
			if strings.Contains(sentence, "root on the host") {
				t.Skip(sentence)
			}
		}
		fields := strings.Fields(run(t, m, "cat /proc/self/uid_map"))
		if len(fields) != 3 || fields[1] == "0" || seen[fields[1]] {
			t.Errorf("machine %s has the ids %v; seen before: %v", id, fields, seen)
		}
		seen[fields[1]] = true
	}
}

// What a machine puts in its socket's place must not lead our connection
// anywhere else.
func TestDialFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/var/run/docker.sock", filepath.Join(dir, lineName)); err != nil {
		t.Fatal(err)
	}
	if _, err := dialLine(t.Context(), dir); err == nil {
		t.Error("a symbolic link was followed")
	}
	os.Remove(filepath.Join(dir, lineName))
	if err := os.WriteFile(filepath.Join(dir, lineName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dialLine(t.Context(), dir); err == nil {
		t.Error("a plain file was taken for a socket")
	}
}

// A snapshot that was cut off after its intent was written is finished by the
// next to look, and the frozen disk is never written to again.
func TestSnapshotCutOff(t *testing.T) {
	need(t, Runc)
	d := testDriver(t)
	m := mustCreate(t, d, "cut", machine.Spec{Engine: Runc})
	run(t, m, "echo before > /srv/file")
	if err := m.(*Machine).Hibernate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := d.load("cut")
	if err != nil {
		t.Fatal(err)
	}
	frozen := r.Disk
	r.Freeze = &freeze{Key: "cd", Next: newDiskID()}
	if err := d.save(r); err != nil {
		t.Fatal(err)
	}
	m = mustCreate(t, d, "cut", machine.Spec{})
	if has, err := d.HasSnapshot(t.Context(), "cd"); err != nil || !has {
		t.Fatalf("HasSnapshot: %v, %v", has, err)
	}
	if r, err = d.load("cut"); err != nil || r.Disk == frozen {
		t.Fatalf("the machine goes on with its frozen disk: %v, %v", r, err)
	}
	if got := run(t, m, "cat /srv/file"); got != "before" {
		t.Errorf("the machine has %q", got)
	}
}

// A directory that was removed under its machines leaves them to nobody.
func TestOrphans(t *testing.T) {
	need(t, Runc)
	dir := filepath.Join(t.TempDir(), "gone")
	gone, err := openIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := mustCreate(t, gone, "orphan", machine.Spec{Engine: Runc})
	l, err := gone.loadLive("orphan")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := testDriver(t).Close(); err != nil { // waits for what New began
		t.Fatal(err)
	}
	if l.Alive() {
		t.Error("the machine still runs")
	}
	if points, err := mount.Under(gone.run); err != nil || len(points) > 0 {
		t.Errorf("still mounted: %v, %v", points, err)
	}
	if _, err := m.Dial(t.Context()); !errors.Is(err, machine.ErrStopped) {
		t.Errorf("Dial: %v, want ErrStopped", err)
	}
}

func TestTwentyAtOnce(t *testing.T) {
	need(t, Runc)
	d := testDriver(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := d.Create(t.Context(), machine.ID(fmt.Sprintf("crowd-%d", i)), machine.Spec{Engine: Runc}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestManyLayers(t *testing.T) {
	need(t, Runc)
	d := testDriver(t)
	spec := machine.Spec{Engine: Runc, Limits: errand.Limits{Disk: 64 << 20}}
	m := mustCreate(t, d, "tall", spec)
	const layers = 12
	for i := range layers {
		run(t, m, "echo x >> /srv/log; mkdir -p /srv/d; mv /srv/d /srv/e; mv /srv/e /srv/d")
		if err := m.(*Machine).Snapshot(t.Context(), machine.SnapshotKey(strings.Repeat("a", i+1))); err != nil {
			t.Fatal(err)
		}
		m = mustCreate(t, d, "tall", spec)
	}
	if got := run(t, m, "wc -l < /srv/log"); got != "12" {
		t.Errorf("on %d layers, the file has %s lines", layers, got)
	}
}

func TestInspect(t *testing.T) {
	need(t, Runc)
	d := testDriver(t)
	names := map[string]bool{}
	for _, f := range d.Inspect(t.Context()) {
		t.Logf("%+v", f)
		names[f.Name] = true
		if f.Detail == "" {
			t.Errorf("%s says nothing", f.Name)
		}
		if f.Needed && !f.OK {
			t.Errorf("%s is needed and not right: %s", f.Name, f.Detail)
		}
	}
	for _, name := range []string{"root", GVisor, Runc, "network", "cgroups", "disk limits", "user namespaces", "disk space"} {
		if !names[name] {
			t.Errorf("nothing is said of %s", name)
		}
	}
}
