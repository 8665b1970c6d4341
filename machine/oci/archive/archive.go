//go:build linux

// Package archive writes the layers of a machine's file system as an OCI image
// in an archive: a tar of an OCI layout, which container tools read.
//
// Two ideas carry it. Layers are in the form of overlayfs, where a removed file
// is a device and a directory can hide or stand for another of the layers
// below; an image's layer has whiteouts for the first two and nothing for the
// last, so a renamed directory is written with all that it shows (view). And a
// layer's digest names its file in the archive, so each layer is packed into a
// nameless temporary file first and then copied out: one at a time, and nothing
// is left behind by whoever is killed.
//
// What the layers hold came out of machines. It is reached through os.Root
// alone; devices and sockets are left out, and so are names that an image would
// take for whiteouts. The package mounts nothing, knows no snapshot and reads
// no archive: that is package image's.
package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is what Write writes.
type Image struct {
	Layers     []Layer // lowest first
	Env        []string
	User       string
	WorkingDir string
	Labels     map[string]string
	Created    time.Time
	// Name is the tag by which programs that load the archive know the image;
	// "" is none.
	Name string
}

// Layer is one layer of an image.
type Layer struct {
	Name  string // for people: "2 of 3"
	Parts []Part // in the order in which they are written
}

// Part is what a layer changes below one directory of the image.
type Part struct {
	At string // slash-separated, from the image's root: ".", "usr"
	// Stack are the directories that overlay one another there, lowest first;
	// the last is the layer's own and the only one that is written.
	Stack []*os.Root
	// Covered are names directly below At whose content other parts are.
	Covered []string
	// MaxFile bounds what a file may claim to hold, in bytes; it may be mostly
	// holes, which an archive spells out. 0 is no bound.
	MaxFile int64
}

// Options are Write's surroundings.
type Options struct {
	// Temp is where layers are packed, one at a time.
	Temp string
	// Room is asked now and then while a layer is packed; its error ends that.
	Room func() error
	// Progress is told in sentences what is done; nil: nobody.
	Progress func(string)
}

// ref is the annotation by which tools know an image of a layout.
const ref = "org.opencontainers.image.ref.name"

// Write writes the image to w. Before the first layer is packed nothing is
// written, so that a layer which cannot be read leaves w alone.
func Write(ctx context.Context, w io.Writer, img Image, o Options) error {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	out := &writer{tar: tar.NewWriter(w), created: img.Created}
	config := v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux", Created: v1.Time{Time: img.Created},
		Config: v1.Config{Env: img.Env, User: img.User, WorkingDir: img.WorkingDir, Labels: img.Labels},
		RootFS: v1.RootFS{Type: "layers"},
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for i, layer := range img.Layers {
		o.Progress(fmt.Sprintf("Packing layer %d of %d (%s).", i+1, len(img.Layers), layer.Name))
		desc, diff, err := out.layer(ctx, layer, o)
		if err != nil {
			return fmt.Errorf("packing layer %d: %w", i+1, err)
		}
		manifest.Layers = append(manifest.Layers, desc)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diff)
		config.History = append(config.History, v1.History{Created: v1.Time{Time: img.Created}, CreatedBy: "errand: " + layer.Name})
	}
	var err error
	if manifest.Config, err = out.document(types.OCIConfigJSON, config); err != nil {
		return err
	}
	desc, err := out.document(types.OCIManifestSchema1, manifest)
	if err != nil {
		return err
	}
	desc.Platform = &v1.Platform{OS: config.OS, Architecture: config.Architecture}
	if img.Name != "" {
		desc.Annotations = map[string]string{ref: img.Name}
	}
	return out.finish(desc)
}

// writer writes the files of a layout.
type writer struct {
	tar     *tar.Writer
	created time.Time
	begun   bool
}

func (w *writer) file(name string, size int64, content io.Reader) error {
	if !w.begun {
		w.begun = true
		if err := w.bytes("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
			return err
		}
	}
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: w.created, Format: tar.FormatPAX}
	if err := w.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("writing archive: %w", err)
	}
	if _, err := io.Copy(w.tar, content); err != nil {
		return fmt.Errorf("writing archive: %w", err)
	}
	return nil
}

func (w *writer) bytes(name string, data []byte) error {
	return w.file(name, int64(len(data)), bytes.NewReader(data))
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// document writes v as a blob and describes it.
func (w *writer) document(kind types.MediaType, v any) (v1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, err
	}
	sum := sha256.Sum256(data)
	d := v1.Descriptor{MediaType: kind, Size: int64(len(data)), Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}}
	return d, w.bytes(blob(d.Digest), data)
}

// layer packs a layer and writes it.
func (w *writer) layer(ctx context.Context, l Layer, o Options) (v1.Descriptor, v1.Hash, error) {
	p, err := pack(ctx, l, o)
	if err != nil {
		return v1.Descriptor{}, v1.Hash{}, err
	}
	defer p.file.Close()
	d := v1.Descriptor{MediaType: types.OCILayer, Size: p.size, Digest: p.digest}
	return d, p.diff, w.file(blob(d.Digest), p.size, io.NewSectionReader(p.file, 0, p.size))
}

// finish writes what comes last: an archive without it is not whole.
func (w *writer) finish(d v1.Descriptor) error {
	index, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}})
	if err != nil {
		return err
	}
	if err := w.bytes("index.json", index); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("writing archive: %w", err)
	}
	return nil
}
