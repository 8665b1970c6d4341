//go:build linux

package oci

import (
	"errors"
	"io/fs"
	"os"
)

// discard takes dir out of sight at once and removes it in the background,
// since that is work in proportion to its size. What a killed process did not
// finish, the next one does.
func (d *Driver) discard(dir string) error {
	to := d.path("trash", newDiskID())
	if err := os.Rename(dir, to); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	d.after.Go(func() { d.remove(to) })
	return nil
}

func (d *Driver) remove(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		d.log.Warn("removing", "dir", dir, "err", err)
	}
}

// sweepTrash goes on with what an earlier process was removing.
func (d *Driver) sweepTrash() {
	entries, err := os.ReadDir(d.path("trash"))
	if err != nil {
		return
	}
	for _, e := range entries {
		d.after.Go(func() { d.remove(d.path("trash", e.Name())) })
	}
}
