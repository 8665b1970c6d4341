//go:build linux

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/process"
)

// snapshot is the file snapshots/<key>.json.
type snapshot struct {
	base
	Key     machine.SnapshotKey `json:"key"`
	Created time.Time           `json:"created"`
	// Boot is the boot of this host in which the snapshot was taken, until its
	// disk's content is on the host's disk: a power cut before could have left
	// a whole record of hollow files, so no other boot takes it.
	Boot string `json:"boot,omitempty"`
}

var keyPattern = regexp.MustCompile(`^[a-f0-9-]{1,80}$`)

func (d *Driver) snapshotFile(key machine.SnapshotKey) string {
	return d.path("snapshots", string(key)+".json")
}

func (d *Driver) loadSnapshot(key machine.SnapshotKey) (*snapshot, error) {
	if !keyPattern.MatchString(string(key)) {
		return nil, missingSnapshot(key)
	}
	data, err := os.ReadFile(d.snapshotFile(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingSnapshot(key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading snapshot %s: %w", key, err)
	}
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("reading snapshot %s: %w", key, err)
	}
	if s.Boot != "" && s.Boot != image.Boot() {
		return nil, missingSnapshot(key)
	}
	return &s, nil
}

func missingSnapshot(key machine.SnapshotKey) error {
	return &machine.SetupError{Doing: "finding snapshot", Err: errand.Errorf(errand.NotFound, "snapshot_missing",
		"There is no snapshot %s. Prepare the environment again.", key)}
}

func isMissing(err error) bool {
	var setup *machine.SetupError
	return errors.As(err, &setup)
}

// settle waits until the snapshot's content is on the host's disk and notes it
// down. It is work in proportion to what was written, and nobody waits for it.
func (d *Driver) settle(key machine.SnapshotKey, b base) {
	dirs := []string{d.dir, filepath.Dir(b.Layers[0])}
	if n := len(b.Chain); n > 0 {
		dirs = append([]string{d.warmDir(b.Chain[n-1])}, dirs...) // its own file system, before the one that holds it
	}
	for _, dir := range dirs {
		if err := syncfs(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("flushing snapshot", "snapshot", key, "err", err)
			return
		}
	}
	d.refs.Lock()
	defer d.refs.Unlock()
	s, err := d.loadSnapshot(key)
	if err != nil {
		return // removed since
	}
	s.Boot = ""
	if err := writeJSON(d.snapshotFile(key), s); err != nil {
		d.log.Warn("noting that a snapshot is on the disk", "snapshot", key, "err", err)
	}
}

func syncfs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// settleAll goes on with what an earlier process was settling.
func (d *Driver) settleAll() {
	keys, err := d.snapshotKeys()
	if err != nil {
		return
	}
	for _, key := range keys {
		if s, err := d.loadSnapshot(key); err == nil && s.Boot != "" {
			d.after.Go(func() { d.settle(key, s.base) })
		}
	}
}

// Snapshot keeps the machine's disk under key: the disk is named in the
// snapshot's record and the machine goes on with a new one above it. What the
// machine's processes leave is cleared away behind the call; until then the
// machine is locked.
func (m *Machine) Snapshot(ctx context.Context, key machine.SnapshotKey) error {
	if !keyPattern.MatchString(string(key)) {
		return fmt.Errorf("keeping snapshot: %q is no key: lower-case hex and dashes, at most 80", key)
	}
	unlock, err := m.driver.lock(ctx, m.id)
	if err != nil {
		return err
	}
	if err := m.driver.keep(ctx, m.id, key); err != nil {
		unlock()
		return fmt.Errorf("keeping snapshot: %w", err)
	}
	m.driver.after.Go(func() {
		defer unlock()
		m.driver.clearBehind(m.id)
	})
	return nil
}

// clearLimit bounds work that nobody waits for.
const clearLimit = 2 * time.Minute

// clearBehind clears the locked machine away with nobody to tell. What it
// leaves, the next start or stop of the machine clears.
func (d *Driver) clearBehind(id machine.ID) {
	ctx, cancel := context.WithTimeout(context.Background(), clearLimit)
	defer cancel()
	if err := d.stop(ctx, id); err != nil {
		d.log.Warn("clearing a stopped machine away", "machine", id, "err", err)
	}
}

// keep is Snapshot with the machine locked. When it returns, no process can
// write to the disk, though it may be mounted still.
func (d *Driver) keep(ctx context.Context, id machine.ID, key machine.SnapshotKey) error {
	r, err := d.load(id)
	if err != nil {
		return err
	}
	by := process.Process.Kill
	if r.Engine == GVisor {
		by = process.Process.Halt // its processes have no children that could write
	}
	var l *live
	var both errgroup.Group
	both.Go(func() error { return d.keepWarm(r.Disk) })
	both.Go(func() (err error) { l, err = d.end(ctx, id, by); return err })
	if err := both.Wait(); err != nil {
		return err
	}
	if l == nil || r.Engine == GVisor && l.Gofer == nil { // only the engine knows all that there is to end
		if err := d.clear(ctx, id); err != nil {
			return err
		}
	}
	d.refs.Lock()
	defer d.refs.Unlock()
	if _, err := d.loadSnapshot(key); err == nil {
		return nil
	}
	if _, err := os.Stat(d.path("disks", r.Disk)); errors.Is(err, fs.ErrNotExist) {
		return d.keepLocked(snapshot{base: r.base, Key: key, Created: time.Now().UTC()}) // nothing was written since the last one
	}
	r.Freeze = &freeze{Key: key, Next: newDiskID()}
	if err := d.save(r); err != nil {
		return err
	}
	return d.freezeLocked(r)
}

// finishFreeze ends a snapshot that was cut off.
func (d *Driver) finishFreeze(r *record) error {
	d.refs.Lock()
	defer d.refs.Unlock()
	return d.freezeLocked(r)
}

// freezeLocked carries out r.Freeze. It can be cut off anywhere and done
// again: the disk that the snapshot names is written to by no one from the
// moment on at which the intent was saved.
func (d *Driver) freezeLocked(r *record) error {
	s := snapshot{base: r.base, Key: r.Freeze.Key, Created: time.Now().UTC()}
	s.Chain = append(slices.Clone(r.Chain), r.Disk)
	if _, err := d.loadSnapshot(s.Key); err != nil { // what cannot be read is replaced
		if err := d.keepLocked(s); err != nil {
			return err
		}
	}
	r.base, r.From, r.Disk, r.Freeze = s.base, s.Key, r.Freeze.Next, nil
	return d.save(r)
}

// HasSnapshot says whether Spec.From would find key.
func (d *Driver) HasSnapshot(ctx context.Context, key machine.SnapshotKey) (bool, error) {
	_, err := d.loadSnapshot(key)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

func (d *Driver) snapshotKeys() ([]machine.SnapshotKey, error) {
	entries, err := os.ReadDir(d.path("snapshots"))
	if err != nil {
		return nil, fmt.Errorf("listing snapshots: %w", err)
	}
	var keys []machine.SnapshotKey
	for _, e := range entries {
		if key, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			keys = append(keys, machine.SnapshotKey(key))
		}
	}
	return keys, nil
}
