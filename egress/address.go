package egress

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A class is a set of addresses that machines may not reach, with the words for
// it in a refusal. The documentation ranges (192.0.2.0/24, 198.51.100.0/24,
// 203.0.113.0/24, 2001:db8::/32) are not among them: some networks put their
// package registries there.
type class struct {
	words    string
	prefixes []netip.Prefix
	fixed    bool // configuration cannot allow it
}

// classes are asked in this order; the first that holds an address names it.
var classes = []class{
	{words: "an unspecified address", fixed: true, prefixes: prefixes("0.0.0.0/8", "::/128")},
	{words: "a multicast or broadcast address", fixed: true, prefixes: prefixes("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")},
	{words: "a loopback address", prefixes: prefixes("127.0.0.0/8", "::1/128")},
	{words: "a link-local address", prefixes: prefixes("169.254.0.0/16", "fe80::/10")},
	{words: "a private address", prefixes: prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10")},
	{words: "a carrier-shared private address", prefixes: prefixes("100.64.0.0/10")},
	{words: "an address reserved for protocols or tests", prefixes: prefixes("192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "100::/64")},
	// These carry an IPv4 address that a router would unpack, or stand for
	// one in a way that nothing honest needs.
	{words: "an address that stands for another", prefixes: prefixes("::/96", "64:ff9b:1::/48", "2001::/32")},
}

// metadata are where clouds hand out credentials to whoever asks. A wide range
// that covers one does not allow it.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, GCP, Azure and most others
	netip.MustParseAddr("169.254.170.2"),   // ECS tasks
	netip.MustParseAddr("169.254.170.23"),  // EKS pods
	netip.MustParseAddr("168.63.129.16"),   // Azure's wire server
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS over IPv6
	netip.MustParseAddr("fd00:ec2::23"),    // EKS pods over IPv6
	netip.MustParseAddr("fd20:ce::254"),    // GCP over IPv6
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixToV4 = netip.MustParsePrefix("2002::/16")
)

// unwrap gives the IPv4 address that addr carries, or addr itself.
func unwrap(addr netip.Addr) netip.Addr {
	addr = addr.WithZone("").Unmap()
	if addr.Is4() {
		return addr
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToV4.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return addr
}

// guard holds what judges addresses by their class.
type guard struct {
	private []netip.Prefix // let through all the same
	host    *hostAddrs
}

// judge gives the words for why addr may not be reached, "" if it may.
func (g *guard) judge(addr netip.Addr) string {
	addr = unwrap(addr)
	if slices.Contains(metadata, addr) && !slices.Contains(g.private, netip.PrefixFrom(addr, addr.BitLen())) {
		return "a cloud metadata address"
	}
	allowed := contains(g.private, addr)
	for _, c := range classes {
		if (c.fixed || !allowed) && contains(c.prefixes, addr) {
			return c.words
		}
	}
	if !allowed && g.host.has(addr) {
		return "an address of Errand's own host"
	}
	return ""
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// hostAddrs knows the addresses of our own host. They change while we run (a
// new interface, DHCP), so they are read again when they are a few seconds old.
type hostAddrs struct {
	mu    sync.Mutex
	addrs []netip.Addr
	read  time.Time
}

func (h *hostAddrs) has(addr netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.read) > 10*time.Second {
		h.readLocked()
	}
	return slices.Contains(h.addrs, addr)
}

func (h *hostAddrs) readLocked() {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return // the last ones known are better than none
	}
	h.addrs = h.addrs[:0]
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			h.addrs = append(h.addrs, p.Addr().Unmap())
		}
	}
	h.read = time.Now()
}
