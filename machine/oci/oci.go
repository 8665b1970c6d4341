//go:build linux

package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/cgroup"
	"github.com/errand-dev/errand/machine/mount"
	"github.com/errand-dev/errand/machine/volume"
)

// Name is the driver's name in handles.
const Name = "oci"

// The engines. A machine keeps the one it was made with.
const (
	GVisor = "gvisor"
	Runc   = "runc"
)

// Options say where a Driver keeps its machines and what it runs.
type Options struct {
	// Dir holds disks, snapshots and records. It must be on a file system that
	// overlayfs takes as an upper one.
	Dir string
	// RunDir holds mounts and namespaces of running machines, and is best on a
	// file system that a reboot empties. "" is /run/errand.
	RunDir string
	// Images resolves Spec.Image. Needed.
	Images *image.Store
	// Guest is the path of errand-guest, a static binary. Needed.
	Guest string
	// Runsc and Runc are the engines' programs; "" looks in PATH.
	Runsc, Runc string
	// DefaultEngine is taken where Spec.Engine is ""; "" is gVisor.
	DefaultEngine string
	// Limits are taken where Spec.Limits are zero. What is zero here is as in
	// machine.DefaultLimits.
	Limits errand.Limits
	// Reserve is how many bytes of Dir's file system machines leave free;
	// 0 is 2 GiB.
	Reserve int64
	Log     *slog.Logger // nil is silent
}

// Driver makes machines on this host. It is a machine.Driver, a
// machine.Storage, a machine.Archiver and a machine.Inspector. One process at a time may use a
// directory; what a killed one left is taken over by the next.
type Driver struct {
	opts    Options
	dir     string // absolute
	run     string // RunDir and a name of dir's own
	engines map[string]engine
	cgroups cgroup.Host
	log     *slog.Logger

	refs    sync.Mutex     // held while what a layer is needed by is read or changed
	holds   map[string]int // layers and disks that are read now, under refs
	locks   locks
	runMu   sync.Mutex // held while the run directory is made
	volumes volume.Mounter
	after   sync.WaitGroup // work that goes on behind a finished call
}

var (
	_ machine.Driver    = (*Driver)(nil)
	_ machine.Storage   = (*Driver)(nil)
	_ machine.Archiver  = (*Driver)(nil)
	_ machine.Inspector = (*Driver)(nil)
)

// New readies a driver in opts.Dir. It starts nothing. It removes in the
// background what an earlier process was removing, and takes down the machines
// of directories under the same RunDir that are there no more.
func New(opts Options) (*Driver, error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening machines: %w", err)
	}
	if opts.Images == nil || opts.Guest == "" {
		return nil, errors.New("opening machines: an image store and the guest are needed")
	}
	opts = opts.withDefaults()
	sum := sha256.Sum256([]byte(dir))
	d := newDriver(opts, dir, filepath.Join(opts.RunDir, hex.EncodeToString(sum[:4])))
	for _, sub := range []string{"machines", "disks", "snapshots", "trash"} {
		if err := os.MkdirAll(d.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("opening machines: %w", err)
		}
	}
	d.sweepTrash()
	d.settleAll()
	d.sweepOrphans()
	if err := d.sweepLocks(); err != nil {
		d.log.Warn("removing the locks of machines that are gone", "err", err)
	}
	return d, nil
}

func newDriver(opts Options, dir, run string) *Driver {
	return &Driver{
		opts: opts, dir: dir, run: run, log: opts.Log,
		cgroups: cgroup.Find(),
		holds:   map[string]int{},
		locks:   locks{held: map[machine.ID]chan struct{}{}, file: map[machine.ID]*os.File{}},
		engines: map[string]engine{
			GVisor: {name: GVisor, program: opts.Runsc, state: filepath.Join(run, GVisor)},
			Runc:   {name: Runc, program: opts.Runc, state: filepath.Join(run, Runc)},
		},
	}
}

