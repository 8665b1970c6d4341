package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/errand-dev/errand"
)

// manifest is the file manifests/<digest>.json: what is needed to use an image
// again without its registry. It is written when all its layers are there.
type manifest struct {
	Reference  string   `json:"reference"`
	Layers     []string `json:"layers"` // names in layers/, lowest first
	Env        []string `json:"env,omitempty"`
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
}

// Get gives the image that ref names: "host", "" for the same, or an OCI
// reference. It blocks while it pulls and tells progress, which may be nil, in
// sentences what it does. An image that was pulled before needs no network if
// ref has a digest; by tag it is taken as it last was, with a Notice, when its
// registry does not answer.
//
// Errors are *errand.Error: Invalid or NotFound when ref is at fault, Forbidden
// when the registry wants other credentials, Unavailable when it may work
// later. An image that was removed while it was looked for is an fs.ErrNotExist.
func (s *Store) Get(ctx context.Context, ref string, progress func(string)) (Image, error) {
	if progress == nil {
		progress = func(string) {}
	}
	if ref == "" || ref == Host {
		return s.host(ctx, progress)
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return Image{}, errand.Errorf(errand.Invalid, "bad_image",
			"%q is not an image reference. Write it like ubuntu:24.04 or registry.example/team/image@sha256:…: %w", ref, err)
	}
	digest, notice, err := s.resolve(ctx, parsed)
	if err != nil {
		return Image{}, err
	}
	img, err := s.pulled(digest)
	if err != nil && isBuilt(digest) {
		return Image{}, builtMissing(digest, err)
	}
	if err != nil {
		if err := s.pullOnce(ctx, digest, progress); err != nil {
			return Image{}, err
		}
		if img, err = s.pulled(digest); err != nil {
			return Image{}, fmt.Errorf("reading image %s: %w", digest, err)
		}
	}
	img.Notice = notice
	if tag, ok := parsed.(name.Tag); ok && !isBuilt(tag) {
		return img, s.keepTag(tag, digest.DigestStr())
	}
	return img, nil
}

// resolve finds the digest that ref stands for now.
func (s *Store) resolve(ctx context.Context, ref name.Reference) (name.Digest, string, error) {
	if d, ok := ref.(name.Digest); ok {
		return d, "", nil
	}
	if isBuilt(ref) {
		img, err := s.Built(ref.Identifier())
		if err != nil {
			return name.Digest{}, "", err
		}
		d, err := name.NewDigest(img.Reference)
		return d, "", err
	}
	desc, err := remote.Head(ref, s.remote(ctx)...)
	if err != nil {
		// Some registries answer HEAD badly; GET costs one small document.
		var full *remote.Descriptor
		if full, err = remote.Get(ref, s.remote(ctx)...); err == nil {
			desc = &full.Descriptor
		}
	}
	if err == nil {
		return ref.Context().Digest(desc.Digest.String()), "", nil
	}
	failed := registryError(ctx, ref, err)
	last, readErr := os.ReadFile(s.tagFile(ref))
	if readErr != nil || errand.KindOf(failed) != errand.Unavailable {
		return name.Digest{}, "", failed
	}
	digest := ref.Context().Digest(string(last))
	return digest, fmt.Sprintf("The registry %s does not answer; image %s is used as it was last pulled (%s).",
		ref.Context().RegistryStr(), ref, last), nil
}

// tagFile is the file that holds the digest which a tag stands for, as it was
// last pulled or imported.
func (s *Store) tagFile(tag name.Reference) string { return s.path("tags", fileName(tag.Name())) }

// keepTag notes what a tag stands for, once that is here.
func (s *Store) keepTag(tag name.Tag, digest string) error {
	file := s.tagFile(tag)
	if last, err := os.ReadFile(file); err == nil && string(last) == digest {
		return nil
	}
	s.pinMu.Lock() // a sweep that saw the file as it was must not remove it as it is
	defer s.pinMu.Unlock()
	if err := WriteFile(file, []byte(digest)); err != nil {
		return fmt.Errorf("keeping what %s stands for: %w", tag, err)
	}
	return nil
}

func (s *Store) remote(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(s.opts.Keychain), remote.WithTransport(s.transport),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH})}
}

// pulled gives an image whose layers are all there.
func (s *Store) pulled(digest name.Digest) (Image, error) {
	data, err := os.ReadFile(s.manifestFile(digest))
	if err != nil {
		return Image{}, err
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Image{}, err
	}
	img := s.imageOf(m)
	for _, dir := range img.Layers {
		if !s.whole(dir) {
			return Image{}, fmt.Errorf("looking for layer %s: %w", filepath.Base(dir), fs.ErrNotExist)
		}
	}
	touch(s.manifestFile(digest))
	return img, nil
}

