package image

import (
	"errors"
	"io/fs"
	"os"
	"path"
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
	st, ok := u.statBelow(name)
	if !ok || st.Mode()&fs.ModeSymlink == 0 {
		return "", false
	}
	for i := len(u.below) - 1; i >= 0; i-- {
		root, err := os.OpenRoot(u.below[i])
		if err != nil {
			continue
		}
		target, err := root.Readlink(name)
		root.Close()
		if err == nil {
			return target, true
		}
	}
	return "", false
}

// statBelow looks name up in the layers below, the uppermost first. Its parent
// was placed before, so no link stands in the way.
func (u *unpacker) statBelow(name string) (fs.FileInfo, bool) {
	for i := len(u.below) - 1; i >= 0; i-- {
		root, err := os.OpenRoot(u.below[i])
		if err != nil {
			continue
		}
		st, err := root.Lstat(name)
		root.Close()
		if err != nil {
			continue
		}
		sys := st.Sys().(*syscall.Stat_t)
		if st.Mode()&fs.ModeCharDevice != 0 && sys.Rdev == 0 {
			return nil, false // removed here
		}
		return st, true
	}
	return nil, false
}
