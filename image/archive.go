package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
)

// ImportArchive takes in the image in an OCI archive: a tar of an OCI layout,
// compressed with gzip or not. Of several images the one for this host is taken.
// The archive is untrusted: what it holds is checked against its digests, and read
// only while the disk has room. An archive that is none, or damaged, is Invalid.
//
// The image is not among those that the store keeps: its layers are there until
// release is called, and after that for as long as Sweep is told that they are
// needed. Its Reference is "imported" with its digest, which Get does not find.
// Without an error, release must be called.
func (s *Store) ImportArchive(ctx context.Context, archive io.Reader, progress func(string)) (_ Image, release func(), _ error) {
	if progress == nil {
		progress = func(string) {}
	}
	p, err := s.newPartial()
	if err != nil {
		return Image{}, nil, fmt.Errorf("importing archive: %w", err)
	}
	defer p.discard()
	if err := s.spool(ctx, p.dir, archive); err != nil {
		return Image{}, nil, err
	}
	img, err := (&contents{dir: p.dir}).image(ctx)
	if ctx.Err() != nil {
		return Image{}, nil, ctx.Err()
	}
	if err != nil {
		return Image{}, nil, badArchive(err)
	}
	hash, err := img.Digest()
	if err != nil {
		return Image{}, nil, badArchive(err)
	}
	digest, err := name.NewDigest(builtAt + "@" + hash.String())
	if err != nil {
		return Image{}, nil, badArchive(err)
	}
	m, unpin, err := s.takeLayers(ctx, digest, img, progress)
	if err != nil {
		unpin()
		return Image{}, nil, err
	}
	m.Reference = "imported@" + hash.String()
	return s.imageOf(m), unpin, nil
}

func badArchive(err error) error {
	return errand.Errorf(errand.Invalid, "bad_archive",
		"This is no OCI image archive, or it is damaged: %w. `errand snapshot export`, `skopeo copy … oci-archive:FILE` and `docker save` (25 or later) write such archives.", err)
}

// Bounds of an image's documents, in bytes, and of the number of an archive's
// files.
const (
	maxDocument = 4 << 20
	maxFiles    = 10_000
)

// blobName matches the only names besides the layout's own documents that are
// written to the disk.
var blobName = regexp.MustCompile(`^blobs/sha256/[0-9a-f]{64}$`)

// spool writes the files of an archive's layout into dir.
func (s *Store) spool(ctx context.Context, dir string, archive io.Reader) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		return fmt.Errorf("importing archive: %w", err)
	}
	plain, err := decompressed(archive)
	if err != nil {
		return badArchive(err)
	}
	tr := tar.NewReader(plain)
	for range maxFiles {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return badArchive(err)
		}
		clean := path.Clean(h.Name)
		switch {
		case h.Typeflag != tar.TypeReg:
		case clean == "index.json" || clean == "oci-layout":
			err = spoolDocument(filepath.Join(dir, clean), tr)
		case blobName.MatchString(clean):
			err = s.spoolBlob(ctx, filepath.Join(dir, filepath.FromSlash(clean)), tr)
		}
		if err != nil {
			return err
		}
	}
	return badArchive(fmt.Errorf("it has more than %d files", maxFiles))
}

// decompressed looks whether r is compressed, and undoes it.
func decompressed(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	magic, err := b.Peek(2)
	if err != nil {
		return nil, errors.New("it is empty")
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return gzip.NewReader(b)
	}
	return b, nil
}

func spoolDocument(file string, r io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return badArchive(err)
	}
	if len(data) > maxDocument {
		return badArchive(fmt.Errorf("its %s is larger than %d bytes", filepath.Base(file), maxDocument))
	}
	return os.WriteFile(file, data, 0o600)
}

// spoolBlob writes a file that is named by its digest and checks that it is.
func (s *Store) spoolBlob(ctx context.Context, file string, content io.Reader) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("importing archive: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	r := room{store: s}
	if err := r.copy(ctx, io.MultiWriter(f, hash), content); err != nil {
		return spoolError(ctx, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != filepath.Base(file) {
		return badArchive(fmt.Errorf("the content of blob %s has the digest %s", filepath.Base(file), got))
	}
	return f.Close()
}

// spoolError tells the disk from the archive.
func spoolError(ctx context.Context, err error) error {
	var known *errand.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &known): // of the disk's reserve
		return known
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return errand.Errorf(errand.Unavailable, "disk_full", "The disk is full; the archive could not be imported. Free some space and try again.")
	}
	return badArchive(err)
}

// contents finds the image for this host in the layout in dir. The package that
// reads layouts reads a document whole: each is measured before.
type contents struct {
	dir     string
	indexes int // looked at so far
}

// Bounds of indexes in indexes.
const (
	maxDepth   = 4
	maxIndexes = 64
)

func (c *contents) image(ctx context.Context) (v1.Image, error) {
	l, err := layout.FromPath(c.dir)
	if err != nil {
		return nil, err
	}
	index, err := l.ImageIndex()
	if err != nil {
		return nil, err
	}
	img, err := c.find(ctx, index, maxDepth)
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	return img, c.measure(m.Config.Digest)
}

// measure refuses a blob that is too large for a document.
func (c *contents) measure(blob v1.Hash) error {
	st, err := os.Stat(filepath.Join(c.dir, "blobs", blob.Algorithm, blob.Hex))
	if err != nil {
		return err
	}
	if st.Size() > maxDocument {
		return fmt.Errorf("its document %s is larger than %d bytes", blob, maxDocument)
	}
	return nil
}

func (c *contents) find(ctx context.Context, index v1.ImageIndex, depth int) (v1.Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if c.indexes++; c.indexes > maxIndexes {
		return nil, fmt.Errorf("it has more than %d indexes", maxIndexes)
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.Platform != nil && (d.Platform.OS != "linux" || d.Platform.Architecture != runtime.GOARCH) {
			continue
		}
		inner := d.MediaType.IsIndex() && depth > 0
		if !inner && !d.MediaType.IsImage() {
			continue
		}
		if err := c.measure(d.Digest); err != nil {
			return nil, err
		}
		if !inner {
			return index.Image(d.Digest)
		}
		below, err := index.ImageIndex(d.Digest)
		if err != nil {
			return nil, err
		}
		img, err := c.find(ctx, below, depth-1)
		if !errors.Is(err, errNoImage) {
			return img, err
		}
	}
	return nil, errNoImage
}

var errNoImage = errors.New("it has no image for linux/" + runtime.GOARCH)
