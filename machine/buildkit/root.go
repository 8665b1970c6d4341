//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine/cgroup"
	"github.com/errand-dev/errand/machine/netns"
)

// Where things are in the daemon's own root.
const (
	daemonProgram = "/errand/buildkitd"
	engineProgram = "/errand/engine"
	engineWrapper = "/errand/worker"
	configFile    = "/errand/buildkitd.toml"
	stateDir      = "/state"
	socketFile    = "/run/buildkitd.sock"
)

// systemDirs are the host's directories that the daemon sees, read-only: it
// runs git for ADD, and sh and mount to begin with.
var systemDirs = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// certificateDirs are those that Go programs look for authorities in.
var certificateDirs = []string{"/etc/ssl/certs", "/etc/pki", "/etc/ca-certificates"}

// deviceFiles are the devices of the host that the daemon has.
var deviceFiles = []string{"null", "zero", "full", "random", "urandom", "tty"}

// enterRoot moves the present thread into a mount namespace of its own, whose
// root holds what the daemon needs and nothing else of the host: no home
// directory, no configuration, no data of ours but its own. Nothing of it is
// seen outside, and it is gone with the last process inside.
func (b *Builder) enterRoot(ctx context.Context, plain []string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("leaving the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	root := b.path("root")
	if err := unix.Mount("errand", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=256m"); err != nil {
		return fmt.Errorf("mounting %s: %w", root, err)
	}
	for _, fill := range []func(root string) error{
		showSystem, makeDevices, b.showPrograms, func(root string) error { return b.writeFiles(root, plain) },
		func(root string) error { return b.showState(filepath.Join(root, stateDir)) },
		func(root string) error { return b.clear(ctx, filepath.Join(root, stateDir)) },
	} {
		if err := fill(root); err != nil {
			return err
		}
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the host's root: %w", err)
	}
	return unix.Chdir("/")
}

func showSystem(root string) error {
	for _, dir := range append(append([]string{}, systemDirs...), certificateDirs...) {
		st, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		}
		at := filepath.Join(root, dir)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(dir)
			if err != nil {
				return err
			}
			if err := os.Symlink(target, at); err != nil {
				return err
			}
			continue
		}
		if err := show(dir, at, true); err != nil {
			return err
		}
	}
	// The cgroups are seen; only runc changes them.
	return show("/sys", filepath.Join(root, "sys"), false)
}

func makeDevices(root string) error {
	dev := filepath.Join(root, "dev")
	if err := mkdirs(dev, filepath.Join(dev, "pts"), filepath.Join(dev, "shm")); err != nil {
		return err
	}
	for _, name := range deviceFiles {
		if err := show(filepath.Join("/dev", name), filepath.Join(dev, name), false); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", filepath.Join(dev, "pts"), "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return fmt.Errorf("mounting terminals: %w", err)
	}
	return os.Symlink("pts/ptmx", filepath.Join(dev, "ptmx"))
}

func (b *Builder) showPrograms(root string) error {
	_, engine, err := b.engine()
	if err != nil {
		return err
	}
	if err := mkdirs(filepath.Join(root, "errand")); err != nil {
		return err
	}
	return errors.Join(
		show(b.opts.Daemon, filepath.Join(root, daemonProgram), true),
		show(engine, filepath.Join(root, engineProgram), true),
	)
}

