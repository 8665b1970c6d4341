package egress

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/errand-dev/errand/machine"
)

const (
	vnetSize  = 12 // struct virtio_net_hdr_mrg_rxbuf
	maxPacket = 1 << 16
	// aside is the longest packet that is copied out of the buffer it was read
	// into: a small one must not hold on to 64 KiB while it waits in a queue.
	aside = 4096
)

// gatewayMAC is ours on every link: each has one machine and one gateway, so it
// need not differ.
const gatewayMAC = tcpip.LinkAddress("\x02\x45\x52\x52\x00\x01")

// tap is the stack's end of a machine's link. It is its own because the one
// that comes with the stack wants a thread for each link, blocked in poll, and
// uses no offloads on a TAP; this one waits in Go's poller, holds no buffer
// while it waits, and hands whole 64 KiB segments over both ways.
//
// A link has two ends, so there is no neighbour table: what the machine sends
// teaches its hardware address, and it is told ours.
type tap struct {
	file    *os.File
	raw     syscall.RawConn
	vnet    bool
	mtu     uint32
	machine [4]byte
	gateway [4]byte
	log     *slog.Logger

	peer       atomic.Pointer[tcpip.LinkAddress]
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	closed     atomic.Bool
	done       chan struct{} // closed when nothing is read any more
}

var (
	_ stack.LinkEndpoint = (*tap)(nil)
	_ stack.GSOEndpoint  = (*tap)(nil)
)

func newTap(link *machine.Link, log *slog.Logger) (*tap, error) {
	t := &tap{file: link.File, vnet: link.VNetHdr, mtu: uint32(link.MTU), log: log, done: make(chan struct{})}
	if !link.Machine.Addr().Is4() || !link.Gateway.Is4() {
		return nil, fmt.Errorf("attaching a machine at %s behind %s: only IPv4 links are known", link.Machine, link.Gateway)
	}
	if t.mtu < header.IPv4MinimumMTU || t.mtu > maxPacket {
		return nil, fmt.Errorf("attaching a link with an MTU of %d: it must be from %d to %d", t.mtu, header.IPv4MinimumMTU, maxPacket)
	}
	t.machine, t.gateway = link.Machine.Addr().As4(), link.Gateway.As4()
	peer := tcpip.LinkAddress(link.MAC)
	if len(peer) != header.EthernetMinimumSize/2-1 {
		peer = header.EthernetBroadcastAddress
	}
	t.peer.Store(&peer)
	raw, err := link.File.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("attaching a link: %w", err)
	}
	t.raw = raw
	if t.vnet {
		if err := setOffloads(raw); err != nil {
			return nil, fmt.Errorf("attaching a link: %w", err)
		}
	}
	return t, nil
}

// start begins to read.
func (t *tap) start() { go t.run() }

// stop ends the reading and waits for it.
func (t *tap) stop() {
	if !t.closed.Swap(true) {
		t.file.SetReadDeadline(aLongTimeAgo)
	}
	<-t.done
}

// run reads until stop, or until the link is gone.
func (t *tap) run() {
	defer close(t.done)
	err := t.raw.Read(func(fd uintptr) bool { return t.drain(fd) })
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, os.ErrClosed) {
		t.log.Warn("reading a machine's link", "machine", netip.AddrFrom4(t.machine), "err", err)
	}
}

// drain reads what is there. It reports true when there will be nothing more.
func (t *tap) drain(fd uintptr) bool {
	var head [vnetSize + header.EthernetMinimumSize]byte
	headers := head[:]
	if !t.vnet {
		headers = head[vnetSize:]
	}
	view := buffer.NewViewSize(maxPacket)
	defer func() { view.Release() }()
	for !t.closed.Load() {
		n, err := readFrame(fd, headers, view.AsSlice())
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return false
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			t.log.Debug("a machine's link ended", "machine", netip.AddrFrom4(t.machine), "err", err)
			return true
		}
		n -= len(headers)
		if n <= 0 {
			continue
		}
		eth := header.Ethernet(head[vnetSize:])
		if n <= aside {
			t.take(eth, buffer.NewViewWithData(view.AsSlice()[:n]))
			continue
		}
		full := view
		view = buffer.NewViewSize(maxPacket)
		full.CapLength(n)
		t.take(eth, full)
	}
	return true
}

