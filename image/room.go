package image

import (
	"context"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
)

// roomFor refuses a pull that would fill the disk. Unpacked, layers are about
// three times their size.
func (s *Store) roomFor(layers []v1.Layer) error {
	var total int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			continue
		}
		total += 3 * size
	}
	free, err := Free(s.opts.Dir)
	if err != nil {
		return err
	}
	if free < total+s.opts.Reserve {
		return diskFull(s.opts.Dir, free, total)
	}
	return nil
}

func diskFull(dir string, free, need int64) error {
	return errand.Errorf(errand.Unavailable, "disk_full", "The disk of %s has %d MB free, too few for the image, which needs about %d MB. Free some space and try again.",
		dir, free>>20, need>>20)
}

// Free gives how many bytes may be written to the file system of dir.
func Free(dir string) (int64, error) {
	st, err := statfs(dir)
	return int64(st.Bavail) * st.Bsize, err
}

func statfs(dir string) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return st, fmt.Errorf("reading free space: %w", err)
	}
	return st, nil
}

const (
	// stride is how many bytes are written between two looks at the disk.
	stride = 64 << 20
	// fileRoom is what a file takes besides its content, or more.
	fileRoom = 4 << 10
	// inodeReserve is the part of the disk's inodes that is left free: one in so
	// many.
	inodeReserve = 20
)

// room keeps the disk's reserve free while untrusted input is written to it,
// however much that says it is.
type room struct {
	store *Store
	since int64 // bytes taken since the disk was last looked at
}

// take notes n bytes that were or will be written.
func (r *room) take(n int64) error {
	if r.since += n; r.since < stride {
		return nil
	}
	r.since = 0
	st, err := statfs(r.store.opts.Dir)
	if err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < r.store.opts.Reserve {
		return diskFull(r.store.opts.Dir, free, r.store.opts.Reserve)
	}
	if st.Files > 0 && st.Ffree < st.Files/inodeReserve { // btrfs counts none
		return errand.Errorf(errand.Unavailable, "disk_full", "The disk of %s has room for %d more files, too few for the image. Remove some files and try again.", r.store.opts.Dir, st.Ffree)
	}
	return nil
}

// copy writes src to dst.
func (r *room) copy(ctx context.Context, dst io.Writer, src io.Reader) error {
	for {
		n, err := io.CopyN(dst, src, stride)
		if err == io.EOF {
			return r.take(n)
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.take(n); err != nil {
			return err
		}
	}
}
