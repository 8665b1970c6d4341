package egress

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const quicPort = 443

// acceptUDP takes the first datagram from one port of the machine to one
// destination. It must not block: it runs where the link is read. Reporting
// false answers with "port unreachable".
func (n *Network) acceptUDP(ctx context.Context, req *udp.ForwarderRequest) bool {
	addr, port := destination(req.ID())
	if port == dnsPort {
		return n.beginUDP(req, func(ep tcpip.Endpoint, wq *waiter.Queue) {
			conn := gonet.NewUDPConn(wq, ep)
			stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(aLongTimeAgo) })
			defer stop()
			defer conn.Close()
			n.serveDatagrams(ctx, conn)
		})
	}
	r := n.rules.Load()
	f := n.newFlow("udp", addr, port)
	name, no := n.judgeUDP(r, addr, port)
	f.name(name)
	if no == "" {
		if n.beginUDP(req, func(ep tcpip.Endpoint, wq *waiter.Queue) {
			n.forward(ctx, r, f, &datagrams{UDPConn: gonet.NewUDPConn(wq, ep), ep: ep, wq: wq})
		}) {
			return true
		}
		no = n.tooMany()
	}
	n.start(func() {
		f.fail(no)
		f.end()
	})
	return false
}

// beginUDP makes the machine's side of a flow, so that the datagrams that
// follow find it, and serves it in a goroutine.
func (n *Network) beginUDP(req *udp.ForwarderRequest, serve func(tcpip.Endpoint, *waiter.Queue)) bool {
	wq := new(waiter.Queue)
	ep, err := req.CreateEndpoint(wq)
	if err != nil {
		return false
	}
	if !n.start(func() { serve(ep, wq) }) {
		ep.Close()
		return false
	}
	return true
}

// judgeUDP decides by what is known before a byte is looked at, since nothing
// in a datagram tells a name. QUIC hides the name that a web server is asked
// for, so under lists it is refused and clients go back to TCP.
func (n *Network) judgeUDP(r *rules, addr netip.Addr, port uint16) (string, refusal) {
	known := n.names.of(addr)
	if n.subnet.Contains(addr) {
		return "", refusal(addr.String() + " is the machine's own gateway, which serves nothing but names.")
	}
	if no := r.judgeClass(addr); no != "" {
		return firstOf(known), no
	}
	if port == quicPort && r.strict() && !r.allowsAddr(addr, port) {
		return firstOf(known), "QUIC does not show which host is asked for, so under this environment's lists it must be asked over TCP."
	}
	return r.judgeKnown(known, addr, port)
}

// datagrams is the machine's side of a UDP flow.
type datagrams struct {
	*gonet.UDPConn
	ep tcpip.Endpoint
	wq *waiter.Queue
}

func (d *datagrams) await() error {
	awaitEndpoint(d.ep, d.wq)
	return nil
}

// forward carries a flow until it is silent for the idle time.
func (n *Network) forward(ctx context.Context, r *rules, f *flow, down *datagrams) {
	defer f.end()
	up, err := n.gate.connect(ctx, r, f, f.addr)
	if err != nil {
		down.Close()
		f.fail(err)
		return
	}
	end := func() { up.Close(); down.ep.Abort() }
	idle := time.AfterFunc(n.gate.idleTimeout, end)
	defer idle.Stop()
	stop := context.AfterFunc(ctx, end)
	defer stop()
	alive := func(count *atomic.Int64, size int) {
		count.Add(int64(size))
		idle.Reset(n.gate.idleTimeout)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer end()
		copyDatagrams(down, up, func() error { return awaitReadable(up) }, func(size int) { alive(&f.received, size) })
	}()
	copyDatagrams(up, down, down.await, func(size int) { alive(&f.sent, size) })
	end()
	<-done
	down.Close()
}

// copyDatagrams copies from src to dst, each as it is, until one of them ends.
func copyDatagrams(dst, src net.Conn, await func() error, moved func(int)) {
	for {
		if await() != nil {
			return
		}
		b := buffers.Get().(*[64 << 10]byte)
		n, err := src.Read(b[:])
		if err == nil {
			_, err = dst.Write(b[:n])
			moved(n)
		}
		buffers.Put(b)
		if err != nil {
			return
		}
	}
}