// take handles one frame; packet is its own.
func (t *tap) take(eth header.Ethernet, packet *buffer.View) {
	if from := eth.SourceAddress(); from != *t.peer.Load() {
		t.peer.Store(&from)
	}
	switch eth.Type() {
	case header.ARPProtocolNumber:
		t.answerARP(packet.AsSlice())
		packet.Release()
	case header.IPv4ProtocolNumber:
		t.takeIP(packet)
	default: // no IPv6, and nothing else to speak of
		packet.Release()
	}
}

// takeIP gives the stack what the machine sends under its own address. In the
// stack every address is its own, so it would answer a ping of the whole world:
// only the gateway's is let through.
func (t *tap) takeIP(packet *buffer.View) {
	ip := header.IPv4(packet.AsSlice())
	d := t.dispatcher.Load()
	if d == nil || !ip.IsValid(len(ip)) || [4]byte(ip.SourceAddressSlice()) != t.machine || unanswerable(ip.DestinationAddressSlice()) {
		packet.Release()
		return
	}
	if ip.TransportProtocol() == header.ICMPv4ProtocolNumber && [4]byte(ip.DestinationAddressSlice()) != t.gateway {
		t.prohibit(ip)
		packet.Release()
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(packet)})
	(*d).DeliverNetworkPacket(header.IPv4ProtocolNumber, pkt)
	pkt.DecRef()
}

// unanswerable holds multicast and broadcast: name discovery and the like,
// which nobody here answers.
func unanswerable(dst []byte) bool { return dst[0] >= 224 }

// answerARP tells the machine that every address but its own is ours.
func (t *tap) answerARP(b []byte) {
	q := header.ARP(b)
	if len(q) < header.ARPSize || !q.IsValid() || q.Op() != header.ARPRequest || [4]byte(q.ProtocolAddressTarget()) == t.machine {
		return
	}
	frame := t.newFrame(header.ARPProtocolNumber, header.ARPSize)
	a := header.ARP(frame[len(frame)-header.ARPSize:])
	a.SetIPv4OverEthernet()
	a.SetOp(header.ARPReply)
	copy(a.HardwareAddressSender(), gatewayMAC)
	copy(a.ProtocolAddressSender(), q.ProtocolAddressTarget())
	copy(a.HardwareAddressTarget(), q.HardwareAddressSender())
	copy(a.ProtocolAddressTarget(), q.ProtocolAddressSender())
	t.writeFrame(frame)
}

// prohibit answers a packet with the ICMP word for "not by this way".
func (t *tap) prohibit(ip header.IPv4) {
	icmp := header.ICMPv4(ip[ip.HeaderLength():])
	if len(icmp) < header.ICMPv4MinimumSize || icmp.Type() != header.ICMPv4Echo {
		return
	}
	quoted := ip[:min(len(ip), int(ip.HeaderLength())+8)]
	size := header.IPv4MinimumSize + header.ICMPv4MinimumSize + len(quoted)
	frame := t.newFrame(header.IPv4ProtocolNumber, size)
	out := header.IPv4(frame[len(frame)-size:])
	out.Encode(&header.IPv4Fields{
		TotalLength: uint16(size), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: tcpip.AddrFrom4(t.gateway), DstAddr: tcpip.AddrFrom4(t.machine),
	})
	out.SetChecksum(^out.CalculateChecksum())
	msg := header.ICMPv4(out[header.IPv4MinimumSize:])
	msg.SetType(header.ICMPv4DstUnreachable)
	msg.SetCode(header.ICMPv4AdminProhibited)
	copy(msg[header.ICMPv4MinimumSize:], quoted)
	msg.SetChecksum(header.ICMPv4Checksum(msg, 0))
	t.writeFrame(frame)
}

