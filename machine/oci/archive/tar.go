//go:build linux

package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
)

// Names by which an image's layer says that something is removed.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// tarrer writes one part of a layer.
type tarrer struct {
	tar    *tar.Writer
	part   Part
	layers layers
	own    int    // the layer that is written
	device uint64 // of its root
	links  map[inode]string
	claims int64 // bytes that files claim to hold
}

// inode is a file that may have several names.
type inode struct {
	device, number uint64
}

func (t *tarrer) write() error {
	st, err := t.layers[t.own].Lstat(".")
	if err != nil {
		return err
	}
	t.device = uint64(st.Sys().(*syscall.Stat_t).Dev)
	if err := t.entry(spot{t.own, "."}, ".", st); err != nil {
		return err
	}
	return t.changes(".")
}

// changes writes what the layer itself has in dir.
func (t *tarrer) changes(dir string) error {
	names, err := t.layers.list(spot{t.own, dir})
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, whiteout) {
			continue // an image has no such file
		}
		here := spot{t.own, path.Join(dir, name)}
		st, err := t.layers[t.own].Lstat(here.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // of a live directory
		}
		switch {
		case err != nil:
		case isWhiteout(st):
			err = t.mark(path.Join(dir, whiteout+name))
		case st.IsDir():
			err = t.changedDir(here, st)
		default:
			err = t.entry(here, here.name, st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changedDir writes a directory with what the layer has in it.
func (t *tarrer) changedDir(here spot, st fs.FileInfo) error {
	if uint64(st.Sys().(*syscall.Stat_t).Dev) != t.device {
		return nil // overlays do not see what is mounted below a layer
	}
	if err := t.entry(here, here.name, st); err != nil {
		return err
	}
	if slices.Contains(t.part.Covered, here.name) {
		return nil
	}
	marks, err := t.layers.marks(here)
	if err != nil {
		return err
	}
	if marks.opaque || marks.redirect != "" {
		if err := t.mark(path.Join(here.name, opaque)); err != nil {
			return err
		}
	}
	if marks.redirect == "" {
		return t.changes(here.name)
	}
	v, err := t.layers.at(here.name, t.own+1)
	if err != nil {
		return err
	}
	return t.whole(v, here.name)
}

// whole writes all that a directory shows as what is in dir.
func (t *tarrer) whole(v view, dir string) error {
	names, err := t.layers.names(v)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, whiteout) {
			continue
		}
		file, inner, err := t.layers.child(v, name)
		if err != nil {
			return err
		}
		at := file
		if inner != nil {
			at = &inner[0]
		}
		if at == nil {
			continue
		}
		st, err := t.layers[at.layer].Lstat(at.name)
		if err == nil {
			err = t.entry(*at, path.Join(dir, name), st)
		}
		if err == nil && inner != nil {
			err = t.whole(inner, path.Join(dir, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mark writes an empty file whose name means something.
func (t *tarrer) mark(name string) error {
	return t.tar.WriteHeader(&tar.Header{Name: path.Join(t.part.At, name), Typeflag: tar.TypeReg, Format: tar.FormatPAX})
}

// entry writes what is at from as name. Devices and sockets are left out: they
// are the engine's, and nothing once their program has ended.
func (t *tarrer) entry(from spot, name string, st fs.FileInfo) error {
	sys := st.Sys().(*syscall.Stat_t)
	h := &tar.Header{
		Name: path.Join(t.part.At, name), Mode: int64(sys.Mode & 0o7777), Uid: int(sys.Uid), Gid: int(sys.Gid),
		ModTime: time.Unix(sys.Mtim.Unix()), Format: tar.FormatPAX,
	}
	id := inode{uint64(sys.Dev), sys.Ino}
	earlier, linked := t.links[id]
	switch {
	case st.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case linked:
		h.Typeflag, h.Linkname = tar.TypeLink, earlier
	case st.Mode().IsRegular():
		return t.file(from, h, sys)
	case st.Mode()&fs.ModeSymlink != 0:
		target, err := t.layers[from.layer].Readlink(from.name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case st.Mode()&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
	default:
		return nil
	}
	if h.Typeflag == tar.TypeDir {
		dir, err := t.layers[from.layer].Open(from.name)
		if err != nil {
			return err
		}
		defer dir.Close()
		if h.PAXRecords, err = attributes(dir); err != nil {
			return err
		}
	}
	if h.Typeflag != tar.TypeDir && sys.Nlink > 1 && !linked {
		t.links[id] = h.Name
	}
	return t.tar.WriteHeader(h)
}

// file writes a regular file.
func (t *tarrer) file(from spot, h *tar.Header, sys *syscall.Stat_t) error {
	// What is a file now may be a pipe in a live directory in a moment.
	f, err := t.layers[from.layer].OpenFile(from.name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h.Typeflag, h.Size = tar.TypeReg, sys.Size
	if err := t.claim(h); err != nil {
		return err
	}
	if h.PAXRecords, err = attributes(f); err != nil {
		return err
	}
	if sys.Nlink > 1 {
		t.links[inode{uint64(sys.Dev), sys.Ino}] = h.Name
	}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(t.tar, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size { // a live file became shorter
		_, err = io.CopyN(t.tar, zeros{}, h.Size-n)
	}
	return err
}

// claim bounds what holes are written out.
func (t *tarrer) claim(h *tar.Header) error {
	t.claims += h.Size
	const most = 16 // times of the disk: holes may be in many files
	if limit := t.part.MaxFile; limit > 0 && (h.Size > limit || t.claims > most*limit) {
		return errand.Errorf(errand.Invalid, "file_too_large",
			"The file /%s claims to hold %d MB, which with all others is more than an archive is for: it is mostly holes. Remove it in a machine on this snapshot, and keep that one's disk.", h.Name, h.Size>>20)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// maxAttributes bounds the extended attributes of one file, in bytes: readers
// take no more than a megabyte of all that belongs to a header.
const maxAttributes = 256 << 10

// attributes gives the extended attributes that an image's layer keeps: those
// of programs, and capabilities. Others steer the host that set them.
func attributes(f *os.File) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(f.Fd()), list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing attributes of %s: %w", f.Name(), err)
	}
	var records map[string]string
	total := 0
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") || strings.Contains(name, "=") {
			continue
		}
		value, err := attribute(f, name)
		if err != nil {
			return nil, err
		}
		if total += len(name) + len(value); total > maxAttributes {
			break
		}
		if records == nil {
			records = map[string]string{}
		}
		records["SCHILY.xattr."+name] = string(value)
	}
	return records, nil
}
