//go:build linux

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine/volume"
)

// Overlay is one overlayfs mount.
type Overlay struct {
	Lowers      []string // lowest first
	Upper, Work string
	Target      string
}

// overlayFlags make an upper directory fit to be a lower one later:
//   - redirect_dir=on lets directories of lower layers be renamed. Without it
//     `git mv` of a directory fails on a machine that stands on a snapshot. The
//     redirects stay valid below, because a chain only ever grows at its top.
//   - index and nfs_export tie an upper directory to its lower ones and would
//     refuse it elsewhere; metacopy leaves files without their data.
var overlayFlags = [][2]string{
	{"redirect_dir", "on"}, {"index", "off"}, {"metacopy", "off"}, {"xino", "auto"},
}

// Mount mounts it. With an owner other than 0, all that overlayfs itself makes on
// the upper directory's file system is made as this id: on an id-mapped mount our
// own has no place.
func (o Overlay) Mount(owner uint32) error {
	if owner != 0 {
		return asOwner(owner, o.mountHere)
	}
	return o.mountHere()
}

// asOwner runs f on a thread that makes files as owner and keeps all of root's
// capabilities. The thread ends with it.
func asOwner(owner uint32, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoilt for others
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, secbitNoSetuidFixup, 0, 0, 0); err != nil {
			done <- fmt.Errorf("keeping capabilities: %w", err)
			return
		}
		if err := errors.Join(unix.Setfsgid(int(owner)), unix.Setfsuid(int(owner))); err != nil {
			done <- fmt.Errorf("taking owner's id: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// secbitNoSetuidFixup is SECBIT_NO_SETUID_FIXUP: a change of ids leaves
// capabilities alone.
const secbitNoSetuidFixup = 1 << 2

func (o Overlay) mountHere() error {
	fsfd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("opening overlayfs: %w", err)
	}
	defer unix.Close(fsfd)
	if err := o.configure(fsfd); err != nil {
		return fmt.Errorf("mounting %s: %w%s", o.Target, err, volume.KernelSays(fsfd))
	}
	mfd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return fmt.Errorf("mounting %s: %w%s", o.Target, err, volume.KernelSays(fsfd))
	}
	defer unix.Close(mfd)
	if err := unix.MoveMount(mfd, "", unix.AT_FDCWD, o.Target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s: %w", o.Target, err)
	}
	return nil
}

func (o Overlay) configure(fsfd int) error {
	if err := unix.FsconfigSetString(fsfd, "source", "errand"); err != nil {
		return err
	}
	if err := o.setLowers(fsfd); err != nil {
		return err
	}
	for _, kv := range slices.Concat([][2]string{{"upperdir", o.Upper}, {"workdir", o.Work}}, overlayFlags) {
		if err := unix.FsconfigSetString(fsfd, kv[0], kv[1]); err != nil {
			return fmt.Errorf("setting %s: %w", kv[0], err)
		}
	}
	return unix.FsconfigCreate(fsfd)
}

// setLowers names the lower directories one by one, which has no limit in
// length. Kernels before 6.5 want them in one string of at most 255 bytes; the
// short names of open descriptors make the most of it.
func (o Overlay) setLowers(fsfd int) error {
	for i, dir := range slices.Backward(o.Lowers) {
		err := unix.FsconfigSetString(fsfd, "lowerdir+", dir)
		if errors.Is(err, unix.EINVAL) && i == len(o.Lowers)-1 {
			return o.setLowersAtOnce(fsfd)
		}
		if err != nil {
			return fmt.Errorf("setting lowerdir: %w", err)
		}
	}
	return nil
}

func (o Overlay) setLowersAtOnce(fsfd int) error {
	var names []string
	for _, dir := range slices.Backward(o.Lowers) {
		names = append(names, strings.ReplaceAll(dir, ":", `\:`))
	}
	return unix.FsconfigSetString(fsfd, "lowerdir", strings.Join(names, ":"))
}

// Bind shows the directory or file source at target, which must be there. With
// a user namespace, ids are shown as that namespace maps them.
func Bind(source, target string, userns *os.File, readOnly bool) error {
	tree, err := Clone(source, userns, readOnly)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("binding %s: %w", source, err)
	}
	return nil
}

// Clone gives source as a mount that is nowhere yet.
func Clone(source string, userns *os.File, readOnly bool) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("binding %s: %w", source, err)
	}
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	if userns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userns.Fd())
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(tree)
		if userns != nil {
			err = &NoIDMap{Err: err}
		}
		return -1, fmt.Errorf("mapping %s: %w", source, err)
	}
	return tree, nil
}

// Under lists the mount points at and below dir, deepest last mounted
// first, so that they can be unmounted in this order.
func Under(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/thread-self/mountinfo") // the first thread may be elsewhere
	if err != nil {
		return nil, err
	}
	return pointsUnder(dir, string(table)), nil
}

// pointsUnder is Under of the table in a mountinfo, whose lines may be of
// any length: an overlay's names all that it stands on.
func pointsUnder(dir, table string) []string {
	var points []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	slices.Reverse(points)
	return points
}

// unescapeMount undoes the octal escapes of mountinfo.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Detach takes away all that is mounted at and below dir, at once for
// everyone who looks. A file system ends with its last user, and an overlay
// then writes all that is unwritten to the disk, which is work in proportion
// to its size; so the last user is a descriptor, and closing the file given
// back is when that happens. The kernel does it if we are killed.
func Detach(dir string) (Held, error) {
	points, err := Under(dir)
	if err != nil {
		return nil, fmt.Errorf("unmounting %s: %w", dir, err)
	}
	var h Held
	var errs []error
	for _, point := range points {
		fd, err := unix.Open(point, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == nil {
			h = append(h, fd)
		}
		err = unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", point, err))
		}
	}
	return h, errors.Join(errs...)
}

// Held keeps file systems alive that are mounted nowhere any more.
type Held []int

// Release lets go of them; it may wait until they are on the disk.
func (h Held) Release() {
	for _, fd := range h {
		unix.Close(fd)
	}
}

// IDMapper shows directories with ids as a user namespace maps them. Each
// mount serves all directories below it. Without a namespace it changes
// nothing.
type IDMapper struct {
	Userns *os.File
	Owner  uint32 // what the namespace maps root to
	At     string // where the mounts go
	shown  map[string]string
}

// Mapped gives the path by which dir, inside root, is seen with mapped ids.
func (m *IDMapper) Mapped(root, dir string) (string, error) {
	if m.Userns == nil {
		return dir, nil
	}
	at, ok := m.shown[root]
	if !ok {
		at = filepath.Join(m.At, strconv.Itoa(len(m.shown)))
		if err := os.MkdirAll(at, 0o700); err != nil {
			return "", err
		}
		if err := Bind(root, at, m.Userns, false); err != nil {
			return "", err
		}
		if m.shown == nil {
			m.shown = map[string]string{}
		}
		m.shown[root] = at
	}
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(at, rel), nil
}

// NoIDMap says that this host has no user namespaces, or cannot map the ids of
// a file system.
type NoIDMap struct{ Err error }

func (e *NoIDMap) Error() string { return e.Err.Error() }
func (e *NoIDMap) Unwrap() error { return e.Err }
