//go:build linux

package oci

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/imagetest"
)

// toolImage is an image that holds testdata/tool, and files to change.
func toolImage(t *testing.T) v1.Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "tool")
	build := exec.Command("go", "build", "-o", program, "./testdata/tool")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the image's program: %v: %s", err, out)
	}
	tool, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image,
		tarLayer(t, map[string][]byte{"bin/tool": tool, "data/from-image": []byte("image"), "data/covered/below": nil}),
		tarLayer(t, map[string][]byte{"data/tree/a/b": []byte("b"), "data/tree/c": []byte("c"), "data/covered/.wh..wh..opq": nil, "data/covered/above": nil}))
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config.Env, file.Config.WorkingDir, file.Config.User = []string{"FROM_IMAGE=yes"}, "/data", "12"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// tool runs the image's program.
func tool(t *testing.T, m machine.Machine, args ...string) string {
	t.Helper()
	l, err := guest.Open(t.Context(), m.Dial, guest.Options{})
	if err != nil {
		t.Fatalf("opening line: %v", err)
	}
	defer l.Close()
	var out strings.Builder
	exit, err := l.Run(t.Context(), guest.Command{ID: newDiskID(), Args: append([]string{"/bin/tool"}, args...)}, func(o guest.Output) { out.Write(o.Data) })
	if err != nil || exit.Code != 0 {
		t.Fatalf("running %q: exit %+v, error %v: %s", args, exit, err, out.String())
	}
	return out.String()
}

// twoDisks makes a snapshot of two disks on the image and says what a machine
// on it sees.
func twoDisks(t *testing.T, d *Driver, engine, image string) (key machine.SnapshotKey, sees string) {
	t.Helper()
	small := errand.Limits{Disk: 256 << 20}
	m := mustCreate(t, d, "first", machine.Spec{Engine: engine, Image: image, Limits: small})
	t.Log(tool(t, m, "first"))
	if err := m.(*Machine).Snapshot(t.Context(), "a1"); err != nil {
		t.Fatal(err)
	}
	m = mustCreate(t, d, "second", machine.Spec{Engine: engine, From: "a1", Limits: small})
	tool(t, m, "second")
	if err := m.(*Machine).Snapshot(t.Context(), "a2"); err != nil {
		t.Fatal(err)
	}
	sees = tool(t, mustCreate(t, d, "third", machine.Spec{Engine: engine, From: "a2", Limits: small}), "tree", "/srv", "/data", "/bin")
	return "a2", sees
}

// What a machine on a snapshot sees, one on the imported archive sees too, on
// another host and with another engine.
func TestExportImport(t *testing.T) {
	img := toolImage(t)
	for _, engines := range [][2]string{{Runc, GVisor}, {GVisor, Runc}} {
		t.Run(engines[0]+" to "+engines[1], func(t *testing.T) {
			need(t, engines[0])
			need(t, engines[1])
			d := testDriver(t)
			key, want := twoDisks(t, d, engines[0], imagetest.Push(t, imagetest.Loopback(t), "tool", img))
			want = withoutLine(want, "not-a-whiteout")
			var archive bytes.Buffer
			if err := d.ExportSnapshot(t.Context(), key, &archive, machine.Export{Name: "mine:1"}); err != nil {
				t.Fatal(err)
			}
			checkConfig(t, archive.Bytes())
			other := testDriver(t)
			if err := other.ImportSnapshot(t.Context(), "b1", bytes.NewReader(archive.Bytes()), nil); err != nil {
				t.Fatal(err)
			}
			m := mustCreate(t, other, "imported", machine.Spec{Engine: engines[1], From: "b1"})
			if diff := cmp.Diff(want, tool(t, m, "tree", "/srv", "/data", "/bin")); diff != "" {
				t.Errorf("the imported machine sees (-want +got):\n%s", diff)
			}
			if err := other.ImportSnapshot(t.Context(), "b1", bytes.NewReader(archive.Bytes()), nil); errand.KindOf(err) != errand.Conflict {
				t.Errorf("importing over a snapshot: %v, want a conflict", err)
			}
			if err := m.(*Machine).Snapshot(t.Context(), "b2"); err != nil { // a disk above an imported image
				t.Fatal(err)
			}
		})
	}
}

