package egress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strconv"
	"sync"
)

// plain serves one connection of a machine that speaks plain HTTP under lists:
// every request is parsed, its Host judged, and sent on to that host, so that
// neither keep-alive nor a trick of framing carries a request past the lists.
type plain struct {
	*connection
	ctx   context.Context // of the network: a request's own ends too early for a kept connection
	known []string        // names of the address that was asked for
	proxy *httputil.ReverseProxy

	mu    sync.Mutex
	early net.Conn               // to the address asked for, made before the first request
	made  map[*recordedConn]bool // not closed yet
	wg    sync.WaitGroup         // of requests
}

// guardHTTP serves requests until the machine or the world ends. Each of its
// connections upward has a record; this one's own is told only of refusals.
func (c *connection) guardHTTP(ctx context.Context, r *relay, first []byte) error {
	p := &plain{connection: c, ctx: ctx, known: c.network.names.of(c.addr)}
	if r != nil {
		p.early = r.stop()
	}
	c.flow.record = nil
	defer p.closeMade()
	one, two := p.transport(new(http.Protocols)), p.transport(new(http.Protocols))
	one.Protocols.SetHTTP1(true)
	two.Protocols.SetUnencryptedHTTP2(true)
	defer one.CloseIdleConnections()
	defer two.CloseIdleConnections()
	p.proxy = &httputil.ReverseProxy{
		Rewrite:       p.rewrite,
		FlushInterval: -1,
		Transport: roundTripper(func(q *http.Request) (*http.Response, error) {
			if q.ProtoMajor == 2 {
				return two.RoundTrip(q)
			}
			return one.RoundTrip(q)
		}),
		ErrorHandler: p.fail,
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	stop := context.AfterFunc(ctx, c.down.abort)
	defer stop()
	p.serve(first)
	return nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

// maxIdle is how many connections upward one of the machine may keep for later
// requests.
const maxIdle = 4

func (p *plain) transport(protocols *http.Protocols) *http.Transport {
	return &http.Transport{
		DialContext:        p.dial,
		DisableCompression: true,
		Protocols:          protocols,
		MaxIdleConns:       maxIdle,
		IdleConnTimeout:    5 * p.network.gate.idleTimeout,
	}
}

// serve runs net/http's server on the one connection and waits until it and all
// requests have ended.
func (p *plain) serve(first []byte) {
	conn := &lastConn{Conn: p.down, first: bytes.NewReader(first), closed: make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           p,
		Protocols:         protocols,
		ReadHeaderTimeout: p.network.gate.firstTimeout,
		IdleTimeout:       5 * p.network.gate.idleTimeout,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	_ = server.Serve(&lastListener{conn: conn})
	p.wg.Wait()
}

// ServeHTTP judges one request.
func (p *plain) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	p.wg.Add(1)
	defer p.wg.Done()
	name, no := p.judge(q)
	if no != "" {
		p.refuse(w, name, no)
		return
	}
	p.proxy.ServeHTTP(w, q)
}

// judge decides about one request and names the host that it asks for.
func (p *plain) judge(q *http.Request) (string, refusal) {
	host, _ := hostPort(q.Host)
	name, addr := canonical(host), p.addr
	if q.Method == http.MethodConnect {
		return name, "A proxy's CONNECT cannot be used under this environment's lists; connect to the host itself."
	}
	if name == "" {
		_, no := p.rules.judgeKnown(p.known, addr, p.port)
		return "", no
	}
	if a, err := netip.ParseAddr(name); err == nil {
		name, addr = "", a
	} else if !p.rules.allowsAddr(addr, p.port) {
		// Another address of the name may be connected to: this one says nothing.
		if no := p.rules.denied("", addr, p.port); no != "" {
			return name, no
		}
		return name, p.rules.judge(name, netip.Addr{}, p.port)
	}
	return name, p.rules.judge(name, addr, p.port)
}

// rewrite leaves a request as it came, but for where it goes.
func (p *plain) rewrite(q *httputil.ProxyRequest) {
	host, _ := hostPort(q.In.Host)
	if host == "" {
		host = p.addr.String()
	}
	q.Out.URL.Scheme = "http"
	q.Out.URL.Host = net.JoinHostPort(canonical(host), strconv.Itoa(int(p.port)))
	q.Out.URL.RawQuery = q.In.URL.RawQuery
	q.Out.Host = q.In.Host
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := q.In.Header[name]; ok {
			q.Out.Header[name] = slices.Clone(v)
		}
	}
}

// dial connects to a host that was judged: to the address that the machine
// asked for if that is the host's, else to one that is. The connection counts
// among those that the machine has open.
func (p *plain) dial(_ context.Context, _, address string) (net.Conn, error) {
	full, ok := p.network.enter()
	if !ok {
		return nil, errEnded
	}
	host, _ := hostPort(address)
	f := p.network.newFlow("tcp", p.addr, p.port)
	conn, err := net.Conn(nil), error(p.network.tooMany())
	if !full {
		conn, err = p.dialHost(f, host)
	}
	if err != nil {
		f.fail(err)
		f.end()
		p.network.finish()
		return nil, err
	}
	up := &recordedConn{Conn: conn, flow: f}
	up.ended = func() {
		p.mu.Lock()
		delete(p.made, up)
		p.mu.Unlock()
		p.network.finish()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = map[*recordedConn]bool{}
	}
	p.made[up] = true
	return up, nil
}

// closeMade closes what the transports may still be about to close, so that all
// records are told when the connection has ended.
func (p *plain) closeMade() {
	if up := p.takeEarly(); up != nil {
		up.Close()
	}
	p.mu.Lock()
	left := slices.Collect(maps.Keys(p.made))
	p.mu.Unlock()
	for _, up := range left {
		up.Close()
	}
}

func (p *plain) dialHost(f *flow, host string) (net.Conn, error) {
	addr, err := netip.ParseAddr(host)
	literal := err == nil
	if !literal {
		f.name(host)
	} else {
		f.name(firstOf(p.network.names.of(addr)))
	}
	if literal && addr == p.addr || !literal && p.holds(p.ctx, host) {
		if up := p.takeEarly(); up != nil {
			return up, nil
		}
		return p.network.gate.connect(p.ctx, p.rules, f, p.addr)
	}
	return p.network.gate.reach(p.ctx, p.rules, f, host)
}

func (p *plain) takeEarly() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	up := p.early
	p.early = nil
	return up
}

