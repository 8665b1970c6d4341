package files

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/inside"
	"github.com/errand-dev/errand/guest/wire"
)

// archive writes entries of one of the formats.
type archive interface {
	// add writes an entry; content is nil for what has none, link where a link
	// points.
	add(name string, stat fs.FileInfo, link string, content io.Reader) error
	Close() error
}

func newArchive(format string, w io.Writer) (archive, error) {
	switch format {
	case "tar":
		return tarArchive{tar.NewWriter(w), nil}, nil
	case "tar.gz":
		z := gzip.NewWriter(w)
		return tarArchive{tar.NewWriter(z), z}, nil
	case "zip":
		return zipArchive{zip.NewWriter(w)}, nil
	}
	return nil, refuse(wire.CodeInvalid, "%q is no archive's format: tar, tar.gz or zip", format)
}

type tarArchive struct {
	*tar.Writer
	outer io.Closer
}

func (a tarArchive) add(name string, stat fs.FileInfo, link string, content io.Reader) error {
	h := &tar.Header{Name: name, Mode: int64(stat.Mode().Perm()), ModTime: stat.ModTime().Truncate(time.Second), Typeflag: tar.TypeReg, Size: stat.Size()}
	switch {
	case stat.IsDir():
		h.Typeflag, h.Name, h.Size = tar.TypeDir, name+"/", 0
	case link != "":
		h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
	}
	if err := a.WriteHeader(h); err != nil || content == nil {
		return err
	}
	_, err := io.Copy(a.Writer, content)
	return err
}

func (a tarArchive) Close() error {
	err := a.Writer.Close()
	if a.outer != nil {
		err = errors.Join(err, a.outer.Close())
	}
	return err
}

type zipArchive struct{ *zip.Writer }

func (a zipArchive) add(name string, stat fs.FileInfo, link string, content io.Reader) error {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: stat.ModTime()}
	h.SetMode(stat.Mode())
	if stat.IsDir() {
		h.Name, h.Method = name+"/", zip.Store
	}
	w, err := a.CreateHeader(h)
	if err != nil {
		return err
	}
	if link != "" {
		_, err = io.WriteString(w, link)
	} else if content != nil {
		_, err = io.Copy(w, content)
	}
	return err
}

// pack prints a folder, or a single file, as an archive. What is .git stays out, and
// what is neither file, folder nor link.
func (c *call) pack() error {
	if c.idle != nil {
		c.idle.Stop() // nothing is to come
	}
	name, err := inside.Physical(c.root, c.path, true)
	if err != nil {
		return err
	}
	stat, err := c.root.Lstat(name)
	if err != nil {
		return err
	}
	a, err := newArchive(c.format, c.out)
	if err != nil {
		return err
	}
	if stat.IsDir() {
		err = c.packFolder(a, name, "")
	} else {
		err = c.packEntry(a, name, path.Base(name))
	}
	return errors.Join(err, a.Close())
}

func (c *call) packFolder(a archive, dir, as string) error {
	entries, err := readDir(c.root, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if e.Name() == ".git" {
			continue
		}
		name, as := path.Join(dir, e.Name()), path.Join(as, e.Name())
		if err := c.packEntry(a, name, as); err != nil && !errors.Is(err, fs.ErrNotExist) { // it went meanwhile
			return err
		}
		if e.IsDir() {
			if err := c.packFolder(a, name, as); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func (c *call) packEntry(a archive, name, as string) error {
	stat, err := c.root.Lstat(name)
	if err != nil {
		return err
	}
	switch mode := stat.Mode(); {
	case mode.IsDir():
		return a.add(as, stat, "", nil)
	case mode&fs.ModeSymlink != 0:
		link, err := c.root.Readlink(name)
		if err != nil {
			return err
		}
		return a.add(as, stat, link, nil)
	case !mode.IsRegular():
		return nil
	}
	f, err := c.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if stat, err = f.Stat(); err != nil || !stat.Mode().IsRegular() {
		return err
	}
	// As long as it was when its header was written: it may grow, or shrink.
	return a.add(as, stat, "", io.LimitReader(io.MultiReader(f, zeros{}), stat.Size()))
}

// zeros is where a file has become shorter while it was read.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
