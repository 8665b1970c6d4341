// Package egress is the way out of a machine: it decides which connections a
// machine may make, makes them, and records them.
//
// A machine's network ends here. Attach puts a userspace TCP/IP stack on the
// machine's link, so that every connection arrives as Go code with the
// destination that the program inside really asked for; programs need no proxy
// settings, and what is refused has no route at all. The stack's own address is
// the machine's gateway and its name server.
//
// One place decides (rules), and it looks twice. The address is judged by its
// class: loopback, link-local, private, metadata and our own host's addresses
// are refused, always on the address that is connected to, so that a name that
// changes its mind between lookup and connect gains nothing. Then the name is
// judged by the policy's lists: the name that the client asks for in its TLS
// ClientHello or its HTTP Host, else the name that it last resolved to that
// address, else the address itself. Under lists a name must also be true: the
// connection goes to an address of that name or nowhere.
//
// It does not look inside TLS: what a client asks for behind an allowed name on
// a shared front (a CDN) is not seen. It does not keep records; they are handed
// to whoever attached the machine. It makes no links; drivers do.
package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/errand-dev/errand"
)

// Resolver finds the addresses of a name. *net.Resolver is one.
type Resolver interface {
	// LookupNetIP is as in net.Resolver; network is "ip". A name that does not
	// exist is a *net.DNSError with IsNotFound.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options are a Gate's settings. The zero value is right for a server.
type Options struct {
	// Log is told what concerns no single connection; nil is slog.Default().
	Log *slog.Logger
	// Resolver answers for all machines; nil is the system's.
	Resolver Resolver
	// Dial opens connections; nil is a net.Dialer. It is given "tcp" or "udp"
	// and an IP address with a port, never a name.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Private lists the ranges that are let through for every machine although
	// their class is refused. A metadata address must be listed by itself, as a
	// range of one.
	Private []netip.Prefix
	// MaxConnections is the most that one machine may have open; 0 is 2048.
	MaxConnections int
	// DialTimeout bounds one attempt to connect; 0 is 15 seconds.
	DialTimeout time.Duration
	// FirstTimeout bounds the wait for what tells a name: the rest of a
	// ClientHello or a request line that has begun, and the first byte where
	// nothing is known of the destination but its address. 0 is 10 seconds.
	FirstTimeout time.Duration
	// IdleTimeout ends a UDP flow that is silent, and a TCP connection of which
	// one side has closed and the other is silent for five times as long; 0 is
	// one minute. A connection that is open both ways may be silent for ever.
	IdleTimeout time.Duration
}

// Gate is the way out of all machines of a server. Its methods may be called
// from many goroutines at once.
type Gate struct {
	log     *slog.Logger
	resolve *lookups
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	private []netip.Prefix
	host    hostAddrs

	maxConnections int
	dialTimeout    time.Duration
	firstTimeout   time.Duration
	idleTimeout    time.Duration
}

// New gives a Gate. It holds nothing that must be closed.
func New(o Options) *Gate {
	g := &Gate{
		log:            cmp.Or(o.Log, slog.Default()),
		dial:           o.Dial,
		private:        o.Private,
		maxConnections: cmp.Or(o.MaxConnections, 2048),
		dialTimeout:    cmp.Or(o.DialTimeout, 15*time.Second),
		firstTimeout:   cmp.Or(o.FirstTimeout, 10*time.Second),
		idleTimeout:    cmp.Or(o.IdleTimeout, time.Minute),
	}
	if g.dial == nil {
		g.dial = (&net.Dialer{}).DialContext
	}
	resolver := o.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	g.resolve = newLookups(resolver)
	return g
}

// DialContext connects to a port of a host, which is a name or an IP address,
// under policy, by the same decisions as a machine's own connections. It is for
// what runs outside a machine on its behalf, such as an image build. A refusal
// is an *errand.Error of kind Forbidden. If record is not nil it is told once:
// of a failure before DialContext returns, else when the connection is closed.
func (g *Gate) DialContext(ctx context.Context, policy Policy, host string, port int, record func(errand.Connection)) (net.Conn, error) {
	r, err := g.compile(policy)
	if err != nil {
		return nil, err
	}
	if port < 1 || port > 65535 {
		return nil, errand.Errorf(errand.Invalid, "invalid_port", "%d is not a port; use 1 to 65535", port)
	}
	f := newFlow("tcp", netip.Addr{}, uint16(port), record)
	conn, err := g.reach(ctx, r, f, host)
	if err != nil {
		f.fail(err)
		f.end()
		var no refusal
		if errors.As(err, &no) {
			return nil, errand.Errorf(errand.Forbidden, "egress_refused", "%w", err)
		}
		return nil, err
	}
	return &recordedConn{Conn: conn, flow: f}, nil
}

// reach connects f to host, a name or an address that the client gave.
func (g *Gate) reach(ctx context.Context, r *rules, f *flow, host string) (net.Conn, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if no := r.judge("", addr, f.port); no != "" {
			f.address(addr)
			return nil, no
		}
		return g.connectAny(ctx, r, f, []netip.Addr{addr})
	}
	name := canonical(host)
	f.name(name)
	if no := r.judge(name, netip.Addr{}, f.port); no != "" {
		return nil, no
	}
	addrs, err := g.resolve.addresses(ctx, name)
	if err != nil {
		return nil, err
	}
	return g.connectAny(ctx, r, f, addrs)
}

// connectAny connects f to the first of addrs that answers. The error is that
// of the last attempt, or the refusal if no address may be tried.
func (g *Gate) connectAny(ctx context.Context, r *rules, f *flow, addrs []netip.Addr) (net.Conn, error) {
	var failed, refused error
	for _, addr := range addrs {
		conn, err := g.connect(ctx, r, f, addr)
		if err == nil {
			return conn, nil
		}
		var no refusal
		if errors.As(err, &no) {
			refused = err
			continue
		}
		failed = err
	}
	return nil, cmp.Or(failed, refused, errors.New("the name has no address that this host can reach"))
}

// connect is the only way to open a connection in this package: the address's
// class is judged here, on what is connected to.
func (g *Gate) connect(ctx context.Context, r *rules, f *flow, addr netip.Addr) (net.Conn, error) {
	addr = addr.Unmap()
	f.address(addr)
	if no := r.judgeClass(addr); no != "" {
		return nil, no
	}
	if no := r.judgeDenied(addr, f.port); no != "" {
		return nil, no
	}
	ctx, cancel := context.WithTimeout(ctx, g.dialTimeout)
	defer cancel()
	conn, err := g.dial(ctx, f.protocol, netip.AddrPortFrom(addr, f.port).String())
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return conn, nil
}

// recordedConn counts and records a connection made by DialContext.
type recordedConn struct {
	net.Conn
	flow  *flow
	ended func() // told once it is closed; may be nil
	once  sync.Once
}

func (c *recordedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.flow.received.Add(int64(n))
	return n, err
}

func (c *recordedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.flow.sent.Add(int64(n))
	return n, err
}

// CloseWrite tells the other side that nothing more comes.
func (c *recordedConn) CloseWrite() error { return closeWrite(c.Conn) }

func (c *recordedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.flow.end()
		if c.ended != nil {
			c.ended()
		}
	})
	return err
}

// hostPort gives host without the port that it may carry.
func hostPort(s string) (host string, port uint16) {
	h, p, err := net.SplitHostPort(s)
	if err != nil {
		return s, 0
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return s, 0
	}
	return h, uint16(n)
}
