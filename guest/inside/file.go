package inside

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/wire"
)

const (
	maxRead = 4 << 20
	newMode = 0o644
	newDir  = 0o755
)

// serveFile answers what is about files.
func (g *Guest) serveFile(m wire.Method, s *call) {
	switch m {
	case wire.MethodRead:
		g.serveRead(s)
	case wire.MethodStat:
		answer(s, func(p wire.Path) (wire.Stat, error) {
			return within(p, func(r *os.Root, name string) (wire.Stat, error) {
				name, err := physical(r, name, false)
				if err != nil {
					return wire.Stat{}, err
				}
				return statOf(r, name)
			})
		})
	case wire.MethodList:
		answer(s, func(p wire.List) (wire.Listing, error) {
			return within(p.Path, func(r *os.Root, name string) (wire.Listing, error) {
				name, err := physical(r, name, true)
				if err != nil {
					return wire.Listing{}, err
				}
				return list(r, name, p.ListOptions)
			})
		})
	case wire.MethodSearch:
		answer(s, func(p wire.Search) (wire.SearchResult, error) {
			return within(wire.Path{Root: p.Root, Path: p.Path}, func(r *os.Root, name string) (wire.SearchResult, error) {
				name, err := physical(r, name, true)
				if err != nil {
					return wire.SearchResult{}, err
				}
				return search(r, name, p.SearchOptions)
			})
		})
	case wire.MethodWrite:
		answer(s, func(p wire.Write) (wire.Stat, error) {
			return once(g, p.Op, func() (wire.Stat, error) {
				return within(p.Path, func(r *os.Root, name string) (wire.Stat, error) {
					return writeFile(r, name, s.body, p.Mode)
				})
			})
		})
	case wire.MethodChange:
		answer(s, func(p wire.Change) (wire.ChangeResult, error) {
			return once(g, p.Op, func() (wire.ChangeResult, error) {
				return within(wire.Path{Root: p.Root}, func(r *os.Root, _ string) (wire.ChangeResult, error) {
					return change(r, p.Changes)
				})
			})
		})
	}
}

// within opens the root of a path for the time of do. name may still have
// links in it: see physical.
func within[R any](p wire.Path, do func(r *os.Root, name string) (R, error)) (R, error) {
	var none R
	if !filepath.IsAbs(p.Root) {
		return none, faultf(wire.CodeInvalid, "root %q is not an absolute path", p.Root)
	}
	name, err := relative(p.Path)
	if err != nil {
		return none, err
	}
	root, err := os.OpenRoot(p.Root)
	if err != nil {
		return none, err
	}
	defer root.Close()
	return do(root, name)
}

// relative checks a path that came with a request, as far as that goes without
// looking at files.
func relative(p string) (string, error) {
	if strings.HasPrefix(p, "/") || strings.Contains(p, "\x00") {
		return "", faultf(wire.CodeOutside, "%q is not relative to its root", p)
	}
	if p = path.Clean(p); p == ".." || strings.HasPrefix(p, "../") {
		return "", faultf(wire.CodeOutside, "%q is outside its root", p)
	}
	return p, nil
}

// serveRead answers with a part of a file.
func (g *Guest) serveRead(s *call) {
	p, ok := decode[wire.Read](s)
	if !ok {
		return
	}
	var data []byte
	stat, err := within(p.Path, func(r *os.Root, name string) (stat wire.Stat, err error) {
		if name, err = physical(r, name, true); err == nil {
			data, stat, err = readFile(r, name, p.Offset, p.Limit)
		}
		return stat, err
	})
	if err != nil {
		wire.WriteFault(s, fault(err))
		return
	}
	wire.WriteAnswer(s, stat, data)
}

