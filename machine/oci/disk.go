//go:build linux

package oci

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine/volume"

	"github.com/errand-dev/errand/machine/mount"
)

// A disk is a directory disks/<id>. It holds an upper directory for each part
// of the machine's file system ("rootfs", and one for each host tree), either
// as they are or in a file system of their own. Frozen, its upper directories
// are lower ones of others. Nothing is ever moved or copied: whether a disk is
// frozen is a matter of who names it.

const rootPart = "rootfs"

// part is one overlay of a machine's file system.
type part struct {
	name string // in the disk's upper and work directories
	at   string // absolute, in the machine
	tree string // the host directory below; "" for the root
}

// parts lists the parts of the machine's file system, the root first.
func (b *base) parts() []part {
	parts := []part{{name: rootPart, at: "/"}}
	for _, tree := range b.Trees {
		parts = append(parts, part{name: filepath.Base(tree), at: tree, tree: tree})
	}
	return parts
}

// makeDisk makes the machine's writable disk if it is not there. Where the host
// cannot bound it, it is a plain directory; the machine's report says so.
func (d *Driver) makeDisk(ctx context.Context, r *record) error {
	dir := d.path("disks", r.Disk)
	if _, err := os.Stat(filepath.Join(dir, volume.FileName)); err == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "upper")); err == nil {
		return nil
	}
	if err := errors.Join(d.reserve(), d.readyRun()); err != nil {
		return err
	}
	if err := mkdirs(0o755, dir); err != nil {
		return err
	}
	lacks := volume.Ready()
	if lacks == nil {
		return volume.Make(ctx, dir, d.run, r.Limits.Disk)
	}
	d.log.Warn("the disk limit is not enforced", "machine", r.ID, "err", lacks)
	r.Unbounded = lacks.Error()
	if err := d.save(r); err != nil {
		return err
	}
	return mkdirs(0o755, filepath.Join(dir, "upper"))
}

// reserve refuses to make a disk when the host's own is nearly full.
func (d *Driver) reserve() error {
	free, err := image.Free(d.dir)
	if err != nil {
		return err
	}
	if free < d.opts.Reserve {
		return errand.Errorf(errand.Unavailable, "disk_full", "The disk of %s has %d MB free, and machines leave %d MB for the host. Free some space, or remove agents, and try again.",
			d.dir, free>>20, d.opts.Reserve>>20)
	}
	return nil
}

// stack mounts a machine's disks together.
type stack struct {
	driver *Driver
	rec    *record
	temp   string // where disks are mounted for as long as it takes
	meta   string // the layer just below the writable one
	ids    *mount.IDMapper
	roots  map[string]string // of disks, by id, as they are mounted
}

// mount mounts the machine's file system at target.
func (s *stack) mount(target string) error {
	for _, disk := range append(append([]string{}, s.rec.Chain...), s.rec.Disk) {
		if err := s.attach(disk); err != nil {
			return err
		}
	}
	if err := s.makeUppers(); err != nil {
		return err
	}
	if err := mkdirs(0o755, target); err != nil {
		return err
	}
	for _, p := range s.rec.parts() {
		o, err := s.overlay(p)
		if err != nil {
			return err
		}
		o.Target = filepath.Join(target, p.at)
		if err := o.Mount(s.ids.Owner); err != nil {
			return err
		}
	}
	return nil
}

// attach makes the disk's directories reachable.
func (s *stack) attach(disk string) error {
	dir := s.driver.path("disks", disk)
	s.roots[disk] = dir
	image := filepath.Join(dir, volume.FileName)
	if _, err := os.Stat(image); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	at := filepath.Join(s.temp, "disk"+strconv.Itoa(len(s.roots)))
	if err := mkdirs(0o700, at); err != nil {
		return err
	}
	s.roots[disk] = at
	// To mount a device again waits for whoever flushes it; to show an
	// existing mount does not.
	if err := mount.Bind(s.driver.warmDir(disk), at, nil, false); err == nil {
		return nil
	}
	return s.driver.volumes.Mount(image, at)
}

// makeUppers makes the writable directories. An overlay's top shows the mode
// and owner of its uppermost directory, so these take after what they cover.
func (s *stack) makeUppers() error {
	root := s.roots[s.rec.Disk]
	for _, p := range s.rec.parts() {
		upper, work := filepath.Join(root, "upper", p.name), filepath.Join(root, "work", p.name)
		if _, err := os.Stat(work); err == nil {
			continue
		}
		if err := mkdirs(0o755, upper, work); err != nil {
			return err
		}
		below := p.tree
		if below == "" {
			below = s.rec.Layers[len(s.rec.Layers)-1]
		}
		if n := len(s.rec.Chain); n > 0 {
			below = filepath.Join(s.roots[s.rec.Chain[n-1]], "upper", p.name)
		}
		if err := takeAfter(upper, below); err != nil {
			return err
		}
	}
	return nil
}

func takeAfter(dir, model string) error {
	st, err := os.Stat(model)
	if err != nil {
		return err
	}
	sys := st.Sys().(*syscall.Stat_t)
	if err := os.Chown(dir, int(sys.Uid), int(sys.Gid)); err != nil {
		return err
	}
	return os.Chmod(dir, st.Mode())
}

func (s *stack) overlay(p part) (mount.Overlay, error) {
	var o mount.Overlay
	var lowers [][2]string // the directory that is mapped as a whole, and the layer in it
	if p.tree != "" {
		lowers = append(lowers, [2]string{p.tree, p.tree})
	} else {
		for _, layer := range s.rec.Layers {
			lowers = append(lowers, [2]string{filepath.Dir(layer), layer})
		}
	}
	for _, disk := range s.rec.Chain {
		root := s.roots[disk]
		lowers = append(lowers, [2]string{root, filepath.Join(root, "upper", p.name)})
	}
	if p.tree == "" {
		lowers = append(lowers, [2]string{filepath.Dir(s.meta), s.meta})
	}
	for _, l := range lowers {
		dir, err := s.ids.Mapped(l[0], l[1])
		if err != nil {
			return o, err
		}
		o.Lowers = append(o.Lowers, dir)
	}
	root := s.roots[s.rec.Disk]
	top, err := s.ids.Mapped(root, root)
	if err != nil {
		return o, err
	}
	o.Upper, o.Work = filepath.Join(top, "upper", p.name), filepath.Join(top, "work", p.name)
	return o, nil
}

// A frozen disk's file system stays mounted in the run directory while its
// snapshot is fresh, so that machines which start on it need not wait until
// all that was written is on the host's disk.

func (d *Driver) warmDir(disk string) string { return filepath.Join(d.run, "warm", disk) }

func (d *Driver) keepWarm(disk string) error {
	image, at := d.path("disks", disk, volume.FileName), d.warmDir(disk)
	if _, err := os.Stat(image); err != nil {
		return nil // it is no file system of its own
	}
	if points, err := mount.Under(at); err != nil || len(points) > 0 {
		return err
	}
	if err := mkdirs(0o700, at); err != nil {
		return err
	}
	return d.volumes.Mount(image, at)
}

// cool lets go of the frozen disks for which needed says false.
func (d *Driver) cool(needed func(disk string) bool) error {
	entries, err := os.ReadDir(d.warmDir(""))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if needed(e.Name()) {
			continue
		}
		h, unmountErr := mount.Detach(d.warmDir(e.Name()))
		d.after.Go(h.Release)
		err = errors.Join(err, unmountErr, os.Remove(d.warmDir(e.Name())))
	}
	return err
}
