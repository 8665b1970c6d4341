package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
)

// entry is one entry of a layer.
type entry struct {
	name string
	kind byte // of tar; 0 is a regular file
	body string
	link string
	mode int64 // 0 is 0644, for directories 0755
	uid  int
	attr map[string]string
}

func layerOf(t *testing.T, entries ...entry) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Uid: e.uid, Gid: e.uid, Format: tar.FormatPAX}
		if e.kind == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.body))
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if e.kind == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		for k, v := range e.attr {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
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
	return layer
}

func imageOf(t *testing.T, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Env: []string{"A=b"}, User: "33", WorkingDir: "/srv"}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// faulty is a registry whose answers a test can spoil.
type faulty struct {
	*httptest.Server
	blobs atomic.Int64 // answers with a blob
	spoil atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

func newRegistry(t *testing.T) *faulty {
	t.Helper()
	f := &faulty{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if spoil := f.spoil.Load(); spoil != nil && (*spoil)(w, r) {
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256:") {
			f.blobs.Add(1)
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// push gives the reference by tag and by digest.
func (f *faulty) push(t *testing.T, img v1.Image) (tag, digest string) {
	t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(f.URL, "http://") + "/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return ref.Name(), ref.Context().Digest(d.String()).Name()
}

func newStore(t *testing.T, dir string) *Store {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers have owners and devices: this test needs root")
	}
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func get(t *testing.T, s *Store, ref string) Image {
	t.Helper()
	img, err := s.Get(t.Context(), ref, nil)
	if err != nil {
		t.Fatalf("getting %s: %v", ref, err)
	}
	return img
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	below := layerOf(t,
		entry{name: "tmp/", kind: tar.TypeDir, mode: 0o1777},
		entry{name: "usr/bin/", kind: tar.TypeDir},
		entry{name: "bin", kind: tar.TypeSymlink, link: "usr/bin"},
		entry{name: "etc/old", body: "old"},
		entry{name: "srv/full/file", body: "x"})
	above := layerOf(t,
		entry{name: "tmp/file", body: "in tmp", uid: 33},
		entry{name: "bin/tool", body: "tool", mode: 0o4755},
		entry{name: "bin/same", kind: tar.TypeLink, link: "bin/tool"},
		entry{name: "etc/.wh.old"},
		entry{name: "srv/full/.wh..wh..opq"},
		entry{name: "dev/null", kind: tar.TypeChar},
		entry{name: "user", body: "u", attr: map[string]string{"user.note": "kept", "trusted.overlay.redirect": "/etc"}})
	_, digest := reg.push(t, imageOf(t, below, above))
	img := get(t, newStore(t, t.TempDir()), digest)
	if len(img.Layers) != 2 {
		t.Fatalf("layers: %v", img.Layers)
	}
	top := img.Layers[1]
	stat := func(name string) *syscall.Stat_t {
		st, err := os.Lstat(filepath.Join(top, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return &syscall.Stat_t{}
		}
		return st.Sys().(*syscall.Stat_t)
	}
	if m := stat("tmp").Mode & 0o7777; m != 0o1777 {
		t.Errorf("a directory that the layer passes through has mode %o, want that of below", m)
	}
	if st := stat("tmp/file"); st.Uid != 33 || st.Gid != 33 {
		t.Errorf("tmp/file belongs to %d:%d", st.Uid, st.Gid)
	}
	if st := stat("usr/bin/tool"); st.Mode&0o7777 != 0o4755 || st.Nlink != 2 || st.Ino != stat("usr/bin/same").Ino {
		t.Errorf("usr/bin/tool, through the link of below: %+v", st)
	}
	if st := stat("etc/old"); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("the whiteout is %+v", st)
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(filepath.Join(top, "srv/full"), "trusted.overlay.opaque", value); err != nil || string(value[:n]) != "y" {
		t.Errorf("srv/full is not opaque: %v", err)
	}
	if _, err := unix.Getxattr(filepath.Join(top, "user"), "trusted.overlay.redirect", value); err == nil {
		t.Error("a layer could redirect overlayfs")
	}
	if _, err := os.Lstat(filepath.Join(top, "dev/null")); err == nil {
		t.Error("a layer made a device")
	}
	want := Image{Reference: digest, Layers: img.Layers, Env: []string{"A=b"}, User: "33", WorkingDir: "/srv"}
	if diff := cmp.Diff(want, img); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
}

// What a layer took away hides all that was in it, also from what decides where
// the entries of layers above go.
func TestUnpackAboveRemoved(t *testing.T) {
	t.Parallel()
	below := layerOf(t, entry{name: "a/", kind: tar.TypeDir, mode: 0o700}, entry{name: "a/b", kind: tar.TypeSymlink, link: "/x"},
		entry{name: "d/", kind: tar.TypeDir}, entry{name: "d/e/", kind: tar.TypeDir, mode: 0o711})
	file := entry{name: "a/b/c", body: "c"}
	for what, layers := range map[string][]v1.Layer{
		"a link that is there": {layerOf(t, entry{name: "a/other"}), layerOf(t, file)},
		"its parent removed":   {layerOf(t, entry{name: ".wh.a"}), layerOf(t, file)},
		"its parent replaced":  {layerOf(t, entry{name: "a", body: "x"}), layerOf(t, file)},
		"its parent opaque":    {layerOf(t, entry{name: "a/", kind: tar.TypeDir}, entry{name: "a/.wh..wh..opq"}), layerOf(t, file)},
		"opaque here":          {layerOf(t, entry{name: "a/", kind: tar.TypeDir}, entry{name: "a/.wh..wh..opq"}, file)},
		"all removed":          {layerOf(t, entry{name: ".wh..wh..opq"}), layerOf(t, file)},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			_, digest := reg.push(t, imageOf(t, append([]v1.Layer{below}, append(layers, layerOf(t, entry{name: "d/e/f"}))...)...))
			img := get(t, newStore(t, t.TempDir()), digest)
			want := "a/b/c"
			if what == "a link that is there" {
				want = "x/c"
			}
			if data, err := os.ReadFile(filepath.Join(img.Layers[len(layers)], want)); err != nil || string(data) != "c" {
				t.Errorf("%s: %q, %v", want, data, err)
			}
			st, err := os.Stat(filepath.Join(img.Layers[len(layers)+1], "d/e"))
			mode := fs.FileMode(0o711)
			if what == "all removed" {
				mode = 0o755
			}
			if err != nil || st.Mode().Perm() != mode {
				t.Errorf("d/e has the mode %v, %v, want %v", st.Mode().Perm(), err, mode)
			}
		})
	}
}

// What a layer names must never be outside of its directory.
func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("whole"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := map[string][]entry{
		"climbing":           {{name: "../../../../../../.." + victim, body: "evil"}},
		"absolute":           {{name: victim, body: "evil"}},
		"through a link":     {{name: "x", kind: tar.TypeSymlink, link: outside}, {name: "x/victim", body: "evil"}},
		"through two":        {{name: "a", kind: tar.TypeSymlink, link: "b"}, {name: "b", kind: tar.TypeSymlink, link: outside}, {name: "a/victim", body: "evil"}},
		"onto a link":        {{name: "x", kind: tar.TypeSymlink, link: victim}, {name: "x", body: "evil"}},
		"hard link":          {{name: "x", kind: tar.TypeLink, link: "../../../../../.." + victim}, {name: "x", body: "evil"}},
		"whiteout":           {{name: "x", kind: tar.TypeSymlink, link: outside}, {name: "x/.wh.victim"}},
		"whiteout of parent": {{name: ".wh..."}, {name: ".wh.."}},
		"loop":               {{name: "a", kind: tar.TypeSymlink, link: "b"}, {name: "b", kind: tar.TypeSymlink, link: "a"}, {name: "a/x", body: "evil"}},
	}
	for what, entries := range tests {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			_, digest := reg.push(t, imageOf(t, layerOf(t, entries...)))
			_, err := newStore(t, t.TempDir()).Get(t.Context(), digest, nil)
			if err != nil && errand.KindOf(err) != errand.Invalid {
				t.Errorf("error %v, want none or Invalid", err)
			}
			data, err := os.ReadFile(victim)
			if err != nil || string(data) != "whole" {
				t.Fatalf("the file outside is %q, %v", data, err)
			}
			if st, err := os.Stat(victim); err != nil || st.Sys().(*syscall.Stat_t).Nlink != 1 {
				t.Fatal("the file outside was linked to")
			}
		})
	}
}

func TestPullOnce(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	tag, _ := reg.push(t, imageOf(t, layerOf(t, entry{name: "one", body: "1"}), layerOf(t, entry{name: "two", body: "2"})))
	s := newStore(t, t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Get(t.Context(), tag, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := reg.blobs.Load(); got != 3 { // two layers and the configuration
		t.Errorf("%d blobs were fetched, want 3", got)
	}
}

func TestOffline(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	tag, digest := reg.push(t, imageOf(t, layerOf(t, entry{name: "one", body: "1"})))
	dir := t.TempDir()
	online := get(t, newStore(t, dir), tag)
	reg.Close()
	s := newStore(t, dir)
	if got := get(t, s, digest); got.Notice != "" || !cmp.Equal(got.Layers, online.Layers) {
		t.Errorf("by digest: %+v", got)
	}
	got := get(t, s, tag)
	if !strings.Contains(got.Notice, "does not answer") || got.Reference != digest {
		t.Errorf("by tag: %+v", got)
	}
	_, err := s.Get(t.Context(), strings.Replace(tag, "v1", "v2", 1), nil)
	if errand.KindOf(err) != errand.Unavailable {
		t.Errorf("a tag never pulled: %v", err)
	}
}

func TestRegistryErrors(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	tag, _ := reg.push(t, imageOf(t, layerOf(t, entry{name: "one", body: "1"})))
	tests := []struct {
		status int
		kind   errand.Kind
		says   string
	}{
		{404, errand.NotFound, "name and tag"},
		{401, errand.Forbidden, "docker login"},
		{403, errand.Forbidden, "docker login"},
		{429, errand.Unavailable, "limits"},
		{500, errand.Unavailable, "later"},
	}
	for _, test := range tests {
		spoil := func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			w.WriteHeader(test.status)
			return true
		}
		reg.spoil.Store(&spoil)
		_, err := newStore(t, t.TempDir()).Get(t.Context(), tag, nil)
		if errand.KindOf(err) != test.kind {
			t.Errorf("%d: kind %q, want %q", test.status, errand.KindOf(err), test.kind)
			continue
		}
		for _, part := range []string{test.says, "team/app", strings.TrimPrefix(reg.URL, "http://")} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%d: %q does not say %q", test.status, err, part)
			}
		}
	}
	for _, ref := range []string{"Not An Image", "a@sha256:123", ":"} {
		if _, err := newStore(t, t.TempDir()).Get(t.Context(), ref, nil); errand.KindOf(err) != errand.Invalid {
			t.Errorf("%q: %v, want Invalid", ref, err)
		}
	}
}