func (s *Store) imageOf(m manifest) Image {
	img := Image{Reference: m.Reference, Env: m.Env, User: m.User, WorkingDir: m.WorkingDir}
	for _, layer := range m.Layers {
		img.Layers = append(img.Layers, s.path("layers", layer))
	}
	return img
}

func (s *Store) manifestFile(d name.Digest) string {
	return s.path("manifests", fileName(d.Name())+".json")
}

// fileName makes a reference fit to name a file.
func fileName(ref string) string {
	return strings.NewReplacer("/", "+", ":", "=").Replace(ref)
}

// pullOnce pulls the image, together with others who want it now.
func (s *Store) pullOnce(ctx context.Context, digest name.Digest, progress func(string)) error {
	for {
		done := s.pulls.DoChan(digest.Name(), func() (any, error) { return nil, s.pull(ctx, digest, progress) })
		select {
		case res := <-done:
			// The one who pulled may have gone away; those who stay go on.
			if res.Shared && errors.Is(res.Err, context.Canceled) && ctx.Err() == nil {
				continue
			}
			return res.Err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Store) pull(ctx context.Context, digest name.Digest, progress func(string)) error {
	img, err := remote.Image(digest, s.remote(ctx)...)
	if err != nil {
		return registryError(ctx, digest, err)
	}
	return s.take(ctx, digest, img, progress)
}

// take keeps img, whatever it comes from, as what digest names.
func (s *Store) take(ctx context.Context, digest name.Digest, img v1.Image, progress func(string)) error {
	m, unpin, err := s.takeLayers(ctx, digest, img, progress)
	defer unpin()
	if err != nil {
		return err
	}
	if err := s.keepManifest(s.manifestFile(digest), m); err != nil {
		return fmt.Errorf("keeping manifest of %s: %w", digest, err)
	}
	return nil
}

// takeLayers unpacks the layers of img, which people know as digest, and gives
// what is needed to use it. No sweep takes them until unpin is called, which
// must be on an error too.
func (s *Store) takeLayers(ctx context.Context, digest name.Digest, img v1.Image, progress func(string)) (m manifest, unpin func(), err error) {
	var pins []func()
	unpin = func() {
		for _, f := range pins {
			f()
		}
	}
	config, err := s.configOf(ctx, digest, img)
	if err != nil {
		return m, unpin, err
	}
	layers, err := img.Layers()
	if err != nil {
		return m, unpin, registryError(ctx, digest, err)
	}
	if err := fits(digest, config, layers); err != nil {
		return m, unpin, err
	}
	if err := s.roomFor(layers); err != nil {
		return m, unpin, err
	}
	m = manifest{Reference: digest.Name(), Env: config.Config.Env, User: config.Config.User, WorkingDir: config.Config.WorkingDir}
	var made []string
	for i, layer := range layers {
		pins = append(pins, s.pin(chainName(m.Layers, config.RootFS.DiffIDs[i])))
		progress(fmt.Sprintf("Pulling %s: layer %d of %d%s.", digest.Context(), i+1, len(layers), sizeOf(layer)))
		name, err := s.layer(ctx, digest, layer, config.RootFS.DiffIDs[i], m.Layers)
		if err != nil {
			return m, unpin, err
		}
		m.Layers = append(m.Layers, name)
		made = append(made, s.path("layers", name))
	}
	s.syncLater(made...)
	return m, unpin, nil
}

func (s *Store) configOf(ctx context.Context, digest name.Digest, img v1.Image) (*v1.ConfigFile, error) {
	described, err := img.Manifest()
	if err != nil {
		return nil, registryError(ctx, digest, err)
	}
	if size := described.Config.Size; size < 0 || size > maxDocument { // it is read whole, without an end where it says -1
		return nil, errand.Errorf(errand.Invalid, "bad_image", "The configuration of the image %s has %d bytes; %d are the most. Use another image.", digest, size, maxDocument)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, registryError(ctx, digest, err)
	}
	return config, nil
}

// fits refuses an image that no machine of this host can stand on.
func fits(digest name.Digest, config *v1.ConfigFile, layers []v1.Layer) error {
	if len(layers) == 0 || len(layers) != len(config.RootFS.DiffIDs) {
		return errand.Errorf(errand.Invalid, "bad_image", "The image %s is not a file system: it has %d layers and names %d. Use another image.",
			digest, len(layers), len(config.RootFS.DiffIDs))
	}
	if config.OS != "" && config.OS != "linux" || config.Architecture != "" && config.Architecture != runtime.GOARCH {
		return errand.Errorf(errand.Invalid, "bad_image", "The image %s is for %s/%s; this host needs linux/%s. Use an image built for it.",
			digest, config.OS, config.Architecture, runtime.GOARCH)
	}
	return nil
}

func (s *Store) keepManifest(file string, m manifest) error {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	return WriteFile(file, data)
}

func sizeOf(layer v1.Layer) string {
	size, err := layer.Size()
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (%.1f MB)", float64(size)/1e6)
}
