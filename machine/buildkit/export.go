//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/errand-dev/errand/image"
)

// An image comes back from the daemon as an OCI layout. A layer that an earlier
// image had, the image store has unpacked, and it is not handed over again; the
// layers that were taken in are noted in known/, as files that hold the reference
// of the last image with it. That a layer is there no more, or stands on others
// now, shows when the image is taken in: then the whole of it is asked for.

// keep takes the image that was handed over, by the digest of its manifest,
// into the image store if nothing speaks against it, and gives its reference. errMissing is that a layer was
// not handed over and is not there.
func (o *build) keep(ctx context.Context, manifest string) (string, error) {
	img, err := handedOver(o.out(), manifest)
	if err != nil {
		return "", fmt.Errorf("reading the built image: %w", err)
	}
	if err := o.search(ctx, img); err != nil {
		return "", err
	}
	kept, err := o.builder.opts.Images.Import(ctx, o.Key, img, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errMissing
	}
	if err != nil {
		return "", err
	}
	return kept.Reference, o.builder.note(kept.Reference, img)
}

var errMissing = errors.New("a layer of the image is missing")

// note writes down which layers the image store has, and forgets those of images
// that it has no more.
func (b *Builder) note(reference string, img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return fmt.Errorf("reading the built image: %w", err)
	}
	for _, layer := range m.Layers {
		if err := image.WriteFile(b.path("known", layer.Digest.Hex), []byte(reference)); err != nil {
			return fmt.Errorf("noting a layer: %w", err)
		}
	}
	return b.forget()
}

func (b *Builder) forget() error {
	images, err := b.opts.Images.List()
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, img := range images {
		kept[img.Reference] = true
	}
	notes, err := os.ReadDir(b.path("known"))
	if err != nil {
		return fmt.Errorf("forgetting layers: %w", err)
	}
	for _, note := range notes {
		file := b.path("known", note.Name())
		reference, err := os.ReadFile(file)
		if err == nil && !kept[string(reference)] {
			err = os.Remove(file)
		}
		if err != nil {
			return fmt.Errorf("forgetting layers: %w", err)
		}
	}
	return nil
}

// handedOver reads an image whose blobs are in a layout's directory.
func handedOver(dir, manifest string) (v1.Image, error) {
	hash, err := v1.NewHash(manifest)
	if err != nil {
		return nil, err
	}
	size, err := os.Stat(filepath.Join(dir, "blobs", hash.Algorithm, hash.Hex))
	if err != nil {
		return nil, err
	}
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return nil, err
	}
	if err := at.AppendDescriptor(v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: size.Size(), Digest: hash}); err != nil {
		return nil, err
	}
	return at.Image(hash)
}

func (o *build) out() string { return filepath.Join(o.dir, "out") }
