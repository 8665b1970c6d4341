//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/cgroup"
	"github.com/errand-dev/errand/machine/netns"
)

// BuiltImage gives the reference of the image that was built under key.
func (b *Builder) BuiltImage(_ context.Context, key string) (string, error) {
	img, err := b.opts.Images.Built(key)
	if errand.KindOf(err) == errand.NotFound {
		return "", nil
	}
	return img.Reference, err
}

// BuildImage builds the image and gives its reference. Builds take turns.
func (b *Builder) BuildImage(ctx context.Context, in machine.ImageBuild) (string, error) {
	file, err := dockerfile.Parse(in.Name, in.File, in.Args)
	if err != nil {
		return "", err
	}
	if err := b.Ready(); err != nil {
		return "", err
	}
	if err := b.take(ctx); err != nil {
		return "", err
	}
	defer b.give()
	if ref, err := b.BuiltImage(ctx, in.Key); err != nil || ref != "" {
		return ref, err // somebody built it while this waited
	}
	if err := b.reserve(); err != nil {
		return "", err
	}
	one := &build{ImageBuild: in, builder: b, file: file}
	if err := one.ready(ctx); err != nil {
		return "", err
	}
	defer one.close()
	ref, err := one.run(ctx, false)
	if errors.Is(err, errMissing) {
		ref, err = one.run(ctx, true)
	}
	return ref, err
}

// build is one build under way. Its builder's turn is its own.
type build struct {
	machine.ImageBuild
	builder *Builder
	file    *dockerfile.File
	dir     string          // for what it hands over and gets back
	network io.Closer       // may be nil
	before  cgroup.Refusals // to the builds before it
}

// ready makes the daemon run as this build needs it, and its network.
func (o *build) ready(ctx context.Context) (err error) {
	b := o.builder
	if err := b.wake(ctx, plainRegistries(o.file)); err != nil {
		return err
	}
	if err := b.bound(o.Limits.Or(b.opts.Limits)); err != nil {
		return err
	}
	o.before = b.refusals()
	if o.dir, err = os.MkdirTemp(b.path("work"), "build-"); err != nil {
		return fmt.Errorf("readying a build: %w", err)
	}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	for _, sub := range []string{"dockerfile", "context", "out"} {
		if err := os.Mkdir(filepath.Join(o.dir, sub), 0o700); err != nil {
			return fmt.Errorf("readying a build: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(o.dir, "dockerfile", fileName), o.File, 0o600); err != nil {
		return fmt.Errorf("readying a build: %w", err)
	}
	if err := o.fillContext(ctx); err != nil {
		return err
	}
	if o.Attach == nil {
		return nil
	}
	link, err := netns.Open(ctx, b.daemon.network())
	if err != nil {
		return fmt.Errorf("opening the network of a build: %w", err)
	}
	if o.network, err = o.Attach(ctx, link); err != nil {
		link.File.Close()
		return fmt.Errorf("attaching the network of a build: %w", err)
	}
	return nil
}

func (o *build) fillContext(ctx context.Context) error {
	if o.Context == nil {
		return nil
	}
	root, err := os.OpenRoot(filepath.Join(o.dir, "context"))
	if err != nil {
		return fmt.Errorf("readying a build: %w", err)
	}
	defer root.Close()
	if err := o.Context(ctx, root); err != nil {
		return fmt.Errorf("filling the context of a build: %w", err)
	}
	return nil
}

func (o *build) close() {
	if o.network != nil {
		if err := o.network.Close(); err != nil {
			o.builder.log.Warn("closing the network of a build", "error", err)
		}
	}
	if err := os.RemoveAll(o.dir); err != nil {
		o.builder.log.Warn("clearing up after a build", "error", err)
	}
}

// wake sees to it that the daemon runs, and speaks to plain without TLS: it
// learns that only when it starts.
func (b *Builder) wake(ctx context.Context, plain []string) error {
	if d := b.daemon; d != nil {
		known := !slices.ContainsFunc(plain, func(host string) bool { return !slices.Contains(d.plain, host) })
		if d.alive() && known {
			return nil
		}
		plain = append(slices.Clone(plain), d.plain...)
		slices.Sort(plain)
		plain = slices.Compact(plain)
		b.end()
	}
	d, err := b.startDaemon(ctx, plain)
	if err != nil {
		return err
	}
	b.daemon = d
	return nil
}

// plainRegistries are the registries of a file's images that are spoken to
// without TLS, by the rule of package image.
func plainRegistries(f *dockerfile.File) []string {
	var plain []string
	for _, i := range f.Images {
		ref, err := name.ParseReference(i.Name)
		if err != nil {
			continue // the build says so, with the line
		}
		if r := ref.Context().Registry; r.Scheme() == "http" && !slices.Contains(plain, r.RegistryStr()) {
			plain = append(plain, r.RegistryStr())
		}
	}
	return plain
}

// fileName is the Dockerfile's name for the daemon.
const fileName = "Dockerfile"

// run has the daemon build, tells of the steps, and keeps the image. With whole
// all of it is handed over, also what is known.
func (o *build) run(ctx context.Context, whole bool) (string, error) {
	task, err := o.task(whole)
	if err != nil {
		return "", fmt.Errorf("readying a build: %w", err)
	}
	steps := newSteps(o.file, o.Step)
	digest, err := o.builder.opts.Client.Solve(ctx, task, steps.tell)
	if steps.starved != nil && ctx.Err() == nil {
		return "", o.starvedError(steps.starved)
	}
	if err != nil {
		return "", o.explain(ctx, err, steps)
	}
	return o.keep(ctx, digest)
}

// task is what BuildKit's client is told.
func (o *build) task(whole bool) (solver.Solve, error) {
	attrs := map[string]string{
		"filename": fileName,
		// It would otherwise run a frontend image that a "# syntax=" line names.
		"cmdline": "dockerfile.v0",
	}
	var err error
	if attrs["hostname"], err = o.hostname(); err != nil {
		return solver.Solve{}, err
	}
	if o.Target != "" {
		attrs["target"] = o.Target
	}
	for name, value := range o.Args {
		attrs["build-arg:"+name] = value
	}
	attrs["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = o.cacheNamespace()
	if o.Attach == nil {
		attrs["force-network-mode"] = "none"
	}
	task := solver.Solve{
		Socket: o.builder.daemon.socket(), Attrs: attrs, Secrets: o.given(), Mounts: map[string]string{},
		Out: o.out(), Reserve: o.builder.opts.Reserve,
	}
	for _, name := range []string{"dockerfile", "context"} {
		task.Mounts[name] = filepath.Join(o.dir, name)
	}
	if !whole {
		task.Known = o.builder.path("known")
	}
	return task, nil
}
