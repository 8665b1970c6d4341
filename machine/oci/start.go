//go:build linux

package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/cgroup"
	"github.com/errand-dev/errand/machine/mount"
	"github.com/errand-dev/errand/machine/netns"
	"github.com/errand-dev/errand/machine/process"
)

// live is what is known of a running machine; it is the file live.json in its
// run directory, written when the guest answered.
type live struct {
	process.Process                  // the machine's first on the host; it takes those inside with it
	Gofer           *process.Process `json:"gofer,omitempty"` // of gVisor: opens files for the first
	Base            uint32           `json:"base,omitempty"`
	Cgroup          string           `json:"cgroup,omitempty"`
	Unenforced      []string         `json:"unenforced,omitempty"`
}

func (d *Driver) runDir(id machine.ID) string { return filepath.Join(d.run, "m", string(id)) }

// start brings the machine up on its disk. What an earlier start left is taken
// down first; what this one began is, if it fails.
func (d *Driver) start(ctx context.Context, r *record) (err error) {
	if err := d.checkEngine(r.Engine); err != nil {
		return err
	}
	if err := d.stop(ctx, r.ID); err != nil {
		return fmt.Errorf("clearing machine %s: %w", r.ID, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop(context.WithoutCancel(ctx), r.ID))
		}
	}()
	l, err := d.assemble(ctx, r)
	if err != nil {
		return fmt.Errorf("preparing machine %s: %w", r.ID, err)
	}
	run := d.runDir(r.ID)
	at := launch{id: r.ID, bundle: filepath.Join(run, "bundle"), pidFile: filepath.Join(run, "pid"),
		log: filepath.Join(run, "engine.log"), cgroups: d.cgroups.Version != 0, lock: d.lockOf(r.ID)}
	if err := d.engines[r.Engine].start(ctx, at); err != nil {
		return err
	}
	if err := l.find(at, d.engines[r.Engine]); err != nil {
		return fmt.Errorf("finding machine %s: %w", r.ID, err)
	}
	if err := d.awaitGuest(ctx, r.ID, l); err != nil {
		return fmt.Errorf("waiting for the guest of machine %s: %w%s", r.ID, err, loggedErrors(at.log))
	}
	return writeJSON(filepath.Join(run, "live.json"), l)
}

// assemble makes all that the machine's first process needs: namespaces,
// network, mounts, bundle. Under runc that is a user namespace, where the host
// has what it takes.
func (d *Driver) assemble(ctx context.Context, r *record) (*live, error) {
	l := &live{Cgroup: filepath.Join("/", cgroup.Parent, filepath.Base(d.run)+"-"+string(r.ID)), Unenforced: d.cgroups.Held.Unenforced()}
	if r.Unbounded != "" {
		l.Unenforced = append(l.Unenforced, "The disk limit is not enforced: "+r.Unbounded+".")
	}
	if err := d.readyRun(); err != nil {
		return nil, err
	}
	if r.Engine != Runc {
		return l, d.assembleAs(r, l)
	}
	run := d.runDir(r.ID)
	if err := mkdirs(0o700, run); err != nil {
		return nil, err
	}
	var err error
	if l.Base, err = d.takeIDs(run); err != nil {
		return nil, err
	}
	err = d.assembleAs(r, l)
	if without := (*mount.NoIDMap)(nil); errors.As(err, &without) {
		if err := d.stop(ctx, r.ID); err != nil {
			return nil, err
		}
		l.Base = 0
		l.Unenforced = append(l.Unenforced, noUserNamespace(without))
		return l, d.assembleAs(r, l)
	}
	return l, err
}

func (d *Driver) assembleAs(r *record, l *live) error {
	run := d.runDir(r.ID)
	if err := mkdirs(0o700, run, filepath.Join(run, "ns"), filepath.Join(run, "line"), filepath.Join(run, "lower"), filepath.Join(run, "shown")); err != nil {
		return err
	}
	if err := makeNamespaces(d.opts.Guest, filepath.Join(run, "ns"), l.Base); err != nil {
		return err
	}
	if err := netns.Furnish(filepath.Join(run, "ns", "net")); err != nil {
		return err
	}
	if err := d.mountAll(r, l); err != nil {
		return err
	}
	return writeBundle(filepath.Join(run, "bundle"), d.bundle(r, l))
}

// readyRun makes the run directory: in memory, so that a reboot empties it,
// which ends all that it speaks of, and so that no disk is waited for.
func (d *Driver) readyRun() error {
	d.runMu.Lock()
	defer d.runMu.Unlock()
	if err := mkdirs(0o711, d.opts.RunDir, d.run); err != nil {
		return err
	}
	points, err := mount.Under(d.run)
	if err != nil {
		return err
	}
	if !slices.Contains(points, d.run) {
		if err := unix.Mount("errand", d.run, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=711,size=256m"); err != nil {
			return fmt.Errorf("mounting %s: %w", d.run, err)
		}
		if err := os.WriteFile(filepath.Join(d.run, ownerName), []byte(d.dir), 0o600); err != nil {
			return err
		}
	}
	return mkdirs(0o711, filepath.Join(d.run, "m"))
}

