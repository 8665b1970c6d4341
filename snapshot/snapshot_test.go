//go:build linux

package snapshot_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/imagetest"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/snapshot"
	"github.com/errand-dev/errand/store"
)

// victimVar tells the program that it is the process to be killed, and where.
const (
	victimVar   = "ERRAND_SNAPSHOT_VICTIM"
	registryVar = "ERRAND_SNAPSHOT_REGISTRY"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimVar); dir != "" {
		fmt.Println(victim(dir, os.Getenv(registryVar)))
		os.Exit(1) // only a signal ends it well
	}
	os.Exit(m.Run())
}

// keeper is snapshots on a real driver, which makes no machines.
type keeper struct {
	*snapshot.Snapshots
	driver *oci.Driver
	images *image.Store
	store  *store.Store
}

func open(ctx context.Context, dir string, quota int64) (k keeper, err error) {
	if k.images, err = image.Open(image.Options{Dir: filepath.Join(dir, "images")}); err != nil {
		return k, err
	}
	if k.driver, err = oci.New(oci.Options{Dir: filepath.Join(dir, "machines"), Images: k.images, Guest: "/bin/true"}); err != nil {
		return k, err
	}
	if k.store, err = store.Open(ctx, filepath.Join(dir, "errand.db")); err != nil {
		return k, err
	}
	k.Snapshots = snapshot.New(snapshot.Options{Driver: k.driver, Store: k.store, Quota: quota})
	return k, nil
}

func (k keeper) close(t *testing.T) {
	t.Helper()
	for _, c := range []io.Closer{k.driver, k.images, k.store} {
		if err := c.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
}

func openHere(t *testing.T, quota int64) keeper {
	t.Helper()
	k, err := open(t.Context(), t.TempDir(), quota)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.close(t) })
	return k
}

// serveImages gives a registry with n images of one shared layer and one of
// their own each, a megabyte or so both: HOST/app0, HOST/app1, …
func serveImages(t *testing.T, n int) (host string) {
	t.Helper()
	host = imagetest.Loopback(t)
	shared := layer(t, "shared")
	for i := range n {
		img, err := mutate.AppendLayers(empty.Image, shared, layer(t, fmt.Sprint("own-", i)))
		if err != nil {
			t.Fatal(err)
		}
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		file = file.DeepCopy()
		file.OS, file.Architecture = "linux", runtime.GOARCH
		if img, err = mutate.ConfigFile(img, file); err != nil {
			t.Fatal(err)
		}
		imagetest.Push(t, host, fmt.Sprint("app", i), img)
	}
	return host
}

