package image

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

// maxLinks is how many symbolic links a name may lead through.
const maxLinks = 40

// place gives where an entry of this layer goes, and makes the directories on
// the way that the layer does not list. They take after those of the layers
// below, which they would hide otherwise; where such a layer has a link, as
// /bin to usr/bin, the entry goes where the link leads.
func (u *unpacker) place(name string) (string, error) {
	links := 0
	rest := strings.Split(name, "/")
	at := "."
	for len(rest) > 1 {
		next := path.Join(at, rest[0])
		rest = rest[1:]
		st, err := u.root.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			target, isLink := u.linkBelow(next)
			if !isLink {
				if err := u.adopt(next); err != nil {
					return "", err
				}
				at = next
				continue
			}
			if links++; links > maxLinks {
				return "", unix.ELOOP
			}
			rest = append(splitClean(at, target), rest...)
			at = "."
			continue
		}
		if err != nil {
			return "", err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			target, err := u.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if links++; links > maxLinks {
				return "", unix.ELOOP
			}
			rest = append(splitClean(at, target), rest...)
			at = "."
			continue
		}
		if !st.IsDir() {
			return "", unix.ENOTDIR
		}
		at = next
	}
	return path.Join(at, rest[0]), nil
}

// splitClean gives the parts of a link's target as seen from the root; it
// cannot climb out.
func splitClean(at, target string) []string {
	if !path.IsAbs(target) {
		target = path.Join("/", at, target)
	}
	clean := strings.TrimPrefix(path.Clean(target), "/")
	if clean == "" {
		return nil
	}
	return strings.Split(clean, "/")
}

// adopt makes directory name with the attributes that it has below.
func (u *unpacker) adopt(name string) error {
	if name != "." {
		if err := u.root.Mkdir(name, 0o755); err != nil {
			return err
		}
	}
	st, ok := u.statBelow(name)
	if !ok || !st.IsDir() {
		return u.root.Chmod(name, 0o755)
	}
	sys := st.Sys().(*syscall.Stat_t)
	if err := u.root.Lchown(name, int(sys.Uid), int(sys.Gid)); err != nil {
		return err
	}
	if err := u.root.Chmod(name, st.Mode()&(fs.ModePerm|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	return u.root.Chtimes(name, st.ModTime(), st.ModTime())
}

// linkBelow reads the symbolic link that name is in the layers below.
func (u *unpacker) linkBelow(name string) (string, bool) {
	f, ok := u.findBelow(name)
	return f.target, ok && f.Mode()&fs.ModeSymlink != 0
}

// statBelow looks name up in the layers below.
func (u *unpacker) statBelow(name string) (fs.FileInfo, bool) {
	f, ok := u.findBelow(name)
	return f.FileInfo, ok
}

// found is a file of a layer below.
type found struct {
	fs.FileInfo
	target string // of a symbolic link
}

// findBelow looks name up in the layers below, the uppermost first, as overlayfs
// does: what a layer removed, replaced or made opaque hides what is below it,
// with all that was in it. The parent was placed before, so no link that is seen
// stands in the way.
func (u *unpacker) findBelow(name string) (found, bool) {
	if _, ends := lookUp(u.root, name); ends {
		return found{}, false
	}
	for _, dir := range slices.Backward(u.below) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			continue
		}
		f, ends := lookUp(root, name)
		root.Close()
		if f.FileInfo != nil || ends {
			return f, f.FileInfo != nil
		}
	}
	return found{}, false
}

// lookUp gives what a layer has at name, and says whether the layers below it
// are hidden there.
func lookUp(layer *os.Root, name string) (f found, ends bool) {
	ends = isOpaque(layer, ".")
	for i := 0; i < len(name); {
		next := strings.IndexByte(name[i:], '/')
		if next < 0 {
			next = len(name) - i
		}
		at := name[:i+next]
		st, err := layer.Lstat(at)
		switch {
		case err != nil:
			return found{}, ends
		case st.Mode()&fs.ModeCharDevice != 0 && st.Sys().(*syscall.Stat_t).Rdev == 0:
			return found{}, true // removed here
		case len(at) == len(name):
			if st.Mode()&fs.ModeSymlink != 0 {
				if f.target, err = layer.Readlink(at); err != nil {
					return found{}, ends
				}
			}
			f.FileInfo = st
			return f, ends
		case !st.IsDir():
			return found{}, true
		}
		ends = ends || isOpaque(layer, at)
		i += next + 1
	}
	return found{}, ends
}

func isOpaque(layer *os.Root, dir string) bool {
	d, err := layer.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	value := make([]byte, 1)
	n, err := unix.Fgetxattr(int(d.Fd()), opaqueAttr, value)
	return err == nil && string(value[:n]) == "y"
}
