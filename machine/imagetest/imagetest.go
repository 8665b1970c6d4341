//go:build linux

// Package imagetest makes images for tests on the spot, of programs that the
// host has, and serves them from a registry.
//
// The registry stands on an address of this test program's own, which a
// machine or a build reaches through the egress only: what is served on
// 127.0.0.1 they cannot see. All of it is taken down when the test has ended.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/vishvananda/netlink"

	"github.com/errand-dev/errand/guest/guesttest"
)

// Network is an address of the host that the egress must be told to let
// through.
type Network struct {
	t       testing.TB
	Address netip.Addr
}

// NewNetwork adds an address to lo for as long as the test runs. It needs root.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	guesttest.Root(t)
	pid := os.Getpid()
	n := &Network{t, netip.AddrFrom4([4]byte{10, 213, byte(pid >> 8), byte(pid)})}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(n.Prefix().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrReplace(lo, addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.AddrDel(lo, addr); err != nil {
			t.Errorf("removing the address from lo: %v", err)
		}
	})
	return n
}

// Prefix is the address alone, as egress.Options.Private takes it.
func (n *Network) Prefix() netip.Prefix { return netip.PrefixFrom(n.Address, 32) }

// Serve serves h on the address and gives host and port.
func (n *Network) Serve(h http.Handler) string {
	n.t.Helper()
	l, err := net.Listen("tcp", netip.AddrPortFrom(n.Address, 0).String())
	if err != nil {
		n.t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	s.Start()
	n.t.Cleanup(s.Close)
	return l.Addr().String()
}

// Registry serves a registry, in front of which wrap may stand, and gives its
// host and port.
func (n *Network) Registry(wrap func(http.Handler) http.Handler) string {
	n.t.Helper()
	h := newRegistry()
	if wrap != nil {
		h = wrap(h)
	}
	return n.Serve(h)
}

// Loopback serves a registry on loopback, for what pulls on the host, and gives
// its host and port.
func Loopback(t testing.TB) string {
	t.Helper()
	server := httptest.NewServer(newRegistry())
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func newRegistry() http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) }

// Push puts img into a registry and gives its name.
func Push(t testing.TB, host, repository string, img v1.Image, opts ...remote.Option) string {
	t.Helper()
	ref, err := name.ParseReference(host + "/" + repository + ":latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, opts...); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}

// File is a file of an image's layer.
type File struct {
	Name string // a directory ends with a slash
	Data []byte
	Link string // of a symbolic link
	Mode int64
	UID  int // and GID
}

// Image makes an image of one layer.
func Image(t testing.TB, config v1.Config, files ...File) v1.Image {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, Uid: f.UID, Gid: f.UID}
		switch {
		case f.Link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.Link
		case strings.HasSuffix(f.Name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Compressed in form only: to squeeze a toolchain is most of a test's work,
	// above all under the race detector.
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		tarball.WithCompressionLevel(gzip.NoCompression))
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

// Busybox is an image of a static busybox, with root and the user app (1000).
// programs are those of the host that it has besides, with their libraries.
func Busybox(t testing.TB, programs ...string) v1.Image {
	t.Helper()
	return Image(t, v1.Config{Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "FROM_BASE=yes"}}, BusyboxFiles(t, programs...)...)
}

// BusyboxFiles are the files of Busybox.
func BusyboxFiles(t testing.TB, programs ...string) []File {
	t.Helper()
	const at = "/bin/busybox"
	data, err := os.ReadFile(at)
	if err != nil {
		guesttest.Lacking(t, "this test needs %s: install busybox-static", at)
	}
	files := []File{
		{Name: "bin/busybox", Data: data, Mode: 0o755},
		{Name: "etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"), Mode: 0o644},
		{Name: "etc/group", Data: []byte("root:x:0:\napp:x:1000:\n"), Mode: 0o644},
		{Name: "tmp/", Mode: 0o1777}, {Name: "root/", Mode: 0o700}, {Name: "home/app/", Mode: 0o755, UID: 1000},
	}
	out, err := exec.Command(at, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if name != "busybox" {
			files = append(files, File{Name: "bin/" + name, Link: "busybox"})
		}
	}
	seen := map[string]bool{}
	for _, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			guesttest.Lacking(t, "this test needs %s: %v", program, err)
		}
		files = append(files, withLibraries(t, path, seen)...)
	}
	return files
}

// withLibraries gives a program of the host and what the loader needs for it, at
// their own paths.
func withLibraries(t testing.TB, path string, seen map[string]bool) []File {
	t.Helper()
	out, err := exec.Command("ldd", path).CombinedOutput()
	paths := []string{path}
	if err == nil { // a static program has none
		for line := range strings.Lines(string(out)) {
			for word := range strings.FieldsSeq(line) {
				if filepath.IsAbs(word) {
					paths = append(paths, word)
				}
			}
		}
	}
	var files []File
	for _, path := range paths {
		if seen[path] {
			continue
		}
		seen[path] = true
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(fmt.Errorf("taking a program of the host: %w", err))
		}
		files = append(files, File{Name: strings.TrimPrefix(path, "/"), Data: data, Mode: 0o755})
	}
	return files
}

// Tree gives what is below a directory of the host, at its own path. What skip
// says of a path is left out; nil leaves nothing out.
func Tree(t testing.TB, dir string, skip func(path string) bool) []File {
	t.Helper()
	var files []File
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if skip != nil && skip(path) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		name := strings.TrimPrefix(path, "/")
		switch {
		case d.IsDir():
			files = append(files, File{Name: name + "/", Mode: 0o755})
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			files = append(files, File{Name: name, Link: target})
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files = append(files, File{Name: name, Data: data, Mode: 0o755})
		}
		return nil
	})
	if err != nil {
		guesttest.Lacking(t, "this test needs %s: %v", dir, err)
	}
	return files
}
