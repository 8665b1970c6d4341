//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/imagetest"
)

// ownImages gives a driver whose image store is nobody else's, so that its
// layers can be swept.
func ownImages(t *testing.T) *Driver {
	t.Helper()
	d, err := New(Options{Dir: t.TempDir(), Images: mustImages(t), Guest: guesttest.Program(t, "errand-guest"), Runsc: guesttest.Program(t, "runsc")})
	if err != nil {
		t.Fatal(err)
	}
	emptyAtEnd(t, d)
	return d
}

func TestStored(t *testing.T) {
	need(t, Runc)
	d := ownImages(t)
	ref := imagetest.Push(t, imagetest.Loopback(t), "tool", toolImage(t))
	key, _ := twoDisks(t, d, Runc, ref)
	for _, id := range []machine.ID{"first", "second"} {
		if err := (&Machine{driver: d, id: id}).Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s, err := d.Stored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Snapshots) != 2 || s.Snapshots[1].Key != key || len(s.Images) != 1 || len(s.Machines) != 1 {
		t.Fatalf("stored: %+v", s)
	}
	var kinds []string
	for _, l := range s.Snapshots[1].Layers {
		kinds = append(kinds, string(l.Kind))
		if l.Size <= 0 {
			t.Errorf("layer %s takes %d bytes", l.ID, l.Size)
		}
	}
	if got := strings.Join(kinds, " "); got != "image image disk disk" {
		t.Errorf("the snapshot is made of %s", got)
	}
	if m := s.Machines[0]; m.From != key || !m.Running || len(m.Layers) != 5 {
		t.Errorf("the machine is %+v", m)
	}
	if s.Free <= 0 || s.Images[0].Used.IsZero() || s.Images[0].Reference != s.Snapshots[0].Image {
		t.Errorf("stored: %+v", s)
	}
}

