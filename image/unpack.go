package image

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
)

// layer gives the name in layers/ of one layer above others, unpacking it if
// it is not there. The name is that of the whole chain, because a directory
// that a layer only passes through shows what it is below.
func (s *Store) layer(ctx context.Context, ref name.Digest, layer v1.Layer, diff v1.Hash, below []string) (string, error) {
	chain := chainName(below, diff)
	dir := s.path("layers", chain)
	if s.whole(dir) {
		return chain, nil
	}
	p, err := s.newPartial()
	if err != nil {
		return "", fmt.Errorf("unpacking layer: %w", err)
	}
	defer p.discard()
	content, err := layer.Uncompressed() // checks the compressed digest as it goes
	if err != nil {
		return "", registryError(ctx, ref, err)
	}
	defer content.Close()
	hash := sha256.New()
	if err := s.unpack(ctx, io.TeeReader(content, hash), p.dir, below); err != nil {
		return "", unpackError(ctx, ref, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != diff.Hex {
		return "", errand.Errorf(errand.Unavailable, "bad_layer", "A layer of %s arrived damaged: its content has digest %s, not %s. Try again.", ref, got, diff.Hex)
	}
	if err := s.keep(p, dir); err != nil {
		return "", fmt.Errorf("keeping layer: %w", err)
	}
	return chain, nil
}

func chainName(below []string, diff v1.Hash) string {
	sum := sha256.Sum256([]byte(strings.Join(below, " ") + " " + diff.String()))
	return hex.EncodeToString(sum[:])[:32]
}

// unpackError tells apart the network, the disk and the image.
func unpackError(ctx context.Context, ref name.Reference, err error) error {
	var known *errand.Error
	var bad *badEntry
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &known):
		return err
	case errors.As(err, &bad), errors.Is(err, tar.ErrHeader):
		return errand.Errorf(errand.Invalid, "bad_layer", "A layer of %s cannot be unpacked: %w. Use another image.", ref, err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return errand.Errorf(errand.Unavailable, "disk_full", "The disk is full; %s could not be unpacked. Free some space and try again.", ref)
	}
	return registryError(ctx, ref, err)
}

// badEntry is an entry that no well-made layer has.
type badEntry struct {
	name string
	err  error
}

func (e *badEntry) Error() string { return fmt.Sprintf("entry %q: %v", e.name, e.err) }
func (e *badEntry) Unwrap() error { return e.err }

// unpacker writes one layer's tar stream below root. Names and links in it are
// untrusted; os.Root keeps every one of them inside.
type unpacker struct {
	root  *os.Root
	below []string // directories of the layers below, lowest first
	room  room

	entries   int                  // so far
	dirs      map[string]time.Time // of directories, which change as they are filled
	dirsSpace int                  // what dirs takes, in bytes
}

// What one layer may have. It is all the memory that a layer costs us: real ones
// have a tenth of it.
const (
	maxEntries   = 4 << 20
	maxName      = unix.PathMax
	maxDirsSpace = 128 << 20
	dirSpace     = 64 // of a directory besides its name
)

func (s *Store) unpack(ctx context.Context, r io.Reader, dir string, below []string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, room: room{store: s}, dirs: map[string]time.Time{}}
	for _, name := range below {
		u.below = append(u.below, s.path("layers", name))
	}
	if err := u.adopt("."); err != nil {
		return err
	}
	buffered := bufio.NewReaderSize(r, 1<<20)
	for tr := tar.NewReader(buffered); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := u.entry(ctx, h, tr); err != nil {
			return err
		}
	}
	if err := u.finishDirs(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, buffered) // what follows the archive counts for the digest
	return err
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"

	opaqueAttr = "trusted.overlay.opaque" // of a directory, with the value y
)

