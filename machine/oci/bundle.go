//go:build linux

package oci

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine/cgroup"
)

// Inside the machine, the driver's own corner.
const (
	lineDir   = "/run/errand"       // the guest's socket, and nothing on a disk
	guestPath = "/run/errand/guest" // our program, read-only
	lineName  = "guest.sock"        // in lineDir
)

// capabilities are Docker's defaults: enough for package managers, sudo and
// servers; nothing that reaches past the machine.
var capabilities = strings.Fields(`CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL
	CAP_MKNOD CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT`)

var maskedPaths = strings.Fields(`/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys
	/proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/firmware
	/sys/devices/virtual/powercap`)

var readonlyPaths = strings.Fields(`/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger`)

// bundle gives the OCI configuration of a machine that is about to start.
func (d *Driver) bundle(r *record, l *live) *specs.Spec {
	run := d.runDir(r.ID)
	caps := capabilities
	if r.Engine == GVisor {
		// ptrace reaches the machine's own kernel there: debuggers may work.
		caps = append(slices.Clone(caps), "CAP_SYS_PTRACE")
	}
	spec := &specs.Spec{
		Version:  "1.0.2",
		Hostname: r.Hostname,
		Root:     &specs.Root{Path: filepath.Join(run, "root")},
		Process: &specs.Process{
			Args:         []string{guestPath, "init"},
			Env:          machineEnv(r),
			Cwd:          "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:      openFiles(),
		},
		Mounts: append(systemMounts(), d.ownMounts(r, run)...),
		Linux: &specs.Linux{
			Namespaces:    namespaces(run, l.Base),
			MaskedPaths:   maskedPaths,
			ReadonlyPaths: readonlyPaths,
			CgroupsPath:   l.Cgroup,
			Resources:     resources(r.Engine, r.Limits, d.cgroups.Held),
			Seccomp:       seccompFor(r.Engine),
		},
	}
	if l.Base != 0 {
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: l.Base, Size: idRange}}
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
	}
	return spec
}

// machineEnv is the whole environment of the guest: the image's, the spec's,
// and a PATH. Nothing of ours.
func machineEnv(r *record) []string {
	env := slices.Concat(r.base.Env, r.Env)
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return env
}

// openFiles asks for many open files, as far as we may give them: root in a
// user namespace cannot raise the limit.
func openFiles() []specs.POSIXRlimit {
	want := uint64(65536)
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err == nil {
		want = min(want, own.Max)
	}
	return []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: want, Hard: want}}
}

func namespaces(run string, base uint32) []specs.LinuxNamespace {
	ns := []specs.LinuxNamespace{
		{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
		{Type: specs.MountNamespace}, {Type: specs.CgroupNamespace},
		{Type: specs.NetworkNamespace, Path: filepath.Join(run, "ns", "net")},
	}
	if base != 0 {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UserNamespace, Path: filepath.Join(run, "ns", "user")})
	}
	return ns
}

func systemMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=256m"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		{Destination: "/run", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=755", "size=256m"}},
	}
}

// ownMounts are the line's directory, the guest, and what the spec shows.
func (d *Driver) ownMounts(r *record, run string) []specs.Mount {
	mounts := []specs.Mount{
		{Destination: lineDir, Type: "bind", Source: filepath.Join(run, "line"), Options: []string{"bind", "rw", "nosuid", "nodev", "noexec"}},
		{Destination: guestPath, Type: "bind", Source: filepath.Join(run, "guest"), Options: []string{"bind", "ro", "nosuid", "nodev"}},
	}
	for i, m := range r.Mounts {
		mounts = append(mounts, specs.Mount{Destination: m.Target, Type: "bind",
			Source: filepath.Join(run, "shown", strconv.Itoa(i)), Options: []string{"rbind", "ro", "nosuid", "nodev"}})
	}
	return mounts
}

// sentryThreads is what gVisor's own kernel takes of a machine's process
// limit: under it every process of the machine is one of the host.
const sentryThreads = 256

// resources are the limits that the engine's program sets.
func resources(engine string, l errand.Limits, held cgroup.Held) *specs.LinuxResources {
	res := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
	}
	if held.CPU {
		period := uint64(100_000)
		quota := int64(l.CPUs * float64(period))
		res.CPU = &specs.LinuxCPU{Period: &period, Quota: &quota}
	}
	if held.Memory {
		limit := l.Memory
		res.Memory = &specs.LinuxMemory{Limit: &limit}
	}
	if held.PIDs {
		limit := l.PIDs
		if engine == GVisor {
			limit += sentryThreads
		}
		res.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return res
}

func writeBundle(dir string, spec *specs.Spec) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeJSON(filepath.Join(dir, "config.json"), spec)
}
