//go:build linux

package buildkit

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/vishvananda/netlink"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
)

// world is what a test builds in: a registry that the daemon can reach, an
// image store, and a builder.
type world struct {
	t       testing.TB
	dir     string
	address string // of this test program on lo
	host    string // of the registry
	images  *image.Store
	gate    *egress.Gate

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
	if program(engine) == "" {
		guesttest.Lacking(t, "this test needs the engine %s", engine)
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		guesttest.Lacking(t, "this test needs /bin/busybox: install busybox-static")
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
	w := &world{t: t, dir: t.TempDir()}
	w.address = localAddress(t)
	var err error
	if w.images, err = image.Open(image.Options{Dir: filepath.Join(w.dir, "images")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.images.Close() })
	w.gate = egress.New(egress.Options{Private: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(w.address), 32)}})
	w.host = w.serve(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	w.push("busybox", busybox(t))
	return w
}

// localAddress adds an address to lo that the daemon's namespace does not have,
// so that what is served there is reached through the egress.
func localAddress(t testing.TB) string {
	t.Helper()
	pid := os.Getpid()
	address := fmt.Sprintf("10.213.%d.%d", pid>>8&255, pid&255)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(address + "/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrReplace(lo, addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.AddrDel(lo, addr) })
	return address
}

// serve serves h on the address and gives host and port.
func (w *world) serve(h http.Handler) string {
	w.t.Helper()
	l, err := net.Listen("tcp", w.address+":0")
	if err != nil {
		w.t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	w.t.Cleanup(s.Close)
	return l.Addr().String()
}

// push puts img into the registry and gives its name.
func (w *world) push(repository string, img v1.Image) string {
	w.t.Helper()
	ref, err := name.ParseReference(w.host + "/" + repository + ":latest")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		w.t.Fatal(err)
	}
	return ref.Name()
}

// builder opens a builder in the world's directory.
func (w *world) builder(engine string) *Builder {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	b, err := New(Options{Dir: filepath.Join(w.dir, "build"), Images: w.images, Daemon: built("buildkitd"),
		Engine: engine, Runsc: program(GVisor), Runc: program(Runc), Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { b.Close() })
	return b
}

// attach ends a build's network in the world's gate.
func (w *world) attach(ctx context.Context, link *machine.Link) (io.Closer, error) {
	return w.gate.Attach(ctx, link, egress.Policy{}, func(c errand.Connection) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.connections = append(w.connections, c)
	})
}

// busybox is an image of a static busybox with its commands.
func busybox(t testing.TB) v1.Image {
	t.Helper()
	data, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	files := []entry{
		{name: "bin/busybox", data: data, mode: 0o755},
		{name: "etc/passwd", data: []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"), mode: 0o644},
		{name: "etc/group", data: []byte("root:x:0:\napp:x:1000:\n"), mode: 0o644},
		{name: "tmp/", mode: 0o1777}, {name: "root/", mode: 0o700}, {name: "home/app/", mode: 0o755, uid: 1000},
	}
	for _, name := range strings.Fields("sh cat ls echo mkdir rm cp mv id env sleep test wget grep sed touch stat head tail seq sort ps mount find chmod pwd nslookup wc dirname basename true false sync nc ln tr cut date") {
		files = append(files, entry{name: "bin/" + name, link: "busybox"})
	}
	return imageOf(t, v1.Config{Env: []string{"PATH=/usr/local/bin:/bin", "FROM_BASE=yes"}}, files...)
}

// entry is a file of an image's layer.
type entry struct {
	name string // a directory ends with a slash
	data []byte
	link string // of a symbolic link
	mode int64
	uid  int
}

// imageOf makes an image of one layer.
func imageOf(t testing.TB, config v1.Config, files ...entry) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, Uid: f.uid, Gid: f.uid}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}
