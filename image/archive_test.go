package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/errand-dev/errand"
)

// archived is an OCI archive that a test puts together by hand.
type archived struct {
	t     *testing.T
	buf   bytes.Buffer
	w     *tar.Writer
	known map[string]bool
}

func newArchive(t *testing.T) *archived {
	a := &archived{t: t, known: map[string]bool{}}
	a.w = tar.NewWriter(&a.buf)
	a.file("oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`))
	return a
}

func (a *archived) file(name string, data []byte) {
	a.t.Helper()
	if err := a.w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}); err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.w.Write(data); err != nil {
		a.t.Fatal(err)
	}
}

func (a *archived) blob(kind types.MediaType, data []byte) v1.Descriptor {
	a.t.Helper()
	sum := sha256.Sum256(data)
	d := v1.Descriptor{MediaType: kind, Size: int64(len(data)), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	if !a.known[d.Digest.Hex] {
		a.known[d.Digest.Hex] = true
		a.file("blobs/sha256/"+d.Digest.Hex, data)
	}
	return d
}

func (a *archived) document(kind types.MediaType, v any) v1.Descriptor {
	a.t.Helper()
	return a.blob(kind, a.json(v))
}

func (a *archived) json(v any) []byte {
	a.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return data
}

func indexOf(of ...v1.Descriptor) v1.IndexManifest {
	return v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: of}
}

// end gives the archive with top as its index.
func (a *archived) end(top v1.IndexManifest) io.Reader {
	a.t.Helper()
	a.file("index.json", a.json(top))
	if err := a.w.Close(); err != nil {
		a.t.Fatal(err)
	}
	return &a.buf
}

// What an archive says in a few bytes must not take our memory or our time.
func TestArchiveBounds(t *testing.T) {
	s := newStore(t, t.TempDir())
	large := bytes.Repeat([]byte(" "), maxDocument+1)
	tests := map[string]struct {
		says string
		make func(a *archived) io.Reader
	}{
		"configuration": {"larger than", func(a *archived) io.Reader {
			config := a.blob(types.OCIConfigJSON, large)
			config.Size = 2 // what it says is not what it is
			return a.end(indexOf(a.document(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config})))
		}},
		"manifest": {"larger than", func(a *archived) io.Reader {
			return a.end(indexOf(a.blob(types.OCIManifestSchema1, large)))
		}},
		"index": {"larger than", func(a *archived) io.Reader {
			return a.end(indexOf(a.blob(types.OCIImageIndex, large)))
		}},
		"indexes in indexes": {"more than 64 indexes", func(a *archived) io.Reader {
			below := indexOf()
			for range maxDepth {
				inner := a.document(types.OCIImageIndex, below)
				below = indexOf()
				for range 20 {
					below.Manifests = append(below.Manifests, inner)
				}
			}
			return a.end(below)
		}},
		"no image": {"no image for linux", func(a *archived) io.Reader {
			return a.end(indexOf(a.document(types.OCIImageIndex, indexOf())))
		}},
	}
	for what, test := range tests {
		t.Run(what, func(t *testing.T) {
			_, _, err := s.ImportArchive(t.Context(), test.make(newArchive(t)), nil)
			if errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want one that says %q", err, test.says)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.ImportArchive(ctx, newArchive(t).end(indexOf()), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}

// An image of an archive is kept by nobody but whom it was handed to: however it
// ends, nothing is listed and nothing is left.
func TestImportArchive(t *testing.T) {
	s := newStore(t, t.TempDir())
	a := newArchive(t)
	img := imageOf(t, layerOf(t, entry{name: "one", body: "1"}), layerOf(t, entry{name: "two", body: "2"}))
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	a.blob(m.Config.MediaType, config)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		content, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		a.blob(types.DockerLayer, data)
	}
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	got, release, err := s.ImportArchive(t.Context(), a.end(indexOf(a.blob(m.MediaType, manifest))), nil)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(got.Layers[1], "two")); err != nil || string(data) != "2" || !strings.HasPrefix(got.Reference, "imported@sha256:") {
		t.Errorf("image %+v, its file is %q, %v", got, data, err)
	}
	if n := swept(t, s, nothing); n != 0 {
		t.Errorf("%d layers were swept before they were released", n)
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("listed: %+v, %v", list, err)
	}
	release()
	if n := swept(t, s, func(dir string) bool { return dir == got.Layers[0] }); n != 1 {
		t.Errorf("%d layers were swept, want the one on which nobody stands", n)
	}
	if left, err := os.ReadDir(s.path("tags")); err != nil || len(left) > 0 {
		t.Errorf("tags are left: %v, %v", left, err)
	}
}

// described is an image whose registry says that its configuration has so many
// bytes.
type described struct {
	v1.Image
	t    *testing.T
	size int64
}

func (d described) Manifest() (*v1.Manifest, error) {
	m, err := d.Image.Manifest()
	if err != nil {
		return nil, err
	}
	m = m.DeepCopy()
	m.Config.Size = d.size
	return m, nil
}

func (d described) ConfigFile() (*v1.ConfigFile, error) {
	d.t.Errorf("a configuration of %d bytes was read", d.size)
	return d.Image.ConfigFile()
}

func TestConfigurationBound(t *testing.T) {
	s := newStore(t, t.TempDir())
	digest, err := name.NewDigest("registry.test/app@sha256:" + strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{-1, maxDocument + 1} {
		img := described{imageOf(t, layerOf(t, entry{name: "one"})), t, size}
		if err := s.take(t.Context(), digest, img, func(string) {}); errand.KindOf(err) != errand.Invalid {
			t.Errorf("a configuration of %d bytes: %v", size, err)
		}
	}
}
