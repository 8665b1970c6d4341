//go:build linux

package oci

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine/mount"
)

// makeNamespaces makes a network namespace, and with base a user namespace
// that owns it and maps base to root, and pins them as the files dir/net and
// dir/user. They live until they are unmounted, whatever becomes of us.
func makeNamespaces(guest, dir string, base uint32) error {
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Ptrace: true}
	pins := []string{"net"}
	if base != 0 {
		ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(base), Size: idRange}}
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
		pins = append(pins, "user")
	}
	// A traced child stops at its exec, before its first instruction: a
	// process that is in the namespaces and does nothing. Its tracer is a
	// thread, so this goroutine must keep its own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, err := os.StartProcess(guest, []string{guest}, &os.ProcAttr{Sys: attr, Env: []string{}})
	if err != nil && base != 0 {
		return fmt.Errorf("making namespaces: %w", &mount.NoIDMap{Err: err})
	}
	if err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	defer endTraced(p)
	if err := waitStopped(p.Pid); err != nil {
		return fmt.Errorf("making namespaces: %w", err)
	}
	for _, pin := range pins {
		if err := pinNamespace(p.Pid, pin, filepath.Join(dir, pin)); err != nil {
			return fmt.Errorf("pinning %s namespace: %w", pin, err)
		}
	}
	return nil
}

func noUserNamespace(err error) string {
	return fmt.Sprintf("Root in a machine under runc is root on the host too: user namespaces over id-mapped mounts do not work here (%v). They need Linux 5.19 and a file system that can map ids, such as ext4, XFS or Btrfs.", err)
}

func endTraced(p *os.Process) {
	p.Kill()
	p.Wait()
}

func waitStopped(pid int) error {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if !status.Stopped() {
			return fmt.Errorf("the process that should hold them ended: %v", status)
		}
		return nil
	}
}

func pinNamespace(pid int, name, target string) error {
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	return unix.Mount("/proc/"+strconv.Itoa(pid)+"/ns/"+name, target, "", unix.MS_BIND, "")
}
