package files

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/inside"
	"github.com/errand-dev/errand/guest/wire"
)

// maxEntries bounds the entries of an archive.
const maxEntries = 200_000

// entry is one of an archive's.
type entry struct {
	name string
	mode fs.FileMode // its kind, and permissions
	link string
	open func() (io.ReadCloser, error)
}

// unpacking takes an archive into a folder of its own, and then to its place.
type unpacking struct {
	*call
	stage   *os.Root
	at      string // the stage, in root
	left    int64  // bytes that are still taken
	entries int
}

// unpack puts an archive's entries into a folder: all of them, over what is there,
// or none. It prints how many there were.
func (c *call) unpack() (err error) {
	into, err := inside.Physical(c.root, c.path, true)
	if err != nil {
		return err
	}
	if err := c.root.MkdirAll(into, 0o755); err != nil {
		return err
	}
	staged := path.Join(into, path.Base(beside("x")))
	c.stage(staged)
	if err := c.root.Mkdir(staged, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.root.RemoveAll(staged)) }()
	stage, err := c.root.OpenRoot(staged)
	if err != nil {
		return err
	}
	defer stage.Close()
	u := &unpacking{call: c, stage: stage, at: staged, left: c.most}
	if err := u.read(); err != nil {
		return err
	}
	if err := u.arrive(".", into, true); err != nil { // look
		return err
	}
	if err := c.settle(func() error { return u.arrive(".", into, false) }); err != nil {
		return err
	}
	return json.NewEncoder(c.out).Encode(map[string]int{"entries": u.entries})
}

// read reads the input, whatever its format is by its first bytes.
func (u *unpacking) read() error {
	in := u.input()
	b := bufio.NewReaderSize(in, 64<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case bytes.HasPrefix(head, []byte("PK")):
		return u.zip(b)
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return bad(err)
		}
		if err := u.tar(z); err != nil {
			return err
		}
	default:
		if err := u.tar(b); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, b) // to its end, which says whether it is whole
	return err
}

func bad(err error) error {
	var f *wire.Fault
	if errors.As(err, &f) {
		return f
	}
	return refuse(wire.CodeInvalid, "this is no archive that can be read (tar, tar.gz or zip): %v", err)
}

func (u *unpacking) tar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bad(err)
		}
		e := entry{name: h.Name, mode: fs.FileMode(h.Mode).Perm(), open: func() (io.ReadCloser, error) { return io.NopCloser(t), nil }}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeDir:
			e.mode |= fs.ModeDir
		case tar.TypeSymlink:
			e.mode, e.link = fs.ModeSymlink, h.Linkname
		case tar.TypeXGlobalHeader:
			continue
		default:
			return refuse(wire.CodeInvalid, "%q in the archive is neither a file, a folder nor a symbolic link", h.Name)
		}
		if err := u.take(e); err != nil {
			return err
		}
	}
}

// zip needs to read back and forth, so its input is kept in a file without a name.
func (u *unpacking) zip(r io.Reader) error {
	name := ".zip"
	f, err := u.stage.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := u.stage.Remove(name); err != nil {
		return err
	}
	size, err := io.Copy(f, r)
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, size)
	if err != nil {
		return bad(err)
	}
	for _, f := range z.File {
		e := entry{name: f.Name, mode: f.Mode(), open: f.Open}
		switch {
		case strings.HasSuffix(f.Name, "/"):
			e.mode = fs.ModeDir | f.Mode().Perm()
		case f.Mode()&fs.ModeSymlink != 0:
			link, err := f.Open()
			if err != nil {
				return bad(err)
			}
			text, err := io.ReadAll(io.LimitReader(link, 4<<10))
			link.Close()
			if err != nil {
				return bad(err)
			}
			e.link = string(text)
		case !f.Mode().IsRegular():
			return refuse(wire.CodeInvalid, "%q in the archive is neither a file, a folder nor a symbolic link", f.Name)
		}
		if err := u.take(e); err != nil {
			return err
		}
	}
	return nil
}

// take puts one entry on the stage.
func (u *unpacking) take(e entry) error {
	if u.entries++; u.entries > maxEntries {
		return refuse(wire.CodeTooLarge, "the archive has more than %d entries", maxEntries)
	}
	// A name that only looks as if it stayed inside is refused too.
	for part := range strings.SplitSeq(strings.ReplaceAll(e.name, `\`, "/"), "/") {
		if part == ".." {
			return refuse(wire.CodeOutside, "%q in the archive leads outside", e.name)
		}
	}
	name, err := inside.Physical(u.stage, e.name, false)
	if err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	if err := u.through(name, e.name); err != nil {
		return err
	}
	if e.mode.IsDir() {
		return u.stage.MkdirAll(name, 0o755)
	}
	if err := u.stage.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := u.stage.RemoveAll(name); err != nil { // named twice: the later one counts
		return err
	}
	if e.mode&fs.ModeSymlink != 0 {
		return u.link(name, e)
	}
	return u.file(name, e)
}

// through refuses an entry whose folder is a link, of this archive.
func (u *unpacking) through(name, said string) error {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if stat, err := u.stage.Lstat(dir); err == nil && !stat.IsDir() {
			return refuse(wire.CodeOutside, "%q in the archive goes through a link or a file", said)
		}
	}
	// Physical has followed links on the way; a name that it changed had some.
	if clean := path.Clean(said); clean != name {
		return refuse(wire.CodeOutside, "%q in the archive goes through a link or a file", said)
	}
	return nil
}

// link takes a link that stays in the folder.
func (u *unpacking) link(name string, e entry) error {
	to := path.Join(path.Dir(name), e.link)
	if e.link == "" || path.IsAbs(e.link) || to == ".." || strings.HasPrefix(to, "../") {
		return refuse(wire.CodeOutside, "%q in the archive is a link that leads outside", e.name)
	}
	return u.stage.Symlink(e.link, name)
}

func (u *unpacking) file(name string, e entry) error {
	content, err := e.open()
	if err != nil {
		return bad(err)
	}
	defer content.Close()
	mode := fs.FileMode(0o644)
	if e.mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := u.stage.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(content, u.left+1))
	if err != nil {
		err = bad(err)
	}
	if u.left -= n; u.left < 0 {
		err = refuse(wire.CodeTooLarge, "what is in the archive has more bytes than are taken")
	}
	return errors.Join(err, f.Close(), u.ctx.Err())
}

// arrive moves what is on the stage to its place, or only looks whether it can.
func (u *unpacking) arrive(dir, into string, look bool) error {
	entries, err := readDir(u.stage, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := path.Join(dir, e.Name()), path.Join(into, e.Name())
		there, err := u.root.Lstat(to)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
		switch {
		case err == nil && there.IsDir() != e.IsDir():
			return refuse(wire.CodeExist, "%s is there already, and is something else than in the archive", to)
		case e.IsDir() && (look || err == nil):
			if err := u.arrive(from, to, look); err != nil {
				return err
			}
		case look:
		default:
			// The stage is below root as well.
			if err := u.root.Rename(path.Join(u.at, from), to); err != nil {
				return err
			}
		}
	}
	return nil
}