// openFile opens a regular file for reading.
func openFile(r *os.Root, name string) (*os.File, fs.FileInfo, error) {
	// Without O_NONBLOCK a pipe without a writer would hold us up here.
	f, err := r.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	stat, err := f.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = faultf(wire.CodeInvalid, "%s is %s, not a regular file", name, kindOf(stat.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, stat, nil
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "a file"
}

func readFile(r *os.Root, name string, offset, limit int64) ([]byte, wire.Stat, error) {
	if offset < 0 || limit < 0 {
		return nil, wire.Stat{}, faultf(wire.CodeInvalid, "offset and limit must not be negative")
	}
	if limit == 0 || limit > maxRead {
		limit = maxRead
	}
	f, stat, err := openFile(r, name)
	if err != nil {
		return nil, wire.Stat{}, err
	}
	defer f.Close()
	if size := stat.Size(); size > 0 {
		// Files of /proc have no size and are read up to the limit.
		limit = min(limit, max(0, size-offset))
	}
	data, err := io.ReadAll(io.NewSectionReader(f, offset, limit))
	if err != nil {
		return nil, wire.Stat{}, err
	}
	return data, describe(name, stat, ""), nil
}

// statOf says what name is, without following a last link.
func statOf(r *os.Root, name string) (wire.Stat, error) {
	stat, err := r.Lstat(name)
	if err != nil {
		return wire.Stat{}, err
	}
	link := ""
	if stat.Mode()&fs.ModeSymlink != 0 {
		link, _ = r.Readlink(name)
	}
	return describe(name, stat, link), nil
}

func describe(name string, stat fs.FileInfo, link string) wire.Stat {
	uid, gid := owner(stat)
	return wire.Stat{
		Path: name, Size: stat.Size(), Mode: stat.Mode(), ModTime: stat.ModTime().UTC(),
		UID: uid, GID: gid, Link: link,
	}
}

func owner(stat fs.FileInfo) (uid, gid int) {
	if sys, ok := stat.Sys().(*syscall.Stat_t); ok {
		return int(sys.Uid), int(sys.Gid)
	}
	return 0, 0
}

// mine says whether what the guest makes belongs to uid and gid by itself.
func mine(uid, gid int) bool { return uid == os.Geteuid() && gid == os.Getegid() }

// writeFile makes data the content of name.
func writeFile(r *os.Root, name string, data []byte, mode fs.FileMode) (wire.Stat, error) {
	name, stat, err := resolve(r, name)
	if err != nil {
		return wire.Stat{}, err
	}
	w := newWriter(r)
	defer w.clean()
	staged, err := w.stage(name, data, stat, mode)
	if err != nil {
		return wire.Stat{}, err
	}
	if err := w.place(staged, name); err != nil {
		return wire.Stat{}, err
	}
	w.keep()
	return statOf(r, name)
}

// resolve follows all links of name, so that what is written is the file and
// not the link. stat is nil where there is no file.
func resolve(r *os.Root, name string) (string, fs.FileInfo, error) {
	name, err := physical(r, name, true)
	if err != nil {
		return "", nil, err
	}
	stat, err := r.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name, nil, nil
	case err != nil:
		return "", nil, err
	case !stat.Mode().IsRegular():
		return "", nil, faultf(wire.CodeInvalid, "%s is %s, not a regular file", name, kindOf(stat.Mode()))
	}
	return name, stat, nil
}

// maxFolders is how many directories a writer has open at once.
const maxFolders = 64

// writer stages files beside their places and takes back what is not kept. It
// has directories open between one file and the next, since a path is walked
// element by element, and each costs as much as a file under gVisor.
type writer struct {
	root    *os.Root
	staged  []string           // files that clean removes
	made    []string           // directories that clean removes, outermost first
	folders map[string]*folder // those that are open
}

// folder is a directory that files are written into.
type folder struct {
	root *os.Root
	stat fs.FileInfo
	made bool // by this writer
}

func newWriter(r *os.Root) *writer { return &writer{root: r, folders: map[string]*folder{}} }

// stage writes data into a new file beside name. was is the file there now, nil
// for none, whose mode and owner the new one gets.
func (w *writer) stage(name string, data []byte, was fs.FileInfo, mode fs.FileMode) (string, error) {
	dir, err := w.folder(path.Dir(name))
	if err != nil {
		return "", err
	}
	mode = cmp.Or(mode.Perm(), newMode)
	uid, gid := owner(dir.stat)
	if was != nil {
		mode = was.Mode()
		uid, gid = owner(was)
	}
	staged := beside(name)
	f, err := dir.root.OpenFile(path.Base(staged), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	w.staged = append(w.staged, staged)
	_, err = f.Write(data)
	if err == nil && (was != nil || !mine(uid, gid)) {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		// After Chown, which takes set-user-id bits away.
		err = f.Chmod(mode)
	}
	return staged, cmp.Or(err, f.Close())
}

// place renames what was staged beside name to name.
func (w *writer) place(staged, name string) error {
	dir, err := w.folder(path.Dir(name))
	if err != nil {
		return err
	}
	return dir.root.Rename(path.Base(staged), path.Base(name))
}

// beside gives a fresh name in the same directory.
func beside(name string) string { return path.Dir(name) + "/.errand-" + rand.Text() }

// folder opens a directory. It makes it, and those above it, where they are
// missing, owned as the nearest one that was there. It is open until clean, or
// until the next call that opens one.
func (w *writer) folder(name string) (*folder, error) {
	if f := w.folders[name]; f != nil {
		return f, nil
	}
	f, err := w.openFolder(name)
	if err != nil {
		return nil, err
	}
	if f.stat, err = f.root.Stat("."); err != nil {
		f.root.Close()
		return nil, err
	}
	if len(w.folders) >= maxFolders {
		w.close()
	}
	w.folders[name] = f
	return f, nil
}

// openFolder is folder for one that is not open.
func (w *writer) openFolder(name string) (*folder, error) {
	if name == "." {
		root, err := w.root.OpenRoot(name)
		return &folder{root: root}, err
	}
	above, err := w.folder(path.Dir(name))
	if err != nil {
		return nil, err
	}
	base := path.Base(name)
	if !above.made { // or there can hardly be one
		root, err := above.root.OpenRoot(base)
		switch {
		case errors.Is(err, unix.ENOTDIR):
			return nil, faultf(wire.CodeInvalid, "%s is not a directory", name)
		case !errors.Is(err, fs.ErrNotExist):
			return &folder{root: root}, err
		}
	}
	err = above.root.Mkdir(base, newDir)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	made := err == nil
	if made {
		w.made = append(w.made, name)
		if uid, gid := owner(above.stat); !mine(uid, gid) {
			if err := above.root.Lchown(base, uid, gid); err != nil {
				return nil, err
			}
		}
	}
	root, err := above.root.OpenRoot(base)
	return &folder{root: root, made: made}, err
}

// close closes the directories that are open.
func (w *writer) close() {
	for _, f := range w.folders {
		f.root.Close()
	}
	clear(w.folders)
}

// keep makes what was staged stay: it has been renamed to its place.
func (w *writer) keep() { w.staged, w.made = nil, nil }

// clean removes what was not kept, and closes what is open.
func (w *writer) clean() {
	w.close()
	for _, name := range w.staged {
		w.root.Remove(name)
	}
	for i := len(w.made) - 1; i >= 0; i-- {
		w.root.Remove(w.made[i])
	}
}
