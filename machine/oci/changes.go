//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/mount"
	"github.com/errand-dev/errand/machine/volume"
)

var _ machine.Changes = (*Machine)(nil)

// Changes shows the upper directories of the machine's writable disk.
func (m *Machine) Changes(ctx context.Context, look func(at string, written fs.FS) error) (err error) {
	d := m.driver
	unlock, err := d.lock(ctx, m.id)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := d.load(m.id)
	if err != nil {
		return fmt.Errorf("looking at what a machine wrote: %w", err)
	}
	dir := d.path("disks", r.Disk)
	if image := filepath.Join(dir, volume.FileName); exists(image) {
		at := filepath.Join(d.run, "look", r.Disk)
		if err := mkdirs(0o700, at); err != nil {
			return fmt.Errorf("looking at what a machine wrote: %w", err)
		}
		defer func() {
			h, unmountErr := mount.Detach(at)
			h.Release()
			err = errors.Join(err, unmountErr, os.Remove(at))
		}()
		if points, err := mount.Under(at); err != nil || len(points) == 0 { // one may be left by a kill
			if err := errors.Join(err, d.volumes.Mount(image, at)); err != nil {
				return fmt.Errorf("looking at what a machine wrote: %w", err)
			}
		}
		dir = at
	}
	for _, p := range r.parts() {
		if err := lookInto(filepath.Join(dir, "upper", p.name), p.at, look); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func lookInto(dir, at string, look func(string, fs.FS) error) error {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was written there
	}
	if err != nil {
		return fmt.Errorf("looking at what a machine wrote: %w", err)
	}
	defer root.Close()
	return look(at, root.FS())
}
