//go:build linux

// Package netns gives a network namespace its one way out: a TAP whose other
// side is a machine.Link that this process ends.
//
// Everything that is fenced in here, a machine or an image build, gets the same
// few things: a loopback of its own, one Ethernet link, one route, and a name
// server that is its gateway. Two ideas carry the package. The addresses are
// always the same, since no two such networks ever meet. And the TAP stays in
// the namespace when nobody holds it, so that a later process of ours takes it
// up again.
//
// It makes no namespaces and decides nothing about connections.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine"
)

// Every namespace has the same addresses: its network ends in our process and
// meets no other. They are from TEST-NET-1, which nobody uses and nobody
// routes, so that no address that one may want to reach is hidden.
var (
	Inside  = netip.MustParsePrefix("192.0.2.2/30") // its own
	Gateway = netip.MustParseAddr("192.0.2.1")      // its route out and its name server

	mac = net.HardwareAddr{0x02, 'e', 'r', 'r', 0, 2}
)

const (
	tapName = "eth0"
	// mtu is the largest that IPv4 over Ethernet can say: the fewest frames for
	// the most data, since each is a system call on our side.
	mtu = 65520
)

// ResolvConf is what /etc/resolv.conf says inside.
func ResolvConf() string {
	return "nameserver " + Gateway.String() + "\noptions timeout:5 attempts:3\n"
}

// Furnish puts the TAP, addresses and routes into the network namespace at
// path: a file that it is bound to, or one of /proc/PID/ns.
func Furnish(path string) error {
	return within(path, func() error {
		tap, err := openTap()
		if err != nil {
			return err
		}
		defer tap.Close()
		if err := unix.IoctlSetInt(int(tap.Fd()), unix.TUNSETPERSIST, 1); err != nil {
			return fmt.Errorf("keeping TAP: %w", err)
		}
		if err := configureLinks(); err != nil {
			return err
		}
		// Root inside is not root in the namespace's owner: let it listen on low
		// ports and everyone ping, as on a machine of one's own.
		os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
		os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
		return nil
	})
}

// patience is how long Open waits for somebody else to let go of the TAP. A
// program that a killed server was just starting holds what the server had open
// until it has begun, and the kernel takes its time to close a TAP.
const patience = 10 * time.Second

// Open opens the link of the namespace at path, which Furnish has furnished. It
// has at most one holder, who closes its file; another one is waited for a
// while.
func Open(ctx context.Context, path string) (*machine.Link, error) {
	var tap *os.File
	attach := func() (err error) {
		tap, err = openTap()
		return err
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := within(path, attach)
	for errors.Is(err, unix.EBUSY) && limited.Err() == nil {
		select {
		case <-time.After(10 * time.Millisecond): // nothing tells that it is free
			err = within(path, attach)
		case <-limited.Done():
		}
	}
	if err != nil {
		return nil, err
	}
	return &machine.Link{File: tap, MTU: mtu, Machine: Inside, Gateway: Gateway, MAC: mac}, nil
}

// within runs f on a thread that is in the network namespace at path. The
// thread ends with it.
func within(path string, f func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoilt for others
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// openTap opens the TAP of the present network namespace, making it at first.
func openTap() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(tapName)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("attaching TAP: %w", err)
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

func configureLinks() error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	tap, err := h.LinkByName(tapName)
	if err != nil {
		return fmt.Errorf("finding TAP: %w", err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: Inside.Addr().AsSlice(), Mask: net.CIDRMask(Inside.Bits(), 32)}}
	route := &netlink.Route{LinkIndex: tap.Attrs().Index, Gw: Gateway.AsSlice()}
	for _, step := range []struct {
		doing string
		do    func() error
	}{
		{"raising lo", func() error { return h.LinkSetUp(lo) }},
		{"setting MAC", func() error { return h.LinkSetHardwareAddr(tap, mac) }},
		{"setting MTU", func() error { return h.LinkSetMTU(tap, mtu) }},
		{"adding address", func() error { return h.AddrAdd(tap, addr) }},
		{"raising TAP", func() error { return h.LinkSetUp(tap) }},
		{"adding route", func() error { return h.RouteAdd(route) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.doing, err)
		}
	}
	return nil
}
