package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// acceptTCP takes one SYN of the machine, in a goroutine of its own.
func (n *Network) acceptTCP(ctx context.Context, req *tcp.ForwarderRequest) {
	full, ok := n.enter()
	if !ok {
		req.Complete(true)
		return
	}
	defer n.finish()
	addr, port := destination(req.ID())
	if port == dnsPort && !full {
		n.acceptDNS(ctx, req)
		return
	}
	c := &connection{network: n, rules: n.rules.Load(), flow: n.newFlow("tcp", addr, port), addr: addr, port: port, req: req}
	var err error = n.tooMany()
	if !full {
		err = c.serve(ctx)
	}
	if c.req != nil {
		c.req.Complete(true) // a reset: refused at once, and never seemed open
	}
	if err != nil {
		c.flow.fail(err)
	}
	c.flow.end()
}

func (n *Network) acceptDNS(ctx context.Context, req *tcp.ForwarderRequest) {
	conn, err := n.accept(req)
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, conn.abort)
	defer stop()
	n.serveStream(ctx, conn)
}

// accept completes the handshake with the machine.
func (n *Network) accept(req *tcp.ForwarderRequest) (*stream, error) {
	wq := new(waiter.Queue)
	ep, err := req.CreateEndpoint(wq)
	req.Complete(err != nil)
	if err != nil {
		return nil, errors.New(err.String())
	}
	options := ep.SocketOptions()
	options.SetKeepAlive(true) // a machine that was stopped sends no end
	if n.isCrowded() {
		options.SetReceiveBufferSize(linkBuffer/8, true)
		options.SetSendBufferSize(linkBuffer/8, true)
	}
	return newStream(wq, ep), nil
}

// connection is one TCP connection of a machine on its way from its SYN to its
// record.
type connection struct {
	network *Network
	rules   *rules
	flow    *flow
	addr    netip.Addr // asked for
	port    uint16
	req     *tcp.ForwarderRequest // until it is accepted
	down    *stream               // from then on
}

// serve decides, connects and carries. What the machine sees of a refusal: a
// reset of its SYN wherever the address tells enough, and where its first bytes
// must tell, an answer in its own protocol.
func (c *connection) serve(ctx context.Context) error {
	if c.network.subnet.Contains(c.addr) {
		return refusal(c.addr.String() + " is the machine's own gateway, which serves nothing but names.")
	}
	if no := c.rules.judgeClass(c.addr); no != "" {
		c.flow.name(firstOf(c.network.names.of(c.addr)))
		return no
	}
	name, no := c.rules.judgeKnown(c.network.names.of(c.addr), c.addr, c.port)
	c.flow.name(name)
	if no != "" && !c.rules.mayName(c.port) {
		return no
	}
	var up net.Conn
	if no == "" {
		// Before the machine's handshake, so that what cannot be reached does
		// not look open; before its first byte, for protocols in which the
		// server speaks first.
		var err error
		if up, err = c.network.gate.connect(ctx, c.rules, c.flow, c.addr); err != nil {
			return err
		}
	}
	down, err := c.network.accept(c.req)
	c.req = nil
	if err != nil {
		if up != nil {
			up.Close()
		}
		return err
	}
	c.down = down
	if c.rules.strict() {
		return c.guard(ctx, up, no)
	}
	return c.overhear(ctx, up)
}

// overhear carries everything as it comes and notes the name if it hears one.
func (c *connection) overhear(ctx context.Context, up net.Conn) error {
	var e ear
	return c.carry(ctx, c.relay(up), nil, func(b []byte) {
		if name := e.hear(b); name != "" {
			c.flow.name(name)
		}
	})
}

func (c *connection) relay(up net.Conn) *relay {
	return newRelay(c.flow, c.down, up, 5*c.network.gate.idleTimeout)
}

func (c *connection) carry(ctx context.Context, r *relay, first []byte, heard func([]byte)) error {
	stop := context.AfterFunc(ctx, r.reset)
	defer stop()
	err := r.run(first, heard)
	if ctx.Err() != nil {
		return errEnded
	}
	return err
}

var errEnded = errors.New("the machine's network was closed")

// guard lets nothing of the machine's go up before what it asks for is known
// and allowed. up is nil where the address alone was not allowed, for the
// reason no: then what is asked for must earn it.
func (c *connection) guard(ctx context.Context, up net.Conn, no refusal) error {
	var r *relay
	if up != nil {
		r = c.relay(up)
	}
	stop := context.AfterFunc(ctx, c.down.abort)
	first, what, err := readFirst(c.down, c.network.gate.firstTimeout, up != nil)
	stop()
	name := ""
	if what == hello {
		var ok bool
		if name, ok = helloName(first); !ok {
			what = garbled
		}
	}
	switch {
	case err != nil && len(first) == 0: // nothing was said; no stands, if it does
	case what == garbled || what == undecided:
		no = "The connection begins like TLS or HTTP and names no host that could be checked."
	case what == request:
		return c.guardHTTP(ctx, r, first)
	case name != "":
		r, no, err = c.guardName(ctx, r, name)
	}
	if err != nil || no != "" {
		return c.turnAway(ctx, r, what, no, err)
	}
	return c.carry(ctx, r, first, nil)
}

// turnAway ends a connection that was accepted.
func (c *connection) turnAway(ctx context.Context, r *relay, what speech, no refusal, err error) error {
	if what == hello && no != "" {
		c.down.Write(refuseHello())
		c.down.CloseWrite()
	}
	if r != nil {
		r.stop()
		r.up.Close()
	}
	if what == hello && no != "" {
		c.down.Close()
	} else {
		c.down.abort()
	}
	switch {
	case ctx.Err() != nil:
		return errEnded
	case no != "":
		return no
	}
	return err
}

// guardName decides about the name in a ClientHello and gives a relay to one of
// its addresses: the one that was asked for, if it is one.
func (c *connection) guardName(ctx context.Context, r *relay, name string) (*relay, refusal, error) {
	c.flow.name(name)
	if no := c.rules.judge(name, c.addr, c.port); no != "" {
		return r, no, nil
	}
	if c.holds(ctx, name) {
		if r != nil {
			return r, "", nil
		}
		up, err := c.network.gate.connect(ctx, c.rules, c.flow, c.addr)
		if err != nil {
			return nil, "", err
		}
		return c.relay(up), "", nil
	}
	if r != nil {
		if up := r.stop(); up != nil {
			up.Close()
		}
	}
	up, err := c.network.gate.reach(ctx, c.rules, c.flow, name)
	if err != nil {
		var no refusal
		if errors.As(err, &no) {
			return nil, no, nil
		}
		return nil, "", err
	}
	return c.relay(up), "", nil
}

// holds says whether the address that was asked for is one of name, or is
// allowed by itself so that it does not matter.
func (c *connection) holds(ctx context.Context, name string) bool {
	if c.rules.allowsAddr(c.addr, c.port) || slices.Contains(c.network.names.of(c.addr), name) {
		return true
	}
	addrs, err := c.network.gate.resolve.addresses(ctx, name)
	return err == nil && slices.Contains(addrs, c.addr)
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}