func withoutLine(text, with string) string {
	return strings.Join(slices.DeleteFunc(strings.SplitAfter(text, "\n"), func(l string) bool { return strings.Contains(l, with) }), "")
}

// readArchive unpacks an archive for the library that others read it with.
func readArchive(t *testing.T, data []byte) v1.Image {
	t.Helper()
	dir := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, h.Name)
		content, err := io.ReadAll(r)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func checkConfig(t *testing.T, data []byte) {
	t.Helper()
	file, err := readArchive(t, data).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Env: []string{"FROM_IMAGE=yes"}, WorkingDir: "/data", User: "12"}
	got := v1.Config{Env: file.Config.Env, WorkingDir: file.Config.WorkingDir, User: file.Config.User}
	if diff := cmp.Diff(want, got); diff != "" || len(file.RootFS.DiffIDs) != 4 || file.Config.Labels[labelSnapshot] != "a2" {
		t.Errorf("the archive's settings (-want +got):\n%s\nlayers: %d, labels: %v", diff, len(file.RootFS.DiffIDs), file.Config.Labels)
	}
}

// An archive is an image for everybody: pushed to a registry and named there,
// machines start on it.
func TestExportThroughRegistry(t *testing.T) {
	need(t, Runc)
	host := imagetest.Loopback(t)
	d := testDriver(t)
	key, want := twoDisks(t, d, Runc, imagetest.Push(t, host, "tool", toolImage(t)))
	var archive bytes.Buffer
	if err := d.ExportSnapshot(t.Context(), key, &archive, machine.Export{}); err != nil {
		t.Fatal(err)
	}
	ref := imagetest.Push(t, host, "exported", readArchive(t, archive.Bytes()))
	if err := d.KeepImage(t.Context(), "c1", ref, nil); err != nil {
		t.Fatal(err)
	}
	m := mustCreate(t, d, "pulled", machine.Spec{Engine: Runc, From: "c1"})
	if diff := cmp.Diff(withoutLine(want, "not-a-whiteout"), tool(t, m, "tree", "/srv", "/data", "/bin")); diff != "" {
		t.Errorf("the machine sees (-want +got):\n%s", diff)
	}
}

func TestExportOfHostIsAsked(t *testing.T) {
	need(t, Runc)
	d := testDriver(t)
	m := mustCreate(t, d, "host", machine.Spec{Engine: Runc})
	run(t, m, "echo x > /srv/x; mkdir /usr/local/mine")
	if err := m.(*Machine).Snapshot(t.Context(), "ab"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := d.ExportSnapshot(t.Context(), "ab", &out, machine.Export{})
	if errand.KindOf(err) != errand.Conflict || out.Len() > 0 {
		t.Errorf("exporting a snapshot on the host: %v, %d bytes, want a conflict", err, out.Len())
	}
}

func TestImportRefusesWhatIsNone(t *testing.T) {
	d, err := New(Options{Dir: t.TempDir(), Images: mustImages(t), Guest: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var wrongDigest, noIndex bytes.Buffer
	for buf, files := range map[*bytes.Buffer]map[string]string{
		&wrongDigest: {"oci-layout": "{}", "blobs/sha256/" + strings.Repeat("0", 64): "x"},
		&noIndex:     {"oci-layout": "{}", "../../escape": "x"},
	} {
		w := tar.NewWriter(buf)
		for name, text := range files {
			if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, text)
		}
		w.Close()
	}
	for what, data := range map[string]string{"nothing": "", "text": "hello, this is no archive", "cut gzip": "\x1f\x8b\x08",
		"wrong digest": wrongDigest.String(), "no index": noIndex.String()} {
		if err := d.ImportSnapshot(t.Context(), "ab", strings.NewReader(data), nil); errand.KindOf(err) != errand.Invalid {
			t.Errorf("%s: %v, want an invalid archive", what, err)
		}
	}
	if has, err := d.HasSnapshot(t.Context(), "ab"); has || err != nil {
		t.Errorf("a snapshot was kept of no archive (%v)", err)
	}
}

// mustImages opens an image store of the test's own.
func mustImages(t *testing.T) *image.Store {
	t.Helper()
	s, err := image.Open(image.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