// show binds a file or directory of the host.
func show(source, target string, readOnly bool) error {
	st, err := os.Stat(source)
	if err != nil {
		return err
	}
	if st.IsDir() {
		err = mkdirs(target)
	} else {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("showing %s: %w", source, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("showing %s read-only: %w", source, err)
	}
	return nil
}

// writeFiles makes the files of the daemon's own.
func (b *Builder) writeFiles(root string, plain []string) error {
	if err := mkdirs(filepath.Join(root, "proc"), filepath.Join(root, "run"), filepath.Join(root, "root"), filepath.Join(root, "tmp"), filepath.Join(root, "etc")); err != nil {
		return err
	}
	name, _, err := b.engine()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path, text string
		mode       fs.FileMode
	}{
		{"/etc/resolv.conf", netns.ResolvConf(), 0o644},
		{"/etc/hosts", "127.0.0.1 localhost\n", 0o644},
		{"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644},
		{"/etc/group", "root:x:0:\n", 0o644},
		{configFile, b.config(plain), 0o600},
		{engineWrapper, b.wrapper(name), 0o700},
	} {
		if err := os.WriteFile(filepath.Join(root, f.path), []byte(f.text), f.mode); err != nil {
			return err
		}
	}
	return nil
}

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// wrapper is what BuildKit runs in place of an engine, which it takes for runc.
func (b *Builder) wrapper(engine string) string {
	steps := b.group(commandGroup)
	if engine == Runc {
		return runcWrapper(steps)
	}
	return gvisorWrapper(steps)
}

// gvisorWrapper is for gVisor's program, which needs flags of its own. A command
// starts in the group of all commands. Its network is that of the daemon's
// namespace, which ends in our process. The program knows no --keep, removes what
// has ended by itself, and is then asked to remove it. On a /tmp that is empty it
// puts a memory file system, and what a command leaves there would be in no
// layer: so something is there for as long as the command runs.
func gvisorWrapper(steps cgroup.Group) string {
	return `#!/bin/sh
bundle= last=
for arg do
	shift
	[ "$last" = --bundle ] && bundle=$arg
	last=$arg
	case $arg in
	--keep) ;;
	delete) set -- "$@" delete --force ;;
	*) set -- "$@" "$arg" ;;
	esac
done
engine() {
	` + engineProgram + ` --root=/run/engine --platform=systrap --network=host --overlay2=none --ignore-cgroups --host-settings=ignore "$@"
}
[ -n "$bundle" ] || { engine "$@"; exit; }
` + enter(steps) + ` || exit
tmp=$bundle/rootfs/tmp
[ -L "$tmp" ] || [ -e "$tmp" ] || mkdir -m 1777 "$tmp"
if [ -L "$tmp" ] || [ ! -d "$tmp" ] || [ -n "$(ls -A "$tmp")" ] || ! mkdir "$tmp/.X11-unix"; then
	engine "$@"
	exit
fi
engine "$@"
code=$?
[ -L "$tmp" ] || rmdir "$tmp/.X11-unix"
exit $code
`
}

// runcWrapper is for runc, which puts a command into a group of its own below
// that of all commands. What was refused to it is noted before it is removed.
func runcWrapper(steps cgroup.Group) string {
	return `#!/bin/sh
` + note(steps) + `bundle= last=
for arg do
	[ "$last" = --bundle ] && bundle=$arg
	last=$arg
done
` + engineProgram + ` --root=/run/engine "$@"
code=$?
[ -z "$bundle" ] || [ $code = 0 ] || note "${bundle##*/}"
exit $code
`
}

// config is the daemon's configuration.
func (b *Builder) config(plain []string) string {
	// Its own volume has room for a full cache and a build; only on the host's disk
	// is there somebody else to leave room for. A daemon that is told to leave more
	// than there is gives up its whole cache a second after its start.
	free := b.opts.Reserve
	if b.unbounded == "" {
		free = b.opts.Limits.Disk
	}
	var t strings.Builder
	fmt.Fprintf(&t, `root = %q
[grpc]
  address = [%q]
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  binary = %q
  networkMode = "host"
  defaultCgroupParent = %q
  gc = true
  maxUsedSpace = %d
  minFreeSpace = %d
[frontend."gateway.v0"]
  enabled = false
[cdi]
  disabled = true
`, stateDir, "unix://"+socketFile, engineWrapper, b.group(commandGroup).Name(), b.opts.Cache, free)
	for _, host := range plain {
		fmt.Fprintf(&t, "[registry.%q]\n  http = true\n", host)
	}
	return t.String()
}
