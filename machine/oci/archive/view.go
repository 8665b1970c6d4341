//go:build linux

package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// layers are directories that overlay one another, lowest first, in the form
// of overlayfs.
type layers []*os.Root

// spot is a name in one of the layers.
type spot struct {
	layer int
	name  string // from the layer's root
}

// view is a directory as it shows: the directories of the layers that make it
// up, uppermost first. A nil view is none.
type view []spot

// at gives the directory name as the lowest n layers show it.
func (l layers) at(name string, n int) (view, error) {
	var v view
	for i := n - 1; i >= 0; i-- {
		v = append(v, spot{i, "."})
	}
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if part == "" {
			continue
		}
		var err error
		if _, v, err = l.child(v, part); err != nil || v == nil {
			return nil, err
		}
	}
	return v, nil
}

// child looks name up in v. It is a directory, then dirs is set; or something
// else, then file is where; or not there, then both are nil.
func (l layers) child(v view, name string) (file *spot, dirs view, err error) {
	for i, s := range v {
		here := spot{s.layer, path.Join(s.name, name)}
		st, err := l[here.layer].Lstat(here.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		switch {
		case err != nil:
			return nil, nil, err
		case !st.IsDir() && dirs == nil && !isWhiteout(st):
			return &here, nil, nil
		case !st.IsDir():
			return nil, dirs, nil // what lies below is covered
		}
		dirs = append(dirs, here)
		marks, err := l.marks(here)
		switch {
		case err != nil:
			return nil, nil, err
		case marks.opaque:
			return nil, dirs, nil
		case path.IsAbs(marks.redirect):
			below, err := l.at(marks.redirect, here.layer)
			return nil, append(dirs, below...), err
		case marks.redirect != "":
			_, below, err := l.child(v[i+1:], marks.redirect)
			return nil, append(dirs, below...), err
		}
	}
	return nil, dirs, nil
}

// names lists what may be in v; some of it may be removed.
func (l layers) names(v view) ([]string, error) {
	seen := map[string]bool{}
	var all []string
	for _, s := range v {
		names, err := l.list(s)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !seen[name] {
				seen[name] = true
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// list gives the names in one layer's directory, in order.
func (l layers) list(s spot) ([]string, error) {
	dir, err := l[s.layer].Open(s.name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// isWhiteout says whether st marks a name as removed.
func isWhiteout(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Mode&unix.S_IFMT == unix.S_IFCHR && sys.Rdev == 0
}

// marks are what overlayfs notes on a directory.
type marks struct {
	opaque   bool   // hides what is below
	redirect string // shows another name below: absolute, or beside it
}

func (l layers) marks(s spot) (marks, error) {
	var m marks
	dir, err := l[s.layer].Open(s.name)
	if err != nil {
		return m, err
	}
	defer dir.Close()
	value, err := attribute(dir, "trusted.overlay.opaque")
	if err != nil {
		return m, err
	}
	m.opaque = string(value) == "y"
	value, err = attribute(dir, "trusted.overlay.redirect")
	m.redirect = string(value)
	return m, err
}

// attribute gives an extended attribute, nil where there is none.
func attribute(f *os.File, name string) ([]byte, error) {
	value := make([]byte, 64<<10) // the kernel's own bound
	n, err := unix.Fgetxattr(int(f.Fd()), name, value)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "reading attribute " + name, Path: f.Name(), Err: err}
	}
	return value[:n:n], nil
}