func (d *Driver) mountAll(r *record, l *live) error {
	run := d.runDir(r.ID)
	if err := d.mountLine(run, l.Base); err != nil {
		return err
	}
	meta, err := d.writeMeta(r)
	if err != nil {
		return err
	}
	ids := &mount.IDMapper{At: filepath.Join(run, "lower"), Owner: l.Base}
	if l.Base != 0 {
		if ids.Userns, err = os.Open(filepath.Join(run, "ns", "user")); err != nil {
			return err
		}
		defer ids.Userns.Close()
		// Only the machine's own root may pass through to its files.
		if err := errors.Join(os.Chown(run, 0, int(l.Base)), os.Chmod(run, 0o710)); err != nil {
			return err
		}
	}
	disks := &stack{driver: d, rec: r, temp: filepath.Join(run, "lower"), meta: meta, ids: ids, roots: map[string]string{}}
	if err := disks.mount(filepath.Join(run, "root")); err != nil {
		return err
	}
	for i, m := range r.Mounts {
		at := filepath.Join(run, "shown", strconv.Itoa(i))
		if err := mkdirs(0o755, at); err != nil {
			return err
		}
		if err := mount.Bind(m.Source, at, ids.Userns, true); err != nil {
			return &machine.SetupError{Doing: "showing " + m.Source, Err: err}
		}
	}
	h, err := mount.Detach(filepath.Join(run, "lower")) // the overlays hold what they need
	h.Release()
	return err
}

// mountLine makes the directory of the guest's socket: a small file system of
// its own, so that a machine that writes there fills nothing of ours. Everyone in
// the machine may pass through it to what is shown below; the socket is its
// root's alone.
func (d *Driver) mountLine(run string, base uint32) error {
	line := filepath.Join(run, "line")
	opts := fmt.Sprintf("size=1m,nr_inodes=64,mode=711,uid=%d,gid=%d", base, base)
	if err := unix.Mount("errand", line, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, opts); err != nil {
		return fmt.Errorf("mounting %s: %w", line, err)
	}
	// The mount points of the guest's program, here and inside.
	for _, name := range []string{filepath.Join(run, "guest"), filepath.Join(line, "guest")} {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	return mount.Bind(d.opts.Guest, filepath.Join(run, "guest"), nil, true)
}

// writeMeta makes the layer just below the machine's own: the few files that
// every machine has for itself and no snapshot keeps.
func (d *Driver) writeMeta(r *record) (string, error) {
	meta := filepath.Join(d.machineDir(r.ID), "meta")
	etc := filepath.Join(meta, "etc")
	// gVisor puts a memory file system on a /tmp that is empty, and what is
	// there would neither count as disk nor outlive a stop.
	if err := mkdirs(0o755, etc, filepath.Join(meta, "tmp", ".X11-unix")); err != nil {
		return "", err
	}
	for _, dir := range []string{"tmp", "tmp/.X11-unix"} {
		if err := os.Chmod(filepath.Join(meta, dir), 0o777|os.ModeSticky); err != nil {
			return "", err
		}
	}
	for _, f := range [][2]string{
		{"resolv.conf", netns.ResolvConf()},
		{"hostname", r.Hostname + "\n"},
		{"hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" + netns.Inside.Addr().String() + " " + r.Hostname + "\n"},
	} {
		if err := os.WriteFile(filepath.Join(etc, f[0]), []byte(f[1]), 0o644); err != nil {
			return "", err
		}
	}
	return meta, nil
}

// find reads which processes the engine started.
func (l *live) find(at launch, e engine) error {
	data, err := os.ReadFile(at.pidFile)
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return err
	}
	if l.Process, err = process.Find(pid); err != nil {
		return err
	}
	l.Gofer, err = e.gofer(at.id)
	return err
}

func (d *Driver) loadLive(id machine.ID) (*live, error) {
	data, err := os.ReadFile(filepath.Join(d.runDir(id), "live.json"))
	if err != nil {
		return nil, err
	}
	var l live
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, err
	}
	return &l, nil
}

// awaitGuest waits until the guest takes connections.
func (d *Driver) awaitGuest(ctx context.Context, id machine.ID, l *live) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := dialLine(ctx, filepath.Join(d.runDir(id), "line"))
		if err == nil {
			return conn.Close()
		}
		if !l.Alive() {
			return errors.New("its first process ended at once")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %v)", ctx.Err(), err)
		}
	}
}

// stop ends the machine's processes and takes down all that start made. It can
// be done again, and after any part of a start.
func (d *Driver) stop(ctx context.Context, id machine.ID) error {
	if _, err := d.end(ctx, id, process.Process.Kill); err != nil {
		return err
	}
	return d.clear(ctx, id)
}

// end ends the machine's processes, sooner than the engines' own way of asking
// ten times a second, by kill or halt. It gives what was known of them, nil for
// a machine that does not run or whose start was cut off: clear ends those.
func (d *Driver) end(ctx context.Context, id machine.ID, by func(process.Process, context.Context) error) (*live, error) {
	l, err := d.loadLive(id)
	if err != nil {
		return nil, nil // not written, or not whole
	}
	var ending errgroup.Group
	ending.Go(func() error { return by(l.Process, ctx) })
	if l.Gofer != nil {
		ending.Go(func() error { return by(*l.Gofer, ctx) })
	}
	if err := ending.Wait(); err != nil {
		return nil, err
	}
	return l, nil
}

// clear takes down all that start made and ends what end did not know of.
func (d *Driver) clear(ctx context.Context, id machine.ID) error {
	run := d.runDir(id)
	if _, err := os.Lstat(run); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range d.engines {
		if err := e.remove(ctx, id, filepath.Join(run, "engine.log"), d.cgroups.Version != 0, d.lockOf(id)); err != nil {
			return err
		}
	}
	h, err := mount.Detach(run)
	d.after.Go(h.Release)
	return errors.Join(err, removeUnmounted(run))
}

// removeUnmounted removes a run directory in which nothing is mounted. It goes
// by names, so that a mount which was missed is never emptied.
func removeUnmounted(run string) error {
	points, err := mount.Under(run)
	if err != nil {
		return err
	}
	if len(points) > 0 {
		return fmt.Errorf("removing %s: %s is still mounted", run, points[0])
	}
	return os.RemoveAll(run)
}
