//go:build linux

// Package volume keeps files on a file system of their own, of a bounded size, in
// one sparse file on a loop device: an honest bound on every host, where quotas
// are a matter of how the host's disk was made.
//
// What is not written takes no room on the host's disk, and what is removed is
// given back. A volume that is mounted several times is one file system, on one
// device, and the device goes with the last mount, however that ends. Nothing is
// known here of what the files are.
package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/image"
)

// FileName is the name of a volume's file in its directory.
const FileName = "disk.img"

// Size gives how large a file holds limit bytes of files: some of it goes
// to inodes and the journal.
func Size(limit int64) int64 { return limit + limit/32 + 64<<20 }

// Make makes a volume in dir that holds limit bytes of files; it is there by one
// rename. It is formatted in scratch, and only what was written is copied: where
// scratch is in memory, mkfs does not wait for the disk, which may be busy.
func Make(ctx context.Context, dir, scratch string, limit int64) error {
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		return errors.New("mkfs.ext4 is not installed (package e2fsprogs)")
	}
	blank, err := os.CreateTemp(scratch, "blank-")
	if err != nil {
		return err
	}
	defer blank.Close()
	defer os.Remove(blank.Name())
	if err := blank.Truncate(Size(limit)); err != nil {
		return fmt.Errorf("making room for %d bytes: %w", limit, err)
	}
	args := []string{"-q", "-F", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0", blank.Name()}
	if limit >= 4<<30 {
		args = append([]string{"-J", "size=64"}, args...)
	}
	cmd := exec.CommandContext(ctx, mkfs, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making file system: %w: %s", err, bytes.TrimSpace(out))
	}
	return copySparse(blank, filepath.Join(dir, FileName))
}

// Ready says why this host can make no volumes, and what to do about it. Whatever
// else goes wrong with one is no reason to do without.
func Ready() error {
	_, mkfs := exec.LookPath("mkfs.ext4")
	control, loop := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if loop == nil {
		control.Close()
	}
	if err := errors.Join(mkfs, loop); err != nil {
		return fmt.Errorf("%w. Install e2fsprogs and give the server loop devices", err)
	}
	return nil
}

// copySparse copies what src holds besides holes to the file to.
func copySparse(src *os.File, to string) error {
	dst, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer dst.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	if err := dst.Truncate(st.Size()); err != nil {
		return err
	}
	for at := int64(0); at < st.Size(); {
		data, err := src.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return err
		}
		if at, err = src.Seek(data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, data), io.NewSectionReader(src, data, at-data)); err != nil {
			return err
		}
	}
	return os.Rename(to+".new", to)
}

// Mounter mounts volumes. One for each process and directory of volumes is used
// from many goroutines; the zero Mounter is ready.
type Mounter struct {
	// Hasty is for what can be lost: who writes to a volume does not wait for the
	// host's disk, and after a crash of the host the volume may hold anything. A
	// crash of ours does no harm. See Whole and Settle.
	Hasty bool

	mu sync.Mutex // a free device is free for all who ask
}

// Mount mounts the volume in file at target.
func (m *Mounter) Mount(file, target string) error {
	mount, err := m.Open(file, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mount)
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting %s: %w", file, err)
	}
	return nil
}

// Open gives the volume in file as a mount that is nowhere yet, with the mount
// attributes attr besides what all have. A file that is in use is mounted from the
// loop device that it has: two would not know of each other's writes.
func (m *Mounter) Open(file string, attr int) (int, error) {
	if m.Hasty {
		if err := os.WriteFile(file+unsettled, []byte(image.Boot()), 0o600); err != nil {
			return -1, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for range 100 { // other programs of this host take devices too
		loop, err := loopOf(file)
		if errors.Is(err, fs.ErrNotExist) {
			loop, err = attachLoop(file)
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("attaching %s: %w", file, err)
		}
		mount, err := openExt4(loop.Name(), attr, m.Hasty)
		loop.Close() // from here on the mount holds it
		if err != nil {
			return -1, fmt.Errorf("mounting %s: %w", file, err)
		}
		return mount, nil
	}
	return -1, fmt.Errorf("attaching %s: no loop device stays free", file)
}

func openExt4(device string, attr int, hasty bool) (int, error) {
	fsfd, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fsfd)
	errs := []error{unix.FsconfigSetString(fsfd, "source", device), unix.FsconfigSetFlag(fsfd, "noinit_itable"),
		unix.FsconfigSetFlag(fsfd, "discard"), unix.FsconfigSetString(fsfd, "errors", "remount-ro")}
	if hasty {
		errs = append(errs, unix.FsconfigSetString(fsfd, "barrier", "0"))
	}
	if err := errors.Join(append(errs, unix.FsconfigCreate(fsfd))...); err != nil {
		return -1, fmt.Errorf("%w%s", err, KernelSays(fsfd))
	}
	return unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME|attr)
}

