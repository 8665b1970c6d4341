package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// aLongTimeAgo as a deadline makes blocked reads return.
var aLongTimeAgo = time.Unix(1, 0)

const nic = 1

// Network is one machine's network, from Attach to Close.
type Network struct {
	gate    *Gate
	tap     *tap
	stack   *stack.Stack
	subnet  netip.Prefix // the machine's and the gateway's
	gateway netip.Addr
	record  func(errand.Connection)
	quiet   quiet
	names   names
	rules   atomic.Pointer[rules]
	cancel  context.CancelFunc // ends what is under way

	mu     sync.Mutex
	closed bool
	open   int // of at most gate.maxConnections
	wg     sync.WaitGroup
}

// Attach takes over link and answers the machine from now on, under policy. It
// does not block. Every connection that has ended is told to record, which may
// be called by several goroutines at once and should return soon; a refusal
// that repeats itself is told once in ten seconds. ctx carries values only: the
// network lives until Close. On an error the link stays the caller's.
func (g *Gate) Attach(ctx context.Context, link *machine.Link, policy Policy, record func(errand.Connection)) (*Network, error) {
	r, err := g.compile(policy)
	if err != nil {
		return nil, err
	}
	t, err := newTap(link, g.log)
	if err != nil {
		return nil, err
	}
	n := &Network{gate: g, tap: t, subnet: link.Machine.Masked(), gateway: link.Gateway, record: record}
	ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.rules.Store(r)
	if err := n.build(ctx); err != nil {
		n.cancel()
		n.stack.Destroy()
		return nil, fmt.Errorf("attaching a link: %w", err)
	}
	t.start()
	return n, nil
}

// build makes the stack. It takes frames once the tap is started.
func (n *Network) build(ctx context.Context) error {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	n.stack = s
	syns := tcp.NewForwarder(s, 0, n.gate.maxConnections, func(r *tcp.ForwarderRequest) { n.acceptTCP(ctx, r) })
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, syns.HandlePacket)
	datagrams := udp.NewForwarder(s, func(r *udp.ForwarderRequest) bool { return n.acceptUDP(ctx, r) })
	s.SetTransportProtocolHandler(udp.ProtocolNumber, datagrams.HandlePacket)
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	gateway := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4(n.gateway.As4()), PrefixLen: 32},
	}
	for _, step := range []func() tcpip.Error{
		func() tcpip.Error { return tune(s) },
		func() tcpip.Error { return s.CreateNIC(nic, n.tap) },
		// Promiscuous: every destination is ours. Spoofing: answers come from it.
		func() tcpip.Error { return s.SetPromiscuousMode(nic, true) },
		func() tcpip.Error { return s.SetSpoofing(nic, true) },
		func() tcpip.Error { return s.AddProtocolAddress(nic, gateway, stack.AddressProperties{}) },
	} {
		if err := step(); err != nil {
			return errors.New(err.String())
		}
	}
	return nil
}

// linkBuffer is what a connection may have waiting in each direction on the
// link, in bytes. The link is as short as a pipe, so more makes nothing faster;
// the long way is the host kernel's. Once crowded connections are open, further
// ones get an eighth: what a machine that fills all it can holds of our memory
// stays well under a gigabyte.
const (
	linkBuffer = 512 << 10
	crowded    = 128
)

// tune sets what differs from the stack's own choice.
func tune(s *stack.Stack) tcpip.Error {
	sack := tcpip.TCPSACKEnabled(true)
	// The link loses nothing: what RACK sees as loss is our own scheduling.
	recovery := tcpip.TCPRecovery(0)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: linkBuffer, Max: linkBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: linkBuffer, Max: linkBuffer}
	moderate := tcpip.TCPModerateReceiveBufferOption(false)
	timeWait := tcpip.TCPTimeWaitTimeoutOption(5 * time.Second)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &receive, &send, &moderate, &timeWait} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return err
		}
	}
	return nil
}

// SetPolicy changes what new connections may reach; open ones stay.
func (n *Network) SetPolicy(policy Policy) error {
	r, err := n.gate.compile(policy)
	if err != nil {
		return err
	}
	n.rules.Store(r)
	return nil
}

// Close ends every connection with a reset to both sides, tells their records,
// waits for all goroutines, and closes the link's file. To close again is no
// error.
func (n *Network) Close() error {
	n.mu.Lock()
	again := n.closed
	n.closed = true
	n.mu.Unlock()
	n.cancel()
	if again {
		n.wg.Wait()
		return nil
	}
	n.abort()
	n.tap.stop()
	n.stack.Destroy()
	return n.tap.file.Close()
}

// abort waits for all that is under way. A handshake that the machine does not
// finish ends only by being aborted, and may have begun a moment ago.
func (n *Network) abort() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.wg.Wait()
	}()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		for _, ep := range n.stack.RegisteredEndpoints() {
			ep.Abort()
		}
		select {
		case <-done:
			return
		case <-again.C:
		}
	}
}

// enter counts one more open thing, for which finish must be called. It reports
// full where that is more than the machine may have, and !ok once closed: then
// nothing was counted.
func (n *Network) enter() (full, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false, false
	}
	n.open++
	n.wg.Add(1)
	return n.open > n.gate.maxConnections, true
}

func (n *Network) finish() {
	n.mu.Lock()
	n.open--
	n.mu.Unlock()
	n.wg.Done()
}

// isCrowded says whether a new connection must do with less.
func (n *Network) isCrowded() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open > crowded
}

// start runs f in a goroutine that Close waits for. It reports false, and does
// not run f, when the network is closed or full.
func (n *Network) start(f func()) bool {
	full, ok := n.enter()
	if !ok {
		return false
	}
	if full {
		n.finish()
		return false
	}
	go func() {
		defer n.finish()
		f()
	}()
	return true
}

// tooMany is the refusal for what enter found to be full.
func (n *Network) tooMany() refusal {
	return refusal(fmt.Sprintf("The machine has %d connections open, which is the most it may have.", n.gate.maxConnections))
}

func (n *Network) newFlow(protocol string, addr netip.Addr, port uint16) *flow {
	return newFlow(protocol, addr, port, func(c errand.Connection) {
		if n.record != nil && n.quiet.passes(c) {
			n.record(c)
		}
	})
}

// destination gives where a connection of the machine wants to go.
func destination(id stack.TransportEndpointID) (netip.Addr, uint16) {
	return netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort
}