// All connections of a pull are made by Options.Dial: also that to where a
// registry says tokens are had.
func TestPullDials(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	tag, _ := reg.push(t, imageOf(t, layerOf(t, entry{name: "one", body: "1"})))
	spoil := func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://tokens.test/token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	reg.spoil.Store(&spoil)
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != reg.Listener.Addr().String() {
			return nil, errand.Errorf(errand.Forbidden, "test", "%s may not be reached.", address)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	s, err := Open(Options{Dir: t.TempDir(), Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Get(t.Context(), tag, nil)
	if errand.KindOf(err) != errand.Forbidden || !strings.Contains(err.Error(), "tokens.test:80 may not be reached") {
		t.Errorf("error %v, want what Dial said", err)
	}
}

// A pull that goes wrong leaves nothing that looks whole, and the next works.
func TestDamagedPull(t *testing.T) {
	t.Parallel()
	layer := layerOf(t, entry{name: "big", body: strings.Repeat("damage me ", 100_000)})
	hash, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	damages := map[string]func(body []byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"changed": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"other":   func([]byte) []byte { return []byte("not a layer at all") },
	}
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			tag, _ := reg.push(t, imageOf(t, layer))
			compressed, err := layer.Compressed()
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(compressed)
			if err != nil {
				t.Fatal(err)
			}
			spoil := func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, hash.String()) {
					return false
				}
				w.Write(damage(bytes.Clone(body)))
				return true
			}
			reg.spoil.Store(&spoil)
			dir := t.TempDir()
			s := newStore(t, dir)
			if _, err := s.Get(t.Context(), tag, nil); err == nil {
				t.Fatal("a damaged layer was taken")
			}
			for _, sub := range []string{"layers", "partial", "manifests", "tags"} {
				if left, err := os.ReadDir(filepath.Join(dir, sub)); err != nil || len(left) > 0 {
					t.Errorf("left in %s: %v, %v", sub, left, err)
				}
			}
			reg.spoil.Store(nil)
			get(t, s, tag)
		})
	}
}

// What a killed process left half made is cleared, what a living one is making
// is not.
func TestSweepPartial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newStore(t, dir)
	dead := filepath.Join(dir, "partial", "layer-dead")
	if err := os.MkdirAll(filepath.Join(dead, "tree", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	alive, err := s.newPartial()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.discard()
	newStore(t, dir)
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a dead process left is still there: %v", err)
	}
	if _, err := os.Stat(alive.dir); err != nil {
		t.Errorf("what a living one makes is gone: %v", err)
	}
}

func TestOtherArchitecture(t *testing.T) {
	t.Parallel()
	reg := newRegistry(t)
	img := imageOf(t, layerOf(t, entry{name: "one"}))
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture = "s390x"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	tag, _ := reg.push(t, img)
	_, err = newStore(t, t.TempDir()).Get(t.Context(), tag, nil)
	if errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), "s390x") {
		t.Errorf("an image for another processor: %v", err)
	}
}
