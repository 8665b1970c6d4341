//go:build linux

package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine/volume"

	"github.com/errand-dev/errand/machine/mount"
)

// openDisk gives the directory of a disk for reading, whether a machine stands
// on it or not. What it holds came out of machines: every name in it goes
// through the root. A file system of its own is mounted nowhere, so that it is
// let go of when the root is closed, or when we are killed.
func (d *Driver) openDisk(disk string) (*os.Root, error) {
	dir := d.path("disks", disk)
	image := d.path("disks", disk, volume.FileName)
	if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
		return os.OpenRoot(dir)
	}
	mount, err := d.openWarm(disk)
	if err != nil {
		mount, err = d.volumes.Open(image, unix.MOUNT_ATTR_RDONLY)
	}
	if err != nil {
		return nil, fmt.Errorf("opening disk %s: %w", disk, err)
	}
	defer unix.Close(mount) // the root holds what it needs
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(mount))
}

// openWarm gives the mount that a fresh snapshot's disk has.
func (d *Driver) openWarm(disk string) (int, error) {
	at := d.warmDir(disk)
	points, err := mount.Under(at)
	if err == nil && !slices.Contains(points, at) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return -1, err
	}
	return mount.Clone(at, nil, true)
}

// hold keeps what b stands on from being swept until release.
func (d *Driver) hold(b base) (release func()) {
	count := func(by int) {
		d.refs.Lock()
		defer d.refs.Unlock()
		for _, name := range slices.Concat(b.Layers, b.Chain) {
			if d.holds[name] += by; d.holds[name] == 0 {
				delete(d.holds, name)
			}
		}
	}
	count(1)
	return func() { count(-1) }
}