func layer(t *testing.T, file string) v1.Layer {
	t.Helper()
	data := make([]byte, 1<<20)
	rand.Read(data)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Close()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func importApp(t *testing.T, k keeper, host string, i int, as string) errand.Snapshot {
	t.Helper()
	snap, err := k.Import(t.Context(), as, fmt.Sprintf("%s/app%d", host, i), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func TestNamesAndRemoval(t *testing.T) {
	guesttest.Root(t)
	host := serveImages(t, 2)
	k := openHere(t, 0)
	one, two := importApp(t, k, host, 0, "one"), importApp(t, k, host, 1, "")
	if one.Name != "one" || one.Pinned == "" || two.Pinned != "" {
		t.Errorf("imported: %+v and %+v", one, two)
	}
	if len(one.Layers) != 2 || !one.Layers[0].Shared || one.Shared < 1<<20 {
		t.Errorf("layers: %+v", one)
	}
	list, next, err := k.List(t.Context(), 1, "")
	if err != nil || len(list) != 1 || list[0].Key != two.Key || next != two.Key {
		t.Fatalf("first page: %+v, %q, %v", list, next, err)
	}
	if list, next, err = k.List(t.Context(), 1, next); err != nil || len(list) != 1 || list[0].Key != one.Key || next != "" {
		t.Errorf("second page: %+v, %q, %v", list, next, err)
	}
	if _, err := k.Rename(t.Context(), two.Key, "one"); errand.KindOf(err) != errand.Conflict {
		t.Errorf("a name twice: %v, want a conflict", err)
	}
	if _, err := k.Rename(t.Context(), two.Key, "no name/"); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := k.Remove(t.Context(), "one", false); errand.KindOf(err) != errand.Conflict {
		t.Errorf("removing a named one: %v, want a conflict", err)
	}
	if _, err := k.Rename(t.Context(), "one", ""); err != nil {
		t.Fatal(err)
	}
	if key, err := k.Remove(t.Context(), one.Key[:8], false); err != nil || key != one.Key {
		t.Errorf("removing by the key's beginning: %s, %v", key, err)
	}
	if _, err := k.Key(t.Context(), "one"); errand.KindOf(err) != errand.NotFound {
		t.Errorf("the name of a removed one: %v", err)
	}
	if _, err := k.Rename(t.Context(), two.Key, "one"); err != nil {
		t.Errorf("a name that is free again: %v", err)
	}
	if _, err := k.Remove(t.Context(), "one", true); err != nil {
		t.Errorf("by force: %v", err)
	}
}

// TestNameOfADiskThatIsGone removes a disk and leaves its row, as a process does
// that is killed in between: its name can be given again.
func TestNameOfADiskThatIsGone(t *testing.T) {
	host := serveImages(t, 2)
	k := openHere(t, 0)
	gone, kept := importApp(t, k, host, 0, "web"), importApp(t, k, host, 1, "other")
	if err := k.driver.RemoveSnapshot(t.Context(), machine.SnapshotKey(gone.Key)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Collect(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	rows, err := k.store.Snapshots(t.Context())
	if err != nil || len(rows) != 1 || rows[0].Key != kept.Key || rows[0].Name != "other" {
		t.Errorf("the rows are %+v, %v", rows, err)
	}
	if _, err := k.Rename(t.Context(), kept.Key, "web"); err != nil {
		t.Errorf("giving the name of a disk that is gone: %v", err)
	}
}

// Under a quota what was used last stays, and the record says what went.
func TestQuota(t *testing.T) {
	guesttest.Root(t)
	host := serveImages(t, 4)
	k := openHere(t, 7<<19) // 3.5 MB: the shared layer and two of their own
	var keys []string
	for i := range 2 {
		keys = append(keys, importApp(t, k, host, i, "").Key)
	}
	keys = append(keys, importApp(t, k, host, 2, "kept").Key)
	if err := forgetImages(k); err != nil {
		t.Fatal(err)
	}
	if err := k.Touch(t.Context(), machine.SnapshotKey(keys[0])); err != nil {
		t.Fatal(err)
	}
	dry, err := k.Collect(t.Context(), "A test looks.", true)
	if err != nil || !dry.DryRun {
		t.Fatal(err)
	}
	done, err := k.Collect(t.Context(), "A test asks.", false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(snapshotsOf(dry), snapshotsOf(done)); diff != "" {
		t.Errorf("what a dry run said and what went (-said +went):\n%s", diff)
	}
	if got := snapshotsOf(done); len(got) != 1 || got[0] != keys[1] || done.Short != 0 || done.Freed < 1<<20 {
		t.Errorf("went: %+v, want the snapshot %s", done, keys[1])
	}
	all, _, err := k.Collections(t.Context(), 10, 0)
	if err != nil || len(all) != 1 || all[0].Why != "A test asks." || len(all[0].Removed) != len(done.Removed) {
		t.Errorf("the record: %+v, %v", all, err)
	}
	if again, err := k.Collect(t.Context(), "Again.", false); err != nil || len(again.Removed) != 0 {
		t.Errorf("again: %+v, %v", again, err)
	}
}

// stuck is a driver that cannot remove one snapshot.
type stuck struct {
	*oci.Driver
	key machine.SnapshotKey
}

func (d stuck) RemoveSnapshot(ctx context.Context, key machine.SnapshotKey) error {
	if key == d.key {
		return errors.New("it is stuck")
	}
	return d.Driver.RemoveSnapshot(ctx, key)
}

// TestRemovalThatFails keeps nothing else from being removed, and is not on
// record.
func TestRemovalThatFails(t *testing.T) {
	guesttest.Root(t)
	host := serveImages(t, 2)
	k := openHere(t, 0)
	first, second := importApp(t, k, host, 0, ""), importApp(t, k, host, 1, "")
	if err := forgetImages(k); err != nil {
		t.Fatal(err)
	}
	o := k.Options
	o.Driver, o.Quota = stuck{k.driver, machine.SnapshotKey(first.Key)}, 1
	c, err := snapshot.New(o).Collect(t.Context(), "A test asks.", false)
	if err == nil || !strings.Contains(err.Error(), "it is stuck") {
		t.Errorf("it says %v", err)
	}
	if got := snapshotsOf(c); len(got) != 1 || got[0] != second.Key {
		t.Errorf("went: %v, want %s", got, second.Key)
	}
	all, _, err := k.Collections(t.Context(), 10, 0)
	open, err2 := k.store.OpenRemovals(t.Context())
	if err != nil || err2 != nil || len(open) != 0 || len(all) != 1 || !cmp.Equal(snapshotsOf(all[0]), []string{second.Key}) {
		t.Errorf("the record: %+v, open %+v; %v, %v", all, open, err, err2)
	}
}

// forgetImages leaves the layers to the snapshots alone.
func forgetImages(k keeper) error {
	kept, err := k.images.List()
	for _, img := range kept {
		err = errors.Join(err, k.images.Remove(img.Reference))
	}
	return err
}

func snapshotsOf(c errand.Collection) []string {
	var all []string
	for _, r := range c.Removed {
		if r.What == "snapshot" {
			all = append(all, r.Name)
		}
	}
	return all
}

// Where all is in use, the room for more is refused in a sentence.
func TestNoRoom(t *testing.T) {
	guesttest.Root(t)
	k := openHere(t, 1<<19)
	host := serveImages(t, 1)
	importApp(t, k, host, 0, "kept")
	again := snapshot.New(k.Options) // which has not just looked
	err := again.Room(t.Context())
	if e := errand.AsError(err); e == nil || e.Code != "disk_quota" {
		t.Errorf("room: %v, want disk_quota", err)
	}
}

const crashes = 6

// Whenever a collection is killed, what is there is whole, what has a name is
// there, and the record says what is gone.
func TestKilledWhileCollecting(t *testing.T) {
	guesttest.Root(t)
	host, dir := serveImages(t, 6), t.TempDir()
	for i := range crashes {
		kill(t, dir, host, time.Duration(200+i*130)*time.Millisecond)
		k, err := open(t.Context(), dir, 1)
		if err != nil {
			t.Fatalf("opening after crash %d: %v", i, err)
		}
		afterCrash(t, k, host)
		k.close(t)
	}
}

func kill(t *testing.T, dir, host string, after time.Duration) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), victimVar+"="+dir, registryVar+"="+host)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(after, func() { cmd.Process.Kill() })
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Fatalf("the process ended by itself: %v: %s", err, out.String())
	}
}

// victim imports and collects until it is killed.
func victim(dir, host string) error {
	ctx := context.Background()
	k, err := open(ctx, dir, 1)
	if err != nil {
		return err
	}
	maker := snapshot.New(snapshot.Options{Driver: k.driver, Store: k.store}) // without a quota
	if _, err := maker.Import(ctx, "kept", host+"/app0", nil, nil); err != nil && errand.KindOf(err) != errand.Conflict {
		return err
	}
	for round := 0; ; round++ {
		if _, err := maker.Import(ctx, "", fmt.Sprintf("%s/app%d", host, 1+round%5), nil, nil); err != nil {
			return err
		}
		if err := forgetImages(k); err != nil {
			return err
		}
		if _, err := k.Collect(ctx, "The victim collects.", false); err != nil {
			return err
		}
	}
}

func afterCrash(t *testing.T, k keeper, host string) {
	t.Helper()
	rows, err := k.store.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := forgetImages(k); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Collect(t.Context(), "After the crash.", false); err != nil {
		t.Fatalf("collecting: %v", err)
	}
	list, _, err := k.List(t.Context(), 100, "")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, snap := range list {
		there[snap.Key] = true
		if snap.Name == "" {
			t.Errorf("the snapshot %s is over the quota and there", snap.Key)
		}
		if err := k.Export(t.Context(), snap.Key, io.Discard, false, nil); err != nil {
			t.Errorf("what is listed is not whole: %v", err)
		}
	}
	for _, row := range rows {
		if row.Name != "" && !there[row.Key] {
			t.Errorf("the named snapshot %s is gone", row.Name)
		}
	}
	open, err := k.store.OpenRemovals(t.Context())
	if err != nil || len(open) > 0 {
		t.Errorf("removals that nobody knows of: %v, %v", open, err)
	}
	all, _, err := k.Collections(t.Context(), 100, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		for _, r := range c.Removed {
			if r.What == "snapshot" && there[r.Name] {
				t.Errorf("%s is there and on record as removed", r.Name)
			}
		}
	}
	if _, err := snapshot.New(snapshot.Options{Driver: k.driver, Store: k.store}).Import(t.Context(), "", host+"/app5", nil, nil); err != nil {
		t.Errorf("importing again: %v", err)
	}
}