func (o Options) withDefaults() Options {
	if o.RunDir == "" {
		o.RunDir = "/run/errand"
	}
	if o.Runsc == "" {
		o.Runsc, _ = exec.LookPath("runsc") // "" is reported by whoever needs it
	}
	if o.Runc == "" {
		o.Runc, _ = exec.LookPath("runc")
	}
	if o.DefaultEngine == "" {
		o.DefaultEngine = GVisor
	}
	if o.Reserve == 0 {
		o.Reserve = 2 << 30
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.Or(machine.DefaultLimits())
	return o
}

// Close waits for the work that goes on behind finished calls: unmounting and
// removing. Machines stay as they are. If none runs, what the engines keep
// mounted for themselves goes too.
func (d *Driver) Close() error {
	d.after.Wait() // snapshots settle while their disks are mounted
	if err := d.cool(func(string) bool { return false }); err != nil {
		return fmt.Errorf("closing machines: %w", err)
	}
	d.after.Wait()
	if err := d.sweepLocks(); err != nil {
		return fmt.Errorf("closing machines: %w", err)
	}
	if running, err := os.ReadDir(filepath.Join(d.run, "m")); err == nil && len(running) > 0 {
		return nil
	}
	return d.removeRun()
}

// removeRun takes the run directory down when no machine runs.
func (d *Driver) removeRun() error {
	h, err := mount.Detach(d.run)
	h.Release()
	d.cgroups.Tidy()
	return errors.Join(err, os.RemoveAll(d.run))
}

func (d *Driver) path(elem ...string) string {
	return filepath.Join(append([]string{d.dir}, elem...)...)
}

var idPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// Create makes the machine, or wakes it, or finds it running.
func (d *Driver) Create(ctx context.Context, id machine.ID, spec machine.Spec) (machine.Machine, error) {
	if !idPattern.MatchString(string(id)) {
		return nil, &machine.SetupError{Doing: "creating machine", Err: fmt.Errorf("%q is no machine id", id)}
	}
	unlock, err := d.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	rec, err := d.prepare(ctx, id, spec)
	if err != nil {
		return nil, err
	}
	m := &Machine{driver: d, id: id}
	if m.running() {
		return m, nil
	}
	if err := d.start(ctx, rec); err != nil {
		return nil, err
	}
	return m, nil
}

// prepare gives the machine's record with its disk in place: an earlier one,
// brought up to date with spec where it does not run, or a new one.
func (d *Driver) prepare(ctx context.Context, id machine.ID, spec machine.Spec) (*record, error) {
	rec, err := d.load(id)
	switch {
	case err == nil && rec.Ready:
		if (&Machine{driver: d, id: id}).running() {
			return rec, nil
		}
		rec.wake(spec, d.opts.Limits)
		err = d.save(rec)
	case err == nil || errors.Is(err, machine.ErrNotFound):
		// The record comes first: a disk that no record names is swept.
		rec, err = d.standNew(ctx, id, spec)
	}
	if err != nil {
		return nil, err
	}
	if err := d.makeDisk(ctx, rec); err != nil {
		return nil, fmt.Errorf("making disk of machine %s: %w", id, err)
	}
	return rec, nil
}

// standNew gives the saved record of a new machine. An image that was removed
// between being found and being stood on is found again.
func (d *Driver) standNew(ctx context.Context, id machine.ID, spec machine.Spec) (*record, error) {
	for tries := 1; ; tries++ {
		rec, err := d.newRecord(ctx, id, spec)
		if err == nil {
			err = d.saveStanding(rec, spec.From)
		}
		if errors.Is(err, fs.ErrNotExist) && spec.From == "" && tries < 3 {
			continue
		}
		return rec, err
	}
}

// saveStanding saves a record that may be the first to stand on a snapshot's
// disks and an image's layers. What was taken away since they were found is
// missing here, and what is here stays: sweeps wait for their turn.
func (d *Driver) saveStanding(r *record, from machine.SnapshotKey) error {
	d.refs.Lock()
	defer d.refs.Unlock()
	if err := d.standsLocked(r.base); err != nil {
		if from != "" {
			return missingSnapshot(from)
		}
		return err
	}
	return d.save(r)
}

// standsLocked says whether all that b stands on is there.
func (d *Driver) standsLocked(b base) error {
	names := slices.Clone(b.Layers)
	for _, disk := range b.Chain {
		names = append(names, d.path("disks", disk))
	}
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("finding what a disk stands on: %w", err)
		}
	}
	return nil
}

