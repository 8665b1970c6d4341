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
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/volume"
)

// The daemon keeps all that it writes, its cache and what a build makes, in a
// volume, which is mounted in its mount namespace alone and goes with it. It has
// room for a full cache and a build. The volume is a hasty one: BuildKit waits for
// the disk some hundred times in each build, for what can be made again. When no
// daemon runs it is settled, so that it outlives a restart of the host.

// makeDisk makes the volume if it is not there. Where the host cannot bound it,
// it is a plain directory; Inspect says so. The cache is given up when a crash of
// the host may have hurt the volume, or when it has another size, as it was made
// under other limits.
func (b *Builder) makeDisk(ctx context.Context) error {
	limit := b.opts.Cache + b.opts.Limits.Disk
	b.unbounded = ""
	file := b.path(volume.FileName)
	if st, err := os.Stat(file); err == nil && st.Size() == volume.Size(limit) && volume.Whole(file) {
		return nil
	}
	if err := b.dropCache(); err != nil {
		return err
	}
	lacks := volume.Ready()
	if lacks == nil {
		return volume.Make(ctx, b.opts.Dir, b.opts.Dir, limit)
	}
	b.log.Warn("the disk of builds is not bounded", "error", lacks)
	b.unbounded = lacks.Error()
	return os.MkdirAll(b.path("state"), 0o700)
}

// reserve refuses to build when the host's disk is nearly full.
func (b *Builder) reserve() error {
	free, err := image.Free(b.opts.Dir)
	if err != nil {
		return err
	}
	if free < b.opts.Reserve {
		return b.fullError()
	}
	return nil
}

// fullError tells that a build would take what is left for the host.
func (b *Builder) fullError() error {
	return errand.Errorf(errand.Unavailable, "disk_full", "The disk of %s is nearly full: builds leave %d MB of it free for the host. Free some space, or remove agents, and try again.",
		b.opts.Dir, b.opts.Reserve>>20)
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

// settle has the cache outlive the host. No daemon runs.
func (b *Builder) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), settleLimit)
	defer cancel()
	if err := volume.Settle(ctx, b.path(volume.FileName)); err != nil {
		b.log.Warn("the cache of builds will not outlive a restart of the host", "error", err)
	}
}

// settleLimit bounds how long the last of a daemon's processes may take to let go
// of its disk.
const settleLimit = 5 * time.Second

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
	c.Size, err = b.cacheSize()
	return c, err
}

func (b *Builder) cacheSize() (bytes int64, err error) {
	for _, name := range []string{volume.FileName, "state"} {
		size, err := measure(b.path(name))
		if err != nil {
			return 0, fmt.Errorf("measuring the cache of builds: %w", err)
		}
		bytes += size
	}
	return bytes, nil
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
// Where no daemon starts, all of the cache is given up: nobody else can read it.
func (b *Builder) ShrinkCache(ctx context.Context, bytes int64) (int64, error) {
	if !b.turns.TryAcquire(1) {
		return 0, nil // a build is under way, and uses it
	}
	if err := b.taken(); err != nil {
		return 0, err
	}
	defer b.give()
	before, err := b.cacheSize()
	if err != nil {
		return 0, err
	}
	if err := b.shrink(ctx, before, bytes); err != nil {
		return 0, fmt.Errorf("shrinking the cache of builds: %w", err)
	}
	after, err := b.cacheSize()
	return max(0, before-after), err
}

// shrink takes bytes off a cache of size. The caller holds turns.
func (b *Builder) shrink(ctx context.Context, size, bytes int64) error {
	if bytes >= size {
		b.end()
		return b.dropCache()
	}
	if err := b.wake(ctx, nil); err != nil {
		if ctx.Err() != nil {
			return err
		}
		b.log.Warn("the cache of builds is given up, as nothing reads it", "error", err)
		return b.dropCache()
	}
	if err := b.opts.Client.Shrink(ctx, solver.Shrink{Socket: b.daemon.socket(), Bytes: bytes}); err != nil {
		return err
	}
	if b.unbounded != "" {
		return nil
	}
	return volume.Trim(filepath.Join(b.daemon.root(), stateDir))
}
