//go:build linux

package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A disk is a directory disks/<id> with an upper directory for each part of
// the machine's file system: "rootfs", and one for each host tree. Frozen, its
// upper directories are lower ones of others. Nothing is ever moved: whether a
// disk is frozen is a matter of who names it.

const rootPart = "rootfs"

func (d *Driver) upper(disk, part string) string { return d.path("disks", disk, "upper", part) }
func (d *Driver) work(disk, part string) string  { return d.path("disks", disk, "work", part) }

// parts lists the parts of the machine's file system, the root first.
func (b *base) parts() []string {
	parts := []string{rootPart}
	for _, tree := range b.Trees {
		parts = append(parts, filepath.Base(tree))
	}
	return parts
}

// makeDisk makes the machine's writable disk if it is not there.
func (d *Driver) makeDisk(r *record) error {
	for _, part := range r.parts() {
		if err := mkdirs(0o755, d.upper(r.Disk, part), d.work(r.Disk, part)); err != nil {
			return err
		}
	}
	return d.alignTops(r)
}

// alignTops gives new upper directories the mode and owner of what they cover:
// an overlay's top shows those of its uppermost directory.
func (d *Driver) alignTops(r *record) error {
	for i, part := range r.parts() {
		below := r.Layers[len(r.Layers)-1]
		if i > 0 {
			below = r.Trees[i-1]
		}
		st, err := os.Stat(below)
		if err != nil {
			return fmt.Errorf("reading image: %w", err)
		}
		if err := os.Chmod(d.upper(r.Disk, part), st.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}

// mountDisk mounts the machine's file system at root.
func (d *Driver) mountDisk(r *record, root, meta string, ids *idMapper) error {
	if err := mkdirs(0o755, root); err != nil {
		return err
	}
	for i, part := range r.parts() {
		o, err := d.overlayOf(r, i, part, meta, ids)
		if err != nil {
			return err
		}
		o.target = root
		if i > 0 {
			o.target = filepath.Join(root, r.Trees[i-1])
		}
		if err := o.mount(ids.owner); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) overlayOf(r *record, i int, part, meta string, ids *idMapper) (overlay, error) {
	var o overlay
	show := func(root, dir string) string { // after an error, ids is not asked again
		return ""
	}
	var failed error
	show = func(root, dir string) string {
		if failed != nil {
			return ""
		}
		at, err := ids.mapped(root, dir)
		failed = err
		return at
	}
	disks := d.path("disks")
	if i == 0 {
		for _, layer := range r.Layers {
			o.lowers = append(o.lowers, show(filepath.Dir(layer), layer))
		}
	} else {
		o.lowers = append(o.lowers, show(r.Trees[i-1], r.Trees[i-1]))
	}
	for _, disk := range r.Chain {
		if _, err := os.Stat(d.upper(disk, part)); err == nil {
			o.lowers = append(o.lowers, show(disks, d.upper(disk, part)))
		}
	}
	if i == 0 {
		o.lowers = append(o.lowers, show(filepath.Dir(meta), meta))
	}
	o.upper = show(disks, d.upper(r.Disk, part))
	o.work = show(disks, d.work(r.Disk, part))
	o.lowers = slices.Clip(o.lowers)
	return o, failed
}
