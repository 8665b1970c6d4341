//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/volume"
)

// The daemon keeps all that it writes, its cache and what a build makes, in a
// volume, which is mounted in its mount namespace alone and goes with it. It has
// room for a full cache and a build.

// makeDisk makes the volume if it is not there. Where the host cannot bound it,
// it is a plain directory; Inspect says so. A volume of another size was made
// under other limits: its cache is given up.
func (b *Builder) makeDisk(ctx context.Context) error {
	if err := b.reserve(); err != nil {
		return err
	}
	limit := b.opts.Cache + b.opts.Limits.Disk
	b.unbounded = ""
	st, err := os.Stat(b.path(volume.FileName))
	if err == nil && st.Size() == volume.Size(limit) {
		return nil
	}
	if err := b.dropCache(); err != nil {
		return err
	}
	err = volume.Make(ctx, b.opts.Dir, b.opts.Dir, limit)
	if err == nil || ctx.Err() != nil {
		return err
	}
	b.log.Warn("the disk of builds is not bounded", "error", err)
	b.unbounded = err.Error()
	return os.MkdirAll(b.path("state"), 0o700)
}

// reserve refuses to build when the host's disk is nearly full.
func (b *Builder) reserve() error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.opts.Dir, &st); err != nil {
		return fmt.Errorf("reading free space: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < b.opts.Reserve {
		return errand.Errorf(errand.Unavailable, "disk_full", "The disk of %s has %d MB free, and builds leave %d MB for the host. Free some space, or remove agents, and try again.",
			b.opts.Dir, free>>20, b.opts.Reserve>>20)
	}
	return nil
}

// showState shows the daemon's disk at a directory of its root.
func (b *Builder) showState(at string) error {
	if b.unbounded != "" {
		return show(b.path("state"), at, false)
	}
	if err := mkdirs(at); err != nil {
		return err
	}
	if err := b.volumes.Mount(b.path(volume.FileName), at); err != nil {
		return fmt.Errorf("the cache of builds cannot be read; if this does not pass, remove %s, and it begins anew: %w", b.path(volume.FileName), err)
	}
	return nil
}

// dropCache removes the whole cache. No daemon runs.
func (b *Builder) dropCache() error {
	return errors.Join(os.RemoveAll(b.path(volume.FileName)), os.RemoveAll(b.path("state")))
}

// StoredCache says what the cache takes, which is no work where its disk is
// bounded.
func (b *Builder) StoredCache(context.Context) (machine.StoredCache, error) {
	var c machine.StoredCache
	used, err := os.Stat(b.path("work")) // each build makes a directory there, and removes it
	if err != nil {
		return c, fmt.Errorf("measuring the cache of builds: %w", err)
	}
	c.Used = used.ModTime()
	if b.turns.TryAcquire(1) {
		b.turns.Release(1)
	} else {
		c.Busy = true
	}
	for _, name := range []string{volume.FileName, "state"} {
		size, err := measure(b.path(name))
		if err != nil {
			return c, fmt.Errorf("measuring the cache of builds: %w", err)
		}
		c.Size += size
	}
	return c, nil
}

// measure gives what a file or a directory takes on the disk.
func measure(root string) (size int64, err error) {
	err = filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		var st fs.FileInfo
		if err == nil {
			st, err = e.Info()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed meanwhile, or never there
		}
		if err == nil {
			size += st.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	return size, err
}

// ShrinkCache has the daemon let go of the steps that were used least recently.
func (b *Builder) ShrinkCache(ctx context.Context, bytes int64) error {
	if !b.turns.TryAcquire(1) {
		return nil // a build is under way, and uses it
	}
	if err := b.taken(); err != nil {
		return err
	}
	defer b.give()
	return b.shrink(ctx, bytes)
}

func (b *Builder) shrink(ctx context.Context, bytes int64) error {
	if err := b.wake(ctx, nil); err != nil {
		return fmt.Errorf("shrinking the cache of builds: %w", err)
	}
	records, err := b.daemon.client.DiskUsage(ctx)
	if err != nil {
		return fmt.Errorf("shrinking the cache of builds: %w", err)
	}
	keep := -bytes
	for _, r := range records {
		keep += r.Size
	}
	if keep <= 0 {
		b.end()
		return b.dropCache()
	}
	if err := b.daemon.client.Prune(ctx, nil, client.PruneAll, client.WithKeepOpt(0, 0, keep, 0)); err != nil {
		return fmt.Errorf("shrinking the cache of builds: %w", err)
	}
	return b.daemon.trim()
}

// trim has what was removed given back to the host's disk, which happens when it
// is written down.
func (d *daemon) trim() error {
	state, err := os.Open(filepath.Join(d.root(), stateDir))
	if err != nil {
		return fmt.Errorf("trimming the cache of builds: %w", err)
	}
	defer state.Close()
	return unix.Syncfs(int(state.Fd()))
}
