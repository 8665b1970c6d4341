//go:build linux

package oci

import (
	"runtime"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// refused are the system calls that a machine under runc has no use for and
// that have opened hosts before: kernel modules and images, the kernel's key
// rings, tracing and profiling of the kernel, io_uring, file handles, clocks,
// and whatever makes namespaces or mounts, since a user namespace of one's own
// is where most of the kernel's rarely walked paths begin. What Docker refuses
// is the measure; what neither knows yet is let through.
var refused = strings.Fields(`
	acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module fsconfig fsmount fsopen
	fspick get_kernel_syms init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
	kexec_file_load kexec_load keyctl lookup_dcookie mount mount_setattr move_mount move_pages name_to_handle_at
	nfsservctl open_by_handle_at open_tree perf_event_open pivot_root query_module quotactl quotactl_fd reboot
	request_key setns settimeofday stime swapoff swapon sysfs _sysctl syslog umount umount2 unshare uselib
	userfaultfd ustat vm86 vm86old`)

// newNamespaces are the flags by which clone makes namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// seccompFor gives the system call filter of an engine. gVisor answers system
// calls itself and needs none.
func seccompFor(engine string) *specs.LinuxSeccomp {
	if engine != Runc {
		return nil
	}
	eperm, enosys := uint(unix.EPERM), uint(unix.ENOSYS)
	filter := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls: []specs.LinuxSyscall{
			{Names: refused, Action: specs.ActErrno, ErrnoRet: &eperm},
			// clone3 hides its flags from a filter; told that there is none,
			// libraries use clone.
			{Names: []string{"clone3"}, Action: specs.ActErrno, ErrnoRet: &enosys},
		},
	}
	// One rule for each flag: a filter compares masked values for equality.
	for flag := uint64(1); flag <= newNamespaces; flag <<= 1 {
		if newNamespaces&flag == 0 {
			continue
		}
		filter.Syscalls = append(filter.Syscalls, specs.LinuxSyscall{Names: []string{"clone"}, Action: specs.ActErrno, ErrnoRet: &eperm,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: flag, ValueTwo: flag, Op: specs.OpMaskedEqual}}})
	}
	switch runtime.GOARCH {
	case "amd64":
		filter.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	case "arm64":
		filter.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
	}
	return filter
}
