//go:build linux

// Package egresstest gives tests a machine's network without a machine: a
// network namespace with a persistent TAP in it, made as a driver makes it, and
// ways to run programs and open connections inside. It needs root on Linux and
// the ip program, and removes all that it made when the test ends.
package egresstest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine"
)

// Device is the TAP's name in every namespace.
const Device = "eth0"

// Space is a network namespace with a TAP as its only way out.
type Space struct {
	Name    string // as in `ip netns`
	Machine netip.Prefix
	Gateway netip.Addr

	handle netns.NsHandle
	mac    net.HardwareAddr
	mtu    int
}

var count atomic.Int64

// New makes a namespace whose machine is 10.201.0.2/24 behind 10.201.0.1, with
// an MTU in bytes and that gateway as its name server. Without root it skips
// the test, or fails it where CI is set.
func New(t testing.TB, mtu int) *Space {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("network namespaces need root; run the tests as root")
		}
		t.Skip("network namespaces need root; run the tests as root")
	}
	s := &Space{
		Name:    "egress-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(count.Add(1), 10),
		Machine: netip.MustParsePrefix("10.201.0.2/24"),
		Gateway: netip.MustParseAddr("10.201.0.1"),
		mtu:     mtu,
	}
	t.Cleanup(func() { s.remove(t) })
	if err := s.make(); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	return s
}

func (s *Space) make() error {
	if err := s.makeNamespace(); err != nil {
		return err
	}
	etc := filepath.Join("/etc/netns", s.Name)
	if err := os.MkdirAll(etc, 0o755); err != nil {
		return err
	}
	// `ip netns exec` shows these in /etc.
	if err := os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver "+s.Gateway.String()+"\n"), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(etc, "nsswitch.conf"), []byte("hosts: files dns\n"), 0o644); err != nil {
		return err
	}
	return s.inside(s.makeDevice)
}

func (s *Space) makeNamespace() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	s.handle, err = netns.NewNamed(s.Name)
	if err != nil {
		return err
	}
	return netns.Set(own)
}

func (s *Space) makeDevice() error {
	fd, err := openTAP(unix.IFF_VNET_HDR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return err
	}
	device, err := netlink.LinkByName(Device)
	if err != nil {
		return err
	}
	s.mac = device.Attrs().HardwareAddr
	if err := netlink.LinkSetMTU(device, s.mtu); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: s.Machine.Addr().AsSlice(), Mask: net.CIDRMask(s.Machine.Bits(), 32)}}
	if err := netlink.AddrAdd(device, addr); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, one := range []netlink.Link{lo, device} {
		if err := netlink.LinkSetUp(one); err != nil {
			return err
		}
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: device.Attrs().Index, Gw: s.Gateway.AsSlice()})
}

func openTAP(flags uint16) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(Device)
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("attaching to the TAP: %w", err)
	}
	return fd, nil
}

// Open opens the TAP, as a driver's Link does.
func (s *Space) Open(t testing.TB) *machine.Link {
	t.Helper()
	return s.open(t, unix.IFF_VNET_HDR)
}

// OpenPlain opens the TAP without virtio-net headers.
func (s *Space) OpenPlain(t testing.TB) *machine.Link {
	t.Helper()
	return s.open(t, 0)
}

func (s *Space) open(t testing.TB, flags uint16) *machine.Link {
	t.Helper()
	var fd int
	err := s.inside(func() (err error) {
		fd, err = openTAP(flags)
		return err
	})
	if err != nil {
		t.Fatalf("opening a link: %v", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return &machine.Link{
		File: os.NewFile(uintptr(fd), "tap"), VNetHdr: flags != 0, MTU: s.mtu,
		Machine: s.Machine, Gateway: s.Gateway, MAC: s.mac,
	}
}

// inside runs f on a thread that is in the namespace.
func (s *Space) inside(f func() error) error {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	if err := netns.Set(s.handle); err != nil {
		return err
	}
	ferr := f()
	if err := netns.Set(own); err != nil {
		return err // and leave the thread locked: it ends with the goroutine
	}
	runtime.UnlockOSThread()
	return ferr
}

// Dial connects from inside to an IP address and port (for "ip4:icmp" an
// address alone), in this process.
func (s *Space) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return nil, fmt.Errorf("dialing inside needs an IP address: %w", err)
	}
	var conn net.Conn
	err = s.inside(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Command gives a program to be run inside, with the space's own name server.
func (s *Space) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", s.Name, name}, args...)...)
}

// remove undoes make and checks that nothing is left.
func (s *Space) remove(t testing.TB) {
	if s.handle.IsOpen() {
		s.handle.Close()
		if err := netns.DeleteNamed(s.Name); err != nil {
			t.Errorf("removing a network namespace: %v", err)
		}
	}
	if err := os.RemoveAll(filepath.Join("/etc/netns", s.Name)); err != nil {
		t.Error(err)
	}
	os.Remove("/etc/netns") // if it is empty
	if _, err := os.Stat(filepath.Join("/run/netns", s.Name)); !os.IsNotExist(err) {
		t.Errorf("the network namespace %s is still there (%v)", s.Name, err)
	}
}