// Open finds the machine by its handle.
func (d *Driver) Open(ctx context.Context, h machine.Handle) (machine.Machine, error) {
	if !idPattern.MatchString(string(h.ID)) {
		return nil, machine.ErrNotFound
	}
	if _, err := os.Stat(d.machineDir(h.ID)); errors.Is(err, fs.ErrNotExist) {
		return nil, machine.ErrNotFound
	} else if err != nil {
		return nil, fmt.Errorf("opening machine %s: %w", h.ID, err)
	}
	return &Machine{driver: d, id: h.ID}, nil
}

// List gives all machines, half-made ones too.
func (d *Driver) List(ctx context.Context) ([]machine.Handle, error) {
	entries, err := os.ReadDir(d.path("machines"))
	if err != nil {
		return nil, fmt.Errorf("listing machines: %w", err)
	}
	var handles []machine.Handle
	for _, e := range entries {
		if e.IsDir() {
			handles = append(handles, machine.Handle{Driver: Name, ID: machine.ID(e.Name())})
		}
	}
	return handles, nil
}

// newRecord resolves what the machine stands on. The machine is listed from
// here on, so that an interrupted Create can be found.
func (d *Driver) newRecord(ctx context.Context, id machine.ID, spec machine.Spec) (*record, error) {
	rec := &record{ID: id, Engine: spec.Engine, Created: time.Now().UTC(), Hostname: spec.Hostname}
	if rec.Engine == "" {
		rec.Engine = d.opts.DefaultEngine
	}
	rec.wake(spec, d.opts.Limits)
	if err := d.checkEngine(rec.Engine); err != nil {
		return nil, err
	}
	if err := d.save(rec); err != nil {
		return nil, err
	}
	if spec.From != "" {
		snap, err := d.loadSnapshot(spec.From)
		if err != nil {
			return nil, err
		}
		rec.base = snap.base
		rec.From = spec.From
	} else {
		img, err := d.opts.Images.Get(ctx, spec.Image, spec.Progress)
		if err != nil {
			return nil, imageError(ctx, spec.Image, err)
		}
		if img.Notice != "" && spec.Progress != nil {
			spec.Progress(img.Notice)
		}
		rec.base = baseOf(img)
	}
	rec.Disk = newDiskID()
	rec.Ready = true
	return rec, nil
}

// imageError tells a person's fault from the host's.
func imageError(ctx context.Context, ref string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch errand.KindOf(err) {
	case errand.Internal, errand.Unavailable:
		return err
	}
	return &machine.SetupError{Doing: "preparing image " + ref, Output: err.Error(), Err: err}
}

func (d *Driver) checkEngine(name string) error {
	e, ok := d.engines[name]
	if !ok {
		return &machine.SetupError{Doing: "choosing engine", Err: errand.Errorf(errand.Invalid, "unknown_engine",
			"There is no engine %q. Use \"gvisor\" or \"runc\".", name)}
	}
	if e.program == "" {
		return errand.Errorf(errand.Unavailable, "engine_missing", "The engine %q is not installed on this host. %s", name, e.advice())
	}
	return nil
}

// writeJSON writes a small file as package image does: a machine's record that
// a power cut left half written would keep every other disk from being swept.
func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	return image.WriteFile(path, data)
}