// refuse answers with the reason and records it.
func (p *plain) refuse(w http.ResponseWriter, name string, no refusal) {
	f := p.network.newFlow("tcp", p.addr, p.port)
	f.name(name)
	f.fail(no)
	f.end()
	w.Header().Set("Connection", "close")
	http.Error(w, string(no), http.StatusForbidden)
}

// fail answers a request whose host could not be reached; dial has recorded why.
func (p *plain) fail(w http.ResponseWriter, _ *http.Request, err error) {
	var no refusal
	if errors.As(err, &no) {
		http.Error(w, string(no), http.StatusForbidden)
		return
	}
	http.Error(w, "The host could not be reached: "+err.Error(), http.StatusBadGateway)
}

// lastConn gives back the bytes that were read ahead and tells when it closes.
type lastConn struct {
	net.Conn
	first  *bytes.Reader
	once   sync.Once
	closed chan struct{}
}

func (c *lastConn) Read(b []byte) (int, error) {
	if c.first.Len() > 0 {
		return c.first.Read(b)
	}
	return c.Conn.Read(b)
}

func (c *lastConn) CloseWrite() error { return closeWrite(c.Conn) }

func (c *lastConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.closed) })
	return err
}

// lastListener gives one connection, and ends when that has ended.
type lastListener struct {
	conn  *lastConn
	given bool
}

func (l *lastListener) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return l.conn, nil
	}
	<-l.conn.closed
	return nil, net.ErrClosed
}

func (l *lastListener) Close() error   { return nil }
func (l *lastListener) Addr() net.Addr { return l.conn.LocalAddr() }