// newFrame gives a frame for size bytes to the machine, its headers filled in.
func (t *tap) newFrame(kind tcpip.NetworkProtocolNumber, size int) []byte {
	frame := make([]byte, t.vnetSize()+header.EthernetMinimumSize+size)
	header.Ethernet(frame[t.vnetSize():]).Encode(&header.EthernetFields{SrcAddr: gatewayMAC, DstAddr: *t.peer.Load(), Type: kind})
	return frame
}

func (t *tap) vnetSize() int {
	if t.vnet {
		return vnetSize
	}
	return 0
}

// writeFrame sends a frame. One that the kernel does not take is lost, as on
// any wire.
func (t *tap) writeFrame(parts ...[]byte) error {
	var err error
	if cerr := t.raw.Control(func(fd uintptr) { err = writeFrame(fd, parts) }); cerr != nil {
		return cerr
	}
	return err
}

// WritePackets implements stack.LinkWriter.
func (t *tap) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		var vnet [vnetSize]byte
		parts := make([][]byte, 0, 8)
		if t.vnet {
			describe(vnet[:], pkt)
			parts = append(parts, vnet[:])
		}
		if err := t.writeFrame(append(parts, pkt.AsSlices()...)...); err != nil {
			return i, &tcpip.ErrNoBufferSpace{}
		}
	}
	return pkts.Len(), nil
}

// describe fills in a virtio-net header: which checksum the kernel need not
// check and how a segment larger than the machine's own may be cut.
func describe(vnet []byte, pkt *stack.PacketBuffer) {
	gso := pkt.GSOOptions
	if gso.Type == stack.GSONone || !gso.NeedsCsum {
		return
	}
	const needsChecksum, tcp4 = 1, 1
	vnet[0] = needsChecksum
	put := func(at int, v uint16) { vnet[at], vnet[at+1] = byte(v), byte(v>>8) }
	put(6, header.EthernetMinimumSize+gso.L3HdrLen)
	put(8, gso.CsumOffset)
	if pkt.Data().Size() > int(gso.MSS) {
		vnet[1] = tcp4
		put(2, uint16(pkt.HeaderSize()))
		put(4, gso.MSS)
	}
}

// AddHeader implements stack.LinkEndpoint.
func (t *tap) AddHeader(pkt *stack.PacketBuffer) {
	eth := header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize))
	eth.Encode(&header.EthernetFields{SrcAddr: gatewayMAC, DstAddr: *t.peer.Load(), Type: pkt.NetworkProtocolNumber})
}

// Attach implements stack.LinkEndpoint. A nil dispatcher is how the stack lets
// go of the link.
func (t *tap) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		t.dispatcher.Store(nil)
		return
	}
	t.dispatcher.Store(&d)
}

// Capabilities implements stack.LinkEndpoint. With a virtio-net header the
// machine's kernel leaves checksums to us, and nothing on the way can spoil them.
func (t *tap) Capabilities() stack.LinkEndpointCapabilities {
	if t.vnet {
		return stack.CapabilityRXChecksumOffload
	}
	return stack.CapabilityNone
}

// GSOMaxSize implements stack.GSOEndpoint.
func (t *tap) GSOMaxSize() uint32 { return maxPacket }

// SupportedGSO implements stack.GSOEndpoint.
func (t *tap) SupportedGSO() stack.SupportedGSO {
	if t.vnet {
		return stack.HostGSOSupported
	}
	return stack.GVisorGSOSupported
}

// The rest of stack.LinkEndpoint.
func (t *tap) MTU() uint32                             { return t.mtu }
func (t *tap) SetMTU(uint32)                           {}
func (t *tap) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (t *tap) LinkAddress() tcpip.LinkAddress          { return gatewayMAC }
func (t *tap) SetLinkAddress(tcpip.LinkAddress)        {}
func (t *tap) IsAttached() bool                        { return t.dispatcher.Load() != nil }
func (t *tap) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (t *tap) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (t *tap) Wait()                                   {}
func (t *tap) Close()                                  {}
func (t *tap) SetOnCloseAction(func())                 {}
