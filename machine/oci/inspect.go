//go:build linux

package oci

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/mount"
	"github.com/errand-dev/errand/machine/volume"
)

// Inspect says what works on this host. It starts no machine.
func (d *Driver) Inspect(ctx context.Context) []machine.Finding {
	return []machine.Finding{
		inspectRoot(),
		d.inspectEngine(ctx, GVisor),
		d.inspectEngine(ctx, Runc),
		inspectTap(),
		d.inspectCgroups(),
		inspectLoop(),
		d.inspectUserNamespaces(),
		d.inspectSpace(),
	}
}

func inspectRoot() machine.Finding {
	f := machine.Finding{Name: "root", Needed: true, OK: os.Geteuid() == 0, Detail: "runs as root"}
	if !f.OK {
		f.Detail = "Machines need root for mounts, namespaces and cgroups. Run the server with sudo."
	}
	return f
}

func (d *Driver) inspectEngine(ctx context.Context, name string) machine.Finding {
	e := d.engines[name]
	f := machine.Finding{Name: name, Needed: name == d.opts.DefaultEngine}
	if e.program == "" {
		f.Detail = "Not installed. " + e.advice()
		return f
	}
	cmd := exec.CommandContext(ctx, e.program, "--version")
	cmd.Env = runtimeEnv()
	out, err := cmd.Output()
	if err != nil {
		f.Detail = fmt.Sprintf("%s does not run: %v. %s", e.program, err, e.advice())
		return f
	}
	first, _, _ := strings.Cut(string(out), "\n")
	f.OK, f.Detail = true, e.program+": "+first
	return f
}

func inspectTap() machine.Finding {
	f := machine.Finding{Name: "network", Needed: true}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		f.Detail = fmt.Sprintf("%v. Load the kernel module tun (modprobe tun), or give the server's container /dev/net/tun.", err)
		return f
	}
	tun.Close()
	f.OK, f.Detail = true, "/dev/net/tun opens"
	return f
}

func (d *Driver) inspectCgroups() machine.Finding {
	f := machine.Finding{Name: "cgroups", OK: true}
	switch d.cgroups.Version {
	case 0:
		f.Detail = "none that Errand can use"
	default:
		f.Detail = fmt.Sprintf("version %d", d.cgroups.Version)
	}
	if missing := d.cgroups.Held.Unenforced(); len(missing) > 0 {
		f.OK, f.Detail = false, f.Detail+". "+strings.Join(missing, " ")
	}
	return f
}

func inspectLoop() machine.Finding {
	f := machine.Finding{Name: "disk limits"}
	if err := volume.Ready(); err != nil {
		f.Detail = fmt.Sprintf("Not enforced: %v.", err)
		return f
	}
	f.OK, f.Detail = true, "loop devices and mkfs.ext4 are there"
	return f
}

func (d *Driver) inspectUserNamespaces() machine.Finding {
	f := machine.Finding{Name: "user namespaces"}
	if err := d.tryIDMap(); err != nil {
		f.Detail = noUserNamespace(err)
		return f
	}
	f.OK, f.Detail = true, "root in a machine under runc is nobody on the host"
	return f
}

// tryIDMap maps ids of the driver's directory, the way a start does, and
// mounts nothing.
func (d *Driver) tryIDMap() error {
	dir, err := os.MkdirTemp("", "errand-ns-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := makeNamespaces(d.opts.Guest, dir, firstID); err != nil {
		return err
	}
	defer func() {
		h, _ := mount.Detach(dir) // what cannot be unmounted was not mounted
		h.Release()
	}()
	userns, err := os.Open(dir + "/user")
	if err != nil {
		return err
	}
	defer userns.Close()
	tree, err := mount.Clone(d.dir, userns, false)
	if err != nil {
		return err
	}
	return unix.Close(tree)
}

func (d *Driver) inspectSpace() machine.Finding {
	f := machine.Finding{Name: "disk space", Needed: true}
	if err := d.reserve(); err != nil {
		f.Detail = err.Error()
		return f
	}
	f.OK, f.Detail = true, fmt.Sprintf("%s has more than %d MB free", d.dir, d.opts.Reserve>>20)
	return f
}
