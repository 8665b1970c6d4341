//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/netns"
)

// Machine is one machine of a Driver. It holds nothing open: every call looks
// at what is.
type Machine struct {
	driver *Driver
	id     machine.ID
}

var (
	_ machine.Machine     = (*Machine)(nil)
	_ machine.Hibernator  = (*Machine)(nil)
	_ machine.Snapshotter = (*Machine)(nil)
	_ machine.Reporter    = (*Machine)(nil)
	_ machine.Networked   = (*Machine)(nil)
)

// Handle gives what Open takes.
func (m *Machine) Handle() machine.Handle { return machine.Handle{Driver: Name, ID: m.id} }

func (m *Machine) running() bool {
	l, err := m.driver.loadLive(m.id)
	return err == nil && l.Alive()
}

// Dial connects to the guest's socket, which lies in a directory of the host
// that the machine sees too.
func (m *Machine) Dial(ctx context.Context) (net.Conn, error) {
	if !m.running() {
		return nil, fmt.Errorf("dialing machine %s: %w", m.id, machine.ErrStopped)
	}
	conn, err := dialLine(ctx, filepath.Join(m.driver.runDir(m.id), "line"))
	if err != nil {
		if !m.running() {
			err = machine.ErrStopped
		}
		return nil, fmt.Errorf("dialing machine %s: %w", m.id, err)
	}
	return conn, nil
}

// dialLine connects to the socket in dir. The machine can put there what it
// likes: only a socket itself is taken, never what a link names, and it is
// reached by a descriptor so that it cannot be changed in between.
func dialLine(ctx context.Context, dir string) (net.Conn, error) {
	dirfd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dirfd)
	fd, err := unix.Openat2(dirfd, lineName, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, errors.New("the machine has put something else in its socket's place")
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd))
}

// Destroy ends the machine and removes its disk.
func (m *Machine) Destroy(ctx context.Context) error {
	unlock, err := m.driver.lock(ctx, m.id)
	if err != nil {
		return err
	}
	defer unlock()
	return m.driver.destroy(ctx, m.id)
}

// Hibernate ends the machine's processes and keeps its disk.
func (m *Machine) Hibernate(ctx context.Context) error {
	unlock, err := m.driver.lock(ctx, m.id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.driver.stop(ctx, m.id); err != nil {
		return fmt.Errorf("hibernating machine %s: %w", m.id, err)
	}
	return nil
}

// Report says what the machine is.
func (m *Machine) Report() machine.Report {
	r, err := m.driver.load(m.id)
	if err != nil {
		return machine.Report{}
	}
	report := machine.Report{Engine: r.Engine, Image: r.Image, User: r.User, Limits: r.Limits, From: r.From}
	if l, err := m.driver.loadLive(m.id); err == nil {
		report.Unenforced = l.Unenforced
	}
	return report
}

// Link opens the machine's TAP.
func (m *Machine) Link(ctx context.Context) (*machine.Link, error) {
	if !m.running() {
		return nil, fmt.Errorf("opening link of machine %s: %w", m.id, machine.ErrStopped)
	}
	link, err := netns.Open(ctx, filepath.Join(m.driver.runDir(m.id), "ns", "net"))
	if err != nil {
		return nil, fmt.Errorf("opening link of machine %s: %w", m.id, err)
	}
	return link, nil
}

// destroy is Destroy with the machine locked.
func (d *Driver) destroy(ctx context.Context, id machine.ID) error {
	if _, err := os.Stat(d.machineDir(id)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := d.stop(ctx, id); err != nil {
		return fmt.Errorf("destroying machine %s: %w", id, err)
	}
	if err := d.discard(d.machineDir(id)); err != nil {
		return fmt.Errorf("destroying machine %s: %w", id, err)
	}
	_, err := d.sweepDisks()
	return err
}
