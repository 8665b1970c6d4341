package image

import (
	"context"
	"fmt"
	"os"
	"regexp"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/errand-dev/errand"
)

// builtAt is the registry and repository of images that were made here. The
// top-level domain is one that never exists, so that they are asked of nobody.
const builtAt = "built.invalid/dockerfile"

var builtKey = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,127}$`)

// Import keeps img, which was made here, under key, and gives it as Get does by
// its Reference from then on, without a network. Layers that are here are not
// read again. It blocks while it unpacks and tells progress, which may be nil,
// what it does. An image that key had before is forgotten by that name and
// stays under its own.
func (s *Store) Import(ctx context.Context, key string, img v1.Image, progress func(string)) (Image, error) {
	if progress == nil {
		progress = func(string) {}
	}
	tag, err := builtTag(key)
	if err != nil {
		return Image{}, err
	}
	hash, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("importing image: %w", err)
	}
	digest := tag.Context().Digest(hash.String())
	if _, err := s.pulled(digest); err != nil {
		if err := s.take(ctx, digest, img, progress); err != nil {
			return Image{}, err
		}
	}
	if err := s.keepTag(tag, hash.String()); err != nil {
		return Image{}, err
	}
	return s.pulled(digest)
}

// Built gives the image that was last imported under key. It is a NotFound
// error where there is none, or where a layer of it is gone. It uses no network.
func (s *Store) Built(key string) (Image, error) {
	tag, err := builtTag(key)
	if err != nil {
		return Image{}, err
	}
	hash, err := os.ReadFile(s.tagFile(tag))
	if err == nil {
		var img Image
		if img, err = s.pulled(tag.Context().Digest(string(hash))); err == nil {
			return img, nil
		}
	}
	return Image{}, builtMissing(tag, err)
}

func builtTag(key string) (name.Tag, error) {
	if !builtKey.MatchString(key) {
		return name.Tag{}, fmt.Errorf("%q is no key of an image", key)
	}
	return name.NewTag(builtAt + ":" + key)
}

// isBuilt says whether ref names an image that was made here.
func isBuilt(ref name.Reference) bool { return ref.Context().Name() == builtAt }

func builtMissing(ref name.Reference, err error) error {
	return errand.Errorf(errand.NotFound, "image_not_found", "The image %s was built on this host and is not here any more (%w). Build it again.", ref, err)
}