func (u *unpacker) entry(ctx context.Context, h *tar.Header, content io.Reader) error {
	if u.entries++; u.entries > maxEntries {
		return &badEntry{h.Name, fmt.Errorf("the layer has more than %d entries", maxEntries)}
	}
	if err := u.room.take(fileRoom); err != nil {
		return err
	}
	if max(len(h.Name), len(h.Linkname)) > maxName {
		return &badEntry{h.Name[:min(len(h.Name), 64)], unix.ENAMETOOLONG}
	}
	name := path.Clean(strings.TrimPrefix(path.Clean("/"+h.Name), "/"))
	if name == "." {
		return u.attributes(name, h)
	}
	at, err := u.place(name)
	if err != nil {
		return &badEntry{h.Name, err}
	}
	dir, base := path.Split(at)
	dir = path.Clean("./" + dir)
	switch {
	case base == opaque:
		return u.inDir(dir, func(fd int) error { return unix.Fsetxattr(fd, opaqueAttr, []byte("y"), 0) })
	case strings.HasPrefix(base, whiteout+whiteout):
		return nil // of aufs, and of no meaning here
	case strings.HasPrefix(base, whiteout):
		gone := strings.TrimPrefix(base, whiteout)
		if gone == "" || gone == "." || gone == ".." {
			return &badEntry{h.Name, errors.New("a whiteout of nothing")}
		}
		if err := u.root.RemoveAll(path.Join(dir, gone)); err != nil {
			return &badEntry{h.Name, err}
		}
		return u.inDir(dir, func(fd int) error { return unix.Mknodat(fd, gone, unix.S_IFCHR, 0) })
	}
	if err := u.create(ctx, at, h, content); err != nil {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, io.ErrUnexpectedEOF) || ctx.Err() != nil {
			return err
		}
		var known *errand.Error
		if errors.As(err, &known) {
			return err
		}
		return &badEntry{h.Name, err}
	}
	return nil
}

// create makes the entry, in place of what an earlier one of this layer made.
func (u *unpacker) create(ctx context.Context, at string, h *tar.Header, content io.Reader) error {
	st, err := u.root.Lstat(at)
	if err == nil && !(st.IsDir() && h.Typeflag == tar.TypeDir) {
		if err := u.root.RemoveAll(at); err != nil {
			return err
		}
		u.forgetTime(at)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.root.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := u.keepTime(at, timeOf(h)); err != nil {
			return err
		}
		return u.attributes(at, h)
	case tar.TypeReg:
		if err := u.file(ctx, at, content); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, at); err != nil {
			return err
		}
		return u.root.Lchown(at, h.Uid, h.Gid)
	case tar.TypeLink:
		target, err := u.place(path.Clean(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")))
		if err != nil {
			return err
		}
		return u.root.Link(target, at)
	case tar.TypeFifo:
		dir, base := path.Split(at)
		if err := u.inDir(path.Clean("./"+dir), func(fd int) error { return unix.Mkfifoat(fd, base, 0o600) }); err != nil {
			return err
		}
		return errors.Join(u.root.Lchown(at, h.Uid, h.Gid), u.root.Chmod(at, modeOf(h)))
	default:
		return nil // devices come from the engine, never from an image
	}
	return u.attributes(at, h)
}

func (u *unpacker) file(ctx context.Context, at string, content io.Reader) error {
	f, err := u.root.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(u.room.copy(ctx, f, content), f.Close())
}

// attributes sets owner, mode, times and extended attributes of a file or
// directory: in this order, since a change of owner clears the mode's set-id
// bits and the file's capabilities.
func (u *unpacker) attributes(at string, h *tar.Header) error {
	if err := u.root.Lchown(at, h.Uid, h.Gid); err != nil {
		return err
	}
	if err := u.root.Chmod(at, modeOf(h)); err != nil {
		return err
	}
	f, err := u.root.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		// trusted.* steers overlayfs itself, and what is left of security.* is
		// the labels of another host.
		if !ok || attr != "security.capability" && !strings.HasPrefix(attr, "user.") {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("setting %s: %w", attr, err)
		}
	}
	return u.root.Chtimes(at, timeOf(h), timeOf(h))
}

// keepTime notes the time of a directory for finishDirs.
func (u *unpacker) keepTime(dir string, at time.Time) error {
	if _, known := u.dirs[dir]; !known {
		if u.dirsSpace += len(dir) + dirSpace; u.dirsSpace > maxDirsSpace {
			return errors.New("the layer has too many directories")
		}
	}
	u.dirs[dir] = at
	return nil
}

func (u *unpacker) forgetTime(dir string) {
	if _, known := u.dirs[dir]; known {
		u.dirsSpace -= len(dir) + dirSpace
		delete(u.dirs, dir)
	}
}

func (u *unpacker) finishDirs() error {
	for dir, at := range u.dirs {
		err := u.root.Chtimes(dir, at, at)
		// A later entry may have replaced one above it.
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
	}
	return nil
}

// modeOf gives the mode with the set-id and sticky bits, which os.FileMode
// keeps elsewhere than tar.
func modeOf(h *tar.Header) fs.FileMode {
	const bits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	return h.FileInfo().Mode() & bits
}

func timeOf(h *tar.Header) time.Time {
	if h.ModTime.Unix() < 0 {
		return time.Unix(0, 0)
	}
	return h.ModTime
}

// inDir hands f a descriptor of a directory below root.
func (u *unpacker) inDir(dir string, f func(fd int) error) error {
	d, err := u.root.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(int(d.Fd()))
}