// Names go first, and what no name leads to goes when no machine needs it.
func TestSweep(t *testing.T) {
	need(t, Runc)
	d := ownImages(t)
	ref := imagetest.Push(t, imagetest.Loopback(t), "tool", toolImage(t))
	key, sees := twoDisks(t, d, Runc, ref)
	stored, err := d.Stored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, snap := range stored.Snapshots {
		if err := d.RemoveSnapshot(t.Context(), snap.Key); err != nil {
			t.Fatal(err)
		}
	}
	for _, img := range stored.Images {
		if err := d.RemoveImage(t.Context(), img.Reference); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := d.Sweep(t.Context()); err != nil || len(gone) > 0 {
		t.Errorf("swept under machines: %v, %v", gone, err)
	}
	m := &Machine{driver: d, id: "third"}
	if err := m.Hibernate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := tool(t, mustCreate(t, d, "third", machine.Spec{}), "tree", "/srv", "/data", "/bin"); got != sees {
		t.Errorf("after the sweep the machine sees\n%s\nnot\n%s", got, sees)
	}
	if _, err := d.Create(t.Context(), "late", machine.Spec{Engine: Runc, From: key}); errand.KindOf(err) != errand.NotFound {
		t.Errorf("a machine on a removed snapshot: %v, want snapshot_missing", err)
	}
	for _, id := range []machine.ID{"first", "second", "third", "late"} {
		if err := (&Machine{driver: d, id: id}).Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := d.Sweep(t.Context())
	if err != nil || len(gone) != 2 || gone[0].Size <= 0 {
		t.Errorf("swept at the end: %v, %v, want the image's two layers", gone, err)
	}
}

// What is in use is never taken, however machines come and go meanwhile.
func TestCollectingAllTheTime(t *testing.T) {
	image := toolImage(t)
	for _, engine := range []string{Runc, GVisor} {
		t.Run(engine, func(t *testing.T) {
			need(t, engine)
			d := ownImages(t)
			ref := imagetest.Push(t, imagetest.Loopback(t), "tool", image)
			ctx, stop := context.WithCancel(t.Context())
			var collecting, making sync.WaitGroup
			collecting.Go(func() { collect(ctx, t, d) })
			for worker := range 2 {
				making.Go(func() { comeAndGo(t, d, engine, ref, worker) })
			}
			making.Wait()
			stop()
			collecting.Wait()
			collectOnce(t.Context(), t, d, true)
			if left, err := os.ReadDir(d.path("disks")); err != nil || len(left) > 0 {
				t.Errorf("disks that nobody needs are left: %v, %v", left, err)
			}
		})
	}
}

// collect removes all names that there are, and sweeps, until ctx ends.
func collect(ctx context.Context, t *testing.T, d *Driver) {
	imagesAt := time.Now()
	for ctx.Err() == nil {
		images := time.Since(imagesAt) > 100*time.Millisecond // a machine's third try finds its image
		if images {
			imagesAt = time.Now()
		}
		collectOnce(t.Context(), t, d, images)
	}
}

func collectOnce(ctx context.Context, t *testing.T, d *Driver, images bool) {
	stored, err := d.Stored(ctx)
	for _, snap := range stored.Snapshots {
		err = errors.Join(err, d.RemoveSnapshot(ctx, snap.Key))
	}
	for _, img := range stored.Images {
		if images {
			err = errors.Join(err, d.RemoveImage(ctx, img.Reference))
		}
	}
	_, sweepErr := d.Sweep(ctx)
	if err := errors.Join(err, sweepErr); err != nil {
		t.Errorf("collecting: %v", err)
	}
}

// lasting takes away what gVisor tells otherwise after a stop: pipes, which it
// keeps in memory, and the last digits of times.
func lasting(tree string) string {
	return regexp.MustCompile(`(?m)^.* prw.*\n| \d{19}`).ReplaceAllString(tree, "")
}

// comeAndGo makes machines, keeps their disks and makes machines on those.
func comeAndGo(t *testing.T, d *Driver, engine, ref string, worker int) {
	limits := errand.Limits{Disk: 64 << 20}
	for round := range 2 {
		id := machine.ID(fmt.Sprintf("m-%d-%d", worker, round))
		other := "on-" + id
		m, err := d.Create(t.Context(), id, machine.Spec{Engine: engine, Image: ref, Limits: limits})
		if err != nil {
			t.Errorf("making %s: %v", id, err)
			return
		}
		tool(t, m, "first")
		sees := tool(t, m, "tree", "/srv", "/data")
		key := machine.SnapshotKey(fmt.Sprintf("%d-%d", worker, round))
		if err := m.(*Machine).Snapshot(t.Context(), key); err != nil {
			t.Errorf("keeping %s: %v", id, err)
			return
		}
		on, err := d.Create(t.Context(), other, machine.Spec{Engine: engine, From: key, Limits: limits})
		if err == nil {
			if diff := cmp.Diff(lasting(sees), lasting(tool(t, on, "tree", "/srv", "/data"))); diff != "" {
				t.Errorf("machine %s does not see what the snapshot had (-want +got):\n%s", other, diff)
			}
		}
		if err != nil && errand.KindOf(err) != errand.NotFound {
			t.Errorf("making a machine on %s: %v", key, err)
		}
		if m, err = d.Create(t.Context(), id, machine.Spec{}); err != nil {
			t.Errorf("waking %s: %v", id, err)
			return
		}
		if diff := cmp.Diff(lasting(sees), lasting(tool(t, m, "tree", "/srv", "/data"))); diff != "" {
			t.Errorf("%s does not see what it had (-want +got):\n%s", id, diff)
		}
		for _, each := range []machine.ID{id, other} {
			if err := (&Machine{driver: d, id: each}).Destroy(t.Context()); err != nil {
				t.Errorf("destroying %s: %v", each, err)
			}
		}
	}
}

// A note that a kill tore is made again, whole.
func TestTornSize(t *testing.T) {
	guesttest.Root(t)
	guesttest.Program(t, "errand-guest")
	guesttest.Program(t, "runsc")
	d := testDriver(t)
	disk := newDiskID()
	upper, noted := d.path("disks", disk, "upper"), d.path("disks", disk, sizeName)
	if err := mkdirs(0o755, upper); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(upper, "file"), make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, torn := range []string{"", "12x"} {
		if err := os.WriteFile(noted, []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := os.Stat(noted)
		if err != nil {
			t.Fatal(err)
		}
		layer, err := d.diskLayer(disk, true)
		if err != nil || layer.Size < 100<<10 {
			t.Errorf("with a note of %q: %+v, %v", torn, layer, err)
		}
		if after, err := os.Stat(noted); err != nil || os.SameFile(before, after) {
			t.Errorf("the note was written in place: %v", err)
		}
		if again, err := d.diskLayer(disk, false); err != nil || again != layer {
			t.Errorf("by the note: %+v, %v, want %+v", again, err, layer)
		}
	}
}
