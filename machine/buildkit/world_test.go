//go:build linux

package buildkit

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/buildkit/solver"
	"github.com/errand-dev/errand/machine/imagetest"
)

// world is what a test builds in: a registry that the daemon can reach, an
// image store, and a builder.
type world struct {
	*imagetest.Network
	t      testing.TB
	dir    string
	host   string // of the registry
	images *image.Store
	gate   *egress.Gate

	mu          sync.Mutex
	connections []errand.Connection
}

// need ends a test that this host cannot run; under CI that is a failure.
func need(t testing.TB, engine string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds are not for -short")
	}
	guesttest.Root(t)
	guesttest.Program(t, "buildkitd")
	guesttest.Program(t, "errand-buildkit")
	if program(engine) == "" {
		guesttest.Lacking(t, "this test needs the engine %s", engine)
	}
}

// built gives the path of a program that `make build` makes; "" is none.
func built(name string) string {
	path, err := guesttest.Find(name)
	if err != nil {
		return ""
	}
	return path
}

func program(engine string) string {
	if engine == GVisor {
		return built("runsc")
	}
	path, err := exec.LookPath("runc")
	if err != nil {
		return ""
	}
	return path
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), Network: imagetest.NewNetwork(t)}
	var err error
	if w.images, err = image.Open(image.Options{Dir: filepath.Join(w.dir, "images")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.images.Close() })
	w.gate = egress.New(egress.Options{Private: []netip.Prefix{w.Prefix()}})
	w.host = w.Registry(nil)
	imagetest.Push(t, w.host, "busybox", imagetest.Busybox(t, "curl"))
	return w
}

// builder opens a builder in the world's directory.
func (w *world) builder(engine string, change ...func(*Options)) *Builder {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	o := Options{Dir: filepath.Join(w.dir, "build"), Images: w.images, Daemon: built("buildkitd"), Client: solver.Program(built("errand-buildkit")),
		Engine: engine, Runsc: program(GVisor), Runc: program(Runc), Log: log}
	for _, c := range change {
		c(&o)
	}
	b, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { b.Close() })
	return b
}

// keyOf names a build by its text.
func keyOf(text string) string {
	return dockerfile.Key(dockerfile.KeyInput{File: []byte(text)})
}

// gateFor gives an Attach that lets a range through.
func gateFor(private string) func(context.Context, *machine.Link) (io.Closer, error) {
	gate := egress.New(egress.Options{Private: []netip.Prefix{netip.MustParsePrefix(private)}})
	return func(ctx context.Context, link *machine.Link) (io.Closer, error) {
		return gate.Attach(ctx, link, egress.Policy{}, func(errand.Connection) {})
	}
}

// attach ends a build's network in the world's gate.
func (w *world) attach(ctx context.Context, link *machine.Link) (io.Closer, error) {
	return w.gate.Attach(ctx, link, egress.Policy{}, func(c errand.Connection) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.connections = append(w.connections, c)
	})
}
