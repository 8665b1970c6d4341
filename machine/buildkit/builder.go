//go:build linux

package buildkit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/cgroup"
	"github.com/errand-dev/errand/machine/volume"
)

// The engines that commands of a Dockerfile run under.
const (
	GVisor = "gvisor"
	Runc   = "runc"
)

// Options say where a Builder keeps its cache and what it runs.
type Options struct {
	// Dir holds the cache of steps. It is made if it is missing. It must be on
	// a file system that overlayfs takes as an upper one.
	Dir string
	// Images takes the images in. Needed.
	Images *image.Store
	// Daemon is the path of buildkitd; "" is that it is missing, which every
	// build says.
	Daemon string
	// Engine is what commands run under; "" is gVisor.
	Engine string
	// Runsc and Runc are the engines' programs; "" is that it is missing.
	Runsc, Runc string
	// Client is errand-buildkit; "" is that it is missing, which every build says.
	// It asks registries with what the host's Docker configuration has.
	Client solver.Program
	// Idle is how long the daemon stays when there is nothing to build; 0 is
	// two minutes.
	Idle time.Duration
	// Limits are taken where ImageBuild.Limits are zero. What is zero here is as
	// in machine.DefaultLimits. Disk is what a build may write above the cache,
	// and holds for all builds.
	Limits errand.Limits
	// Cache is how many bytes of steps are kept at most; 0 is 20 GiB.
	Cache int64
	// Reserve is how many bytes of Dir's file system builds leave free; 0 is
	// 2 GiB.
	Reserve int64
	Log     *slog.Logger // nil is silent
}

// Builder builds images. It is a machine.Builder. One process at a time uses a
// directory; what a killed one left is taken over by the next.
type Builder struct {
	opts  Options
	log   *slog.Logger
	turns *semaphore.Weighted // held by the build under way, or whoever ends the daemon

	cgroups cgroup.Host
	volumes volume.Mounter

	// These belong to the holder of turns.
	daemon    *daemon // nil when none runs
	unbounded string  // why the daemon's disk is not bounded; "" if it is

	mu     sync.Mutex
	idle   *time.Timer // ends the daemon
	closed bool
}

var _ machine.Builder = (*Builder)(nil)

// New readies a builder in opts.Dir. It starts nothing: the daemon comes with
// the first build.
func New(opts Options) (*Builder, error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the image builder: %w", err)
	}
	if opts.Images == nil {
		return nil, errors.New("opening the image builder: an image store is needed")
	}
	opts.Dir = dir
	opts.Engine = cmp.Or(opts.Engine, GVisor)
	opts.Idle = cmp.Or(opts.Idle, 2*time.Minute)
	opts.Cache = cmp.Or(opts.Cache, 20<<30)
	opts.Reserve = cmp.Or(opts.Reserve, 2<<30)
	opts.Limits = opts.Limits.Or(machine.DefaultLimits())
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	b := &Builder{opts: opts, log: opts.Log, turns: semaphore.NewWeighted(1), cgroups: cgroup.Find(), volumes: volume.Mounter{Hasty: true}}
	for _, sub := range []string{"root", "work", "known", "leaked"} {
		if err := os.MkdirAll(b.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("opening the image builder: %w", err)
		}
	}
	b.group("").Remove()
	return b, nil
}

func (b *Builder) path(elem ...string) string {
	return filepath.Join(append([]string{b.opts.Dir}, elem...)...)
}

// engine gives the name and the program of the engine.
func (b *Builder) engine() (name, program string, err error) {
	program = map[string]string{GVisor: b.opts.Runsc, Runc: b.opts.Runc}[b.opts.Engine]
	if program == "" {
		return "", "", errand.Errorf(errand.Unavailable, "engine_missing",
			"Dockerfiles cannot be built here: the engine %q is not installed. Run \"make build\", which builds runsc, or install runc and choose the engine \"runc\".", b.opts.Engine)
	}
	return b.opts.Engine, program, nil
}

// Ready says why nothing can be built here, as an *errand.Error that tells what
// to do, or nil. It starts nothing.
func (b *Builder) Ready() error {
	for _, part := range []struct{ name, path string }{{"buildkitd", b.opts.Daemon}, {"errand-buildkit", string(b.opts.Client)}} {
		if part.path == "" {
			return errand.Errorf(errand.Unavailable, "builder_missing",
				"Dockerfiles cannot be built here: %s is neither beside errand nor in PATH. Run \"make build\", which builds it.", part.name)
		}
	}
	_, _, err := b.engine()
	return err
}

// Inspect says whether Dockerfiles can be built, and whether their commands are
// held to their limits. It starts nothing.
func (b *Builder) Inspect(context.Context) []machine.Finding {
	f := machine.Finding{Name: "dockerfiles"}
	if err := b.Ready(); err != nil {
		f.Detail = err.Error()
		return []machine.Finding{f}
	}
	f.OK, f.Detail = true, fmt.Sprintf("%s builds them, under %s", b.opts.Daemon, b.opts.Engine)
	return []machine.Finding{f, b.inspectLimits()}
}

// take waits for the builder's turn and keeps the daemon from being ended for
// idleness. The caller calls give.
func (b *Builder) take(ctx context.Context) error {
	if err := b.turns.Acquire(ctx, 1); err != nil {
		return err
	}
	return b.taken()
}

// taken is what who got the turn does first. With an error the turn is given
// back.
func (b *Builder) taken() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle != nil {
		b.idle.Stop()
		b.idle = nil
	}
	if b.closed {
		b.turns.Release(1)
		return errand.Errorf(errand.Unavailable, "shutting_down", "The server is shutting down. Try again when it is up.")
	}
	return nil
}

func (b *Builder) give() {
	b.mu.Lock()
	if b.daemon != nil && !b.closed {
		b.idle = time.AfterFunc(b.opts.Idle, b.rest)
	}
	b.mu.Unlock()
	b.turns.Release(1)
}

// rest ends a daemon that has had nothing to do.
func (b *Builder) rest() {
	if !b.turns.TryAcquire(1) {
		return // a build has begun meanwhile
	}
	defer b.turns.Release(1)
	b.end()
	b.settle()
}

// end ends the daemon. The caller holds turns.
func (b *Builder) end() {
	if b.daemon != nil {
		b.daemon.stop()
		b.daemon = nil
		b.group("").Remove()
	}
}

// Close waits for the build under way, whose caller has ended its context, and
// ends the daemon. The cache stays.
func (b *Builder) Close() error {
	b.mu.Lock()
	b.closed = true
	if b.idle != nil {
		b.idle.Stop()
	}
	b.mu.Unlock()
	if err := b.turns.Acquire(context.Background(), 1); err != nil {
		return err
	}
	defer b.turns.Release(1)
	b.end()
	b.settle()
	b.cgroups.Tidy()
	return nil
}