// unsettled ends the name of the file that goes with a hasty volume which may
// not be on the disk; it holds the boot in which it was mounted.
const unsettled = ".unsettled"

// Whole says whether the volume in file is there as it was left, which a hasty
// one is not after a crash of the host.
func Whole(file string) bool {
	if _, err := os.Stat(file); err != nil {
		return false
	}
	boot, err := os.ReadFile(file + unsettled)
	return errors.Is(err, fs.ErrNotExist) || err == nil && string(boot) == image.Boot()
}

// Settle waits until nobody has the hasty volume in file any more, and until it is
// on the host's disk: from then on it outlives a crash of the host.
func Settle(ctx context.Context, file string) error {
	for {
		loop, err := loopOf(file)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("settling %s: %w", file, err)
		}
		loop.Close()
		select { // the kernel tells nobody when it lets go of a device
		case <-ctx.Done():
			return fmt.Errorf("settling %s: it is in use: %w", file, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settling %s: %w", file, err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("settling %s: %w", file, err)
	}
	if err := os.Remove(file + unsettled); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settling %s: %w", file, err)
	}
	return nil
}

// Trim returns when what was removed of the volume that is mounted at dir has been
// given back to the host's disk, which happens by itself, but later.
func Trim(dir string) error {
	root, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("trimming a volume: %w", err)
	}
	defer root.Close()
	if err := unix.Syncfs(int(root.Fd())); err != nil {
		return fmt.Errorf("trimming %s: %w", dir, err)
	}
	all := struct{ start, length, least uint64 }{length: 1<<64 - 1}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, root.Fd(), fitrim, uintptr(unsafe.Pointer(&all))); errno != 0 {
		return fmt.Errorf("trimming %s: %w", dir, errno)
	}
	return nil
}

// fitrim is FITRIM of linux/fs.h, on all that Go runs on but MIPS and PowerPC.
const fitrim = 0xc0185879

// loopOf opens the loop device that file has.
func loopOf(file string) (*os.File, error) {
	var want unix.Stat_t
	if err := unix.Stat(file, &want); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, b := range backing {
		name, err := os.ReadFile(b)
		if err != nil || !strings.HasSuffix(strings.TrimSpace(string(name)), "/"+FileName) {
			continue
		}
		dev, err := os.OpenFile("/dev/"+strings.Split(b, "/")[3], os.O_RDWR, 0)
		if err != nil {
			continue
		}
		status, err := unix.IoctlLoopGetStatus64(int(dev.Fd()))
		if err == nil && status.Inode == want.Ino && status.Device == want.Dev {
			return dev, nil
		}
		dev.Close()
	}
	return nil, fs.ErrNotExist
}

// attachLoop gives file a loop device. The device goes when nothing has it
// open or mounted.
func attachLoop(file string) (*os.File, error) {
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, err
	}
	dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	// Not LO_FLAGS_DIRECT_IO: to set it waits for the host's disk.
	config := &unix.LoopConfig{Fd: uint32(backing.Fd()), Size: 4096}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if err := unix.IoctlLoopConfigure(int(dev.Fd()), config); err != nil {
		dev.Close()
		return nil, err
	}
	return dev, nil
}

// KernelSays reads what the kernel logged into a mount's context, for errors: in
// brackets, with a space before; "" is nothing.
func KernelSays(fsfd int) string {
	var said []string
	buf := make([]byte, 1024)
	for range 8 {
		n, err := unix.Read(fsfd, buf)
		if err != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(buf[:n])))
	}
	if len(said) == 0 {
		return ""
	}
	return " (" + strings.Join(said, "; ") + ")"
}
