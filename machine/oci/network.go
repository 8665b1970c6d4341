//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine"
)

// Every machine has the same addresses: its network ends in our process and
// meets no other. They are from TEST-NET-1, which nobody uses and nobody
// routes, so that no address that a machine may want to reach is hidden.
var (
	machineAddr = netip.MustParsePrefix("192.0.2.2/30")
	gatewayAddr = netip.MustParseAddr("192.0.2.1")
	machineMAC  = net.HardwareAddr{0x02, 'e', 'r', 'r', 0, 2}
)

const (
	tapName = "eth0"
	// tapMTU is the largest that IPv4 over Ethernet can say: the fewest frames
	// for the most data, since each is a system call on our side.
	tapMTU = 65520
)

// makeNetwork puts the persistent TAP, addresses and routes into the network
// namespace pinned at path.
func makeNetwork(path string) error {
	return inNetwork(path, func() error {
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
		// Root in the machine is not root in the namespace's owner: let it
		// listen on low ports and everyone ping, as on a machine of one's own.
		os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
		os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
		return nil
	})
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
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: machineAddr.Addr().AsSlice(), Mask: net.CIDRMask(machineAddr.Bits(), 32)}}
	route := &netlink.Route{LinkIndex: tap.Attrs().Index, Gw: gatewayAddr.AsSlice()}
	for _, step := range []struct {
		doing string
		do    func() error
	}{
		{"raising lo", func() error { return h.LinkSetUp(lo) }},
		{"setting MAC", func() error { return h.LinkSetHardwareAddr(tap, machineMAC) }},
		{"setting MTU", func() error { return h.LinkSetMTU(tap, tapMTU) }},
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

// linkPatience is how long openLink waits for somebody else to let go of the
// TAP. A program that a killed server was just starting holds what the server
// had open until it has begun, and the kernel takes its time to close a TAP.
const linkPatience = 10 * time.Second

// openLink opens the machine's TAP.
func (d *Driver) openLink(ctx context.Context, id machine.ID) (*machine.Link, error) {
	var tap *os.File
	attach := func() (err error) {
		tap, err = openTap()
		return err
	}
	network := filepath.Join(d.runDir(id), "ns", "net")
	limited, cancel := context.WithTimeout(ctx, linkPatience)
	defer cancel()
	err := inNetwork(network, attach)
	for errors.Is(err, unix.EBUSY) && limited.Err() == nil {
		select {
		case <-time.After(10 * time.Millisecond): // nothing tells that it is free
			err = inNetwork(network, attach)
		case <-limited.Done():
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening link of machine %s: %w", id, err)
	}
	return &machine.Link{File: tap, MTU: tapMTU, Machine: machineAddr, Gateway: gatewayAddr, MAC: machineMAC}, nil
}
