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

// ownerName is the file of a run directory that names the directory whose
// machines run there.
const ownerName = "owner"

// sweepOrphans takes down what runs for directories that are there no more:
// nobody can find those machines again.
func (d *Driver) sweepOrphans() {
	owners, err := filepath.Glob(filepath.Join(d.opts.RunDir, "*", ownerName))
	if err != nil {
		return
	}
	for _, file := range owners {
		owner, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if _, err := os.Stat(string(owner)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		run := filepath.Dir(file)
		d.after.Go(func() {
			if err := newDriver(d.opts, string(owner), run).takeDown(); err != nil {
				d.log.Warn("taking down machines of a removed directory", "dir", string(owner), "err", err)
			}
		})
	}
}

// takeDown ends all that runs in the run directory and removes it.
func (d *Driver) takeDown() error {
	entries, err := os.ReadDir(filepath.Join(d.run, "m"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := d.stop(context.Background(), machine.ID(e.Name())); err != nil {
			return fmt.Errorf("ending machine %s: %w", e.Name(), err)
		}
	}
	d.after.Wait()
	return d.removeRun()
}
