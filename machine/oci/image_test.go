//go:build linux

package oci

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/imagetest"
)

// A program that is all an image holds.
const program = `package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Print(os.Getenv("FROM_IMAGE"), " ", os.Getuid())
	for _, name := range os.Args[1:] {
		data, err := os.ReadFile(name)
		fmt.Printf(" %s %v", data, err == nil)
	}
}
`

// pushImage builds the image of two layers and gives its reference.
func pushImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "show"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the image's program: %v: %s", err, out)
	}
	show, err := os.ReadFile(filepath.Join(dir, "show"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image,
		tarLayer(t, map[string][]byte{"bin/show": show, "old": []byte("old"), "new": []byte("below")}),
		tarLayer(t, map[string][]byte{".wh.old": nil, "new": []byte("above")}))
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config.Env = []string{"FROM_IMAGE=yes"}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return imagetest.Push(t, imagetest.Loopback(t), "show", img)
}

func tarLayer(t *testing.T, files map[string][]byte) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
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

func TestImageFromRegistry(t *testing.T) {
	ref := pushImage(t)
	for _, engine := range []string{Runc, GVisor} {
		t.Run(engine, func(t *testing.T) {
			need(t, engine)
			d := testDriver(t)
			m := mustCreate(t, d, "pulled", machine.Spec{Engine: engine, Image: ref})
			l, err := guest.Open(t.Context(), m.Dial, guest.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			var out strings.Builder
			c := guest.Command{ID: "show", Args: []string{"/bin/show", "/old", "/new"}}
			exit, err := l.Run(t.Context(), c, func(o guest.Output) { out.Write(o.Data) })
			if want := "yes 0  false above true"; err != nil || exit.Code != 0 || out.String() != want {
				t.Errorf("exit %+v, error %v, printed %q, want %q", exit, err, out.String(), want)
			}
			if got := m.(machine.Reporter).Report().Image; !strings.Contains(got, "@sha256:") {
				t.Errorf("Report names the image %q, want its digest", got)
			}
		})
	}
}
