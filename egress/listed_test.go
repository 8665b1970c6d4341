package egress_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
)

func TestListed(t *testing.T) {
	w := newWorld(t, egress.Policy{
		Mode:  egress.Listed,
		Allow: []string{"good.test", "*.wild.test", "port.test:8080", "192.0.2.0/28"},
		Deny:  []string{"evil.wild.test"},
	}, egress.Options{FirstTimeout: 300 * time.Millisecond})
	for name, addr := range map[string]string{
		"good.test": "198.51.100.1", "a.wild.test": "198.51.100.1", "evil.wild.test": "198.51.100.1",
		"wild.test": "198.51.100.1", "bad.test": "198.51.100.9", "port.test": "198.51.100.1", "other.wild.test": "198.51.100.2",
	} {
		w.name(name, addr)
	}
	w.web("198.51.100.1:80", "one")
	w.web("198.51.100.1:8080", "one")
	w.web("198.51.100.1:443", "one", "good.test", "a.wild.test", "evil.wild.test", "wild.test", "bad.test")
	w.web("198.51.100.2:80", "two")
	w.web("198.51.100.2:443", "two", "other.wild.test")
	w.web("198.51.100.9:80", "bad")
	w.web("198.51.100.9:443", "bad", "bad.test", "good.test")
	w.web("192.0.2.3:80", "three")
	const noName, noConnect, noTLS = 6, 7, 35
	for _, test := range []struct {
		args string
		code int
		says string // in what curl prints
		why  string // in a record's refusal
	}{
		{args: "http://good.test/", says: "one answers GET good.test"},
		{args: "https://good.test/", says: "one answers GET good.test"},
		{args: "https://a.wild.test/", says: "one answers GET a.wild.test"},
		{args: "http://192.0.2.3/", says: "three answers"},
		{args: "http://192.0.2.3/ -H Host:any.thing", says: "three answers GET any.thing"},
		{args: "http://port.test:8080/", says: "one answers GET port.test:8080"},
		{args: "http://port.test/", code: 0, says: "port.test:80 is not on", why: "port.test:80 is not on"},
		{args: "http://good.test/ -d some=body", says: `one answers POST good.test / "some=body"`},
		{args: "http://good.test/a%2Fb?x=1;y", says: "one answers GET good.test /a%2Fb?x=1;y"},
		// Names.
		{args: "http://bad.test/", code: noName, why: "bad.test is not on"},
		{args: "https://wild.test/", code: noName, why: "wild.test is not on"},
		{args: "https://evil.wild.test/", code: noName, why: `rule "evil.wild.test"`},
		// An allowed host's address, asked for something else.
		{args: "https://bad.test/ --resolve bad.test:443:198.51.100.1", code: noTLS, why: "bad.test:443 is not on"},
		{args: "https://evil.wild.test/ --resolve evil.wild.test:443:198.51.100.1", code: noTLS, why: "deny list"},
		{args: "http://good.test/ -H Host:bad.test", says: "bad.test:80 is not on", why: "bad.test:80 is not on"},
		{args: "http://good.test/ -H Host:198.51.100.9", says: "198.51.100.9:80 is not on", why: "198.51.100.9:80 is not on"},
		{args: "-x http://good.test:80 http://bad2.test/", says: "bad2.test:80 is not on", why: "bad2.test:80 is not on"},
		{args: "-p -x http://good.test:80 http://bad.test/", code: 56, says: "403", why: "CONNECT"},
		// An allowed name, asked for at another address: it leads to its own.
		{args: "https://good.test/ --resolve good.test:443:198.51.100.9", says: "one answers GET good.test"},
		{args: "http://good.test/ --resolve good.test:80:198.51.100.9", says: "one answers GET good.test"},
		{args: "http://good.test/ -H Host:other.wild.test", says: "two answers GET other.wild.test"},
		// Keep-alive: the second request of one connection.
		{args: "http://good.test/1 --next -sS -H Host:bad3.test http://good.test/2", says: "one answers GET good.test /1 \"\" HTTP/1.1\nbad3.test:80 is not on", why: "bad3.test:80 is not on"},
		{args: "--http2-prior-knowledge http://good.test/", says: "one answers GET good.test / \"\" HTTP/2.0"},
		{args: "--http2-prior-knowledge http://good.test/ -H Host:bad.test", says: "bad.test:80 is not on"},
		{args: "--http1.0 http://good.test/ -H Host:", says: "one answers GET"},
	} {
		w.forget()
		out, code := w.curl(strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(out, test.says) {
			t.Errorf("curl %s: exit %d, want %d: %q", test.args, code, test.code, out)
		}
		if test.why != "" {
			w.find(func(c errand.Connection) bool { return strings.Contains(c.Refused, test.why) })
		}
	}
}

// What shows no name is judged by what is known of the address, and nothing
// that could be HTTP or TLS gets through as something else.
func TestListedOpaque(t *testing.T) {
	w := newWorld(t, egress.Policy{Mode: egress.Listed, Allow: []string{"good.test"}}, egress.Options{FirstTimeout: 300 * time.Millisecond})
	w.name("good.test", "198.51.100.1")
	echo := func(conn net.Conn) { io.Copy(conn, conn) }
	w.host("198.51.100.1:9000", echo)
	w.host("198.51.100.5:9000", echo)
	w.lookup("good.test")
	for _, test := range []struct {
		address, send, want string
	}{
		{"198.51.100.1:9000", "\x00\x01binary", "\x00\x01binary"},
		{"198.51.100.1:9000", "PING\r\n", "PING\r\n"},
		{"198.51.100.1:9000", "EHLO me here\r\n", "EHLO me here\r\n"},
		{"198.51.100.1:9000", "GET / HTTP/1.1\r\nHost: bad.test\r\n\r\n", "HTTP/1.1 403 Forbidden"},
		{"198.51.100.1:9000", "\r\nGET / HTTP/1.1\r\nHost: bad.test\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"198.51.100.1:9000", "get / http/1.1\r\nHost: bad.test\r\n\r\n", "HTTP/1.1 400 Bad Request"},
		{"198.51.100.1:9000", "GET", ""},
		{"198.51.100.1:9000", "\x16\x03\x01", ""},
		{"198.51.100.1:9000", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", ""},
		{"198.51.100.5:9000", "PING\r\n", ""},
		{"198.51.100.5:9000", "", ""},
	} {
		conn := w.dial(test.address)
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, test.send)
		b := make([]byte, len(test.want))
		_, err := io.ReadFull(conn, b)
		if test.want == "" {
			_, err = io.ReadFull(conn, make([]byte, 1))
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%q to %s: %v, want a reset", test.send, test.address, err)
			}
		} else if err != nil || string(b) != test.want {
			t.Errorf("%q to %s: %q, %v", test.send, test.address, b, err)
		}
		conn.Close()
	}
	// Where no name could make the port allowed, nothing seems open at all.
	if err := w.network.SetPolicy(egress.Policy{Mode: egress.Listed, Allow: []string{"good.test:443", "192.0.2.1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Dial(t.Context(), "tcp", "198.51.100.5:9000"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("an unlisted port: %v", err)
	}
}

// What one kept connection makes upward counts, and is not kept for long.
func TestListedKept(t *testing.T) {
	const hosts = 12
	w := newWorld(t, egress.Policy{Mode: egress.Listed, Allow: []string{"*.test"}}, egress.Options{MaxConnections: 16})
	for i := range hosts {
		name, addr := fmt.Sprintf("h%d.test", i), fmt.Sprintf("198.51.100.%d", i+1)
		w.name(name, addr)
		w.web(addr+":80", name)
	}
	w.lookup("h0.test")
	conn := w.dial("198.51.100.1:80")
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	ask := func(host int) string {
		t.Helper()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: h%d.test\r\n\r\n", host)
		q, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Body.Close()
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for i := range hosts {
		if got, want := ask(i), fmt.Sprintf("h%d.test answers", i); !strings.HasPrefix(got, want) {
			t.Errorf("host %d: %q", i, got)
		}
	}
	// The machine's connection is open still: these have ended before it.
	for i := range hosts - 6 {
		w.find(func(c errand.Connection) bool { return c.Name == fmt.Sprintf("h%d.test", i) })
	}
	others := 0
	for ; others < 16; others++ {
		c, err := w.Dial(t.Context(), "tcp", "198.51.100.2:80")
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if others > 11 {
		t.Errorf("%d connections could be opened besides one and the four that it keeps, of 16", others)
	}
	if got := ask(0); !strings.Contains(got, "16 connections open") {
		t.Errorf("one more host, with all connections open: %q", got)
	}
}

// A connection that changes protocols keeps going, both ways.
func TestListedUpgrade(t *testing.T) {
	w := newWorld(t, egress.Policy{Mode: egress.Listed, Allow: []string{"good.test"}}, egress.Options{})
	w.name("good.test", "198.51.100.1")
	w.host("198.51.100.1:80", func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for line := "x"; line != "\r\n"; line, _ = r.ReadString('\n') {
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, r)
	})
	w.lookup("good.test")
	conn := w.dial("198.51.100.1:80")
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	for line := "x"; line != "\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t, egress.Policy{Mode: egress.Listed, Allow: []string{"good.test", "inner.test"}}, egress.Options{})
	w.name("good.test", "198.51.100.1", "2001:db8::1")
	w.name("inner.test", "10.0.0.1")
	for _, network := range []string{"udp", "tcp"} {
		for _, server := range []string{"10.201.0.1:53", "192.0.2.53:53"} { // any name server is ours
			for _, test := range []struct {
				name  string
				kind  uint16
				rcode int
				want  string
			}{
				{"good.test", dns.TypeA, dns.RcodeSuccess, "198.51.100.1"},
				{"GOOD.test", dns.TypeA, dns.RcodeSuccess, "198.51.100.1"},
				{"good.test", dns.TypeAAAA, dns.RcodeSuccess, ""}, // the machine has no IPv6
				{"bad.test", dns.TypeA, dns.RcodeNameError, "bad.test is not on"},
				{"inner.test", dns.TypeA, dns.RcodeNameError, "10.0.0.1 is a private address"},
				{"localhost", dns.TypeA, dns.RcodeSuccess, "127.0.0.1"},
				{"database", dns.TypeA, dns.RcodeNameError, ""},
				{"1.100.51.198.in-addr.arpa", dns.TypePTR, dns.RcodeSuccess, "good.test."},
				{"2.100.51.198.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, ""},
			} {
				m := w.query(network, server, test.name, test.kind)
				if got := m.String(); m.Rcode != test.rcode || !strings.Contains(got, test.want) || test.want == "" && len(m.Answer) > 0 {
					t.Errorf("%s over %s from %s: %s", test.name, network, server, got)
				}
			}
		}
	}
	w.find(func(c errand.Connection) bool {
		return c.Name == "bad.test" && c.Port == 53 && c.Protocol == "udp" && c.Address == "10.201.0.1" && c.Refused != ""
	})
}

// lookup makes the machine resolve a name.
func (w *world) lookup(name string) {
	w.t.Helper()
	if m := w.query("udp", "10.201.0.1:53", name, dns.TypeA); len(m.Answer) == 0 {
		w.t.Fatalf("resolving %s: %s", name, m)
	}
}

func (w *world) query(network, server, name string, kind uint16) *dns.Msg {
	w.t.Helper()
	conn, err := w.Dial(w.t.Context(), network, server)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(1232, false)
	m, _, err := new(dns.Client).ExchangeWithConn(q, &dns.Conn{Conn: conn})
	if err != nil {
		w.t.Fatalf("asking %s for %s: %v", server, name, err)
	}
	return m
}

func TestDatagrams(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{IdleTimeout: 200 * time.Millisecond})
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			l.WriteTo(b[:n], from)
		}
	}()
	w.mu.Lock()
	w.hosts["198.51.100.1:123"], w.hosts["198.51.100.1:443"] = l.LocalAddr().String(), l.LocalAddr().String()
	w.mu.Unlock()
	send := func(address string, size int) error {
		conn, err := w.Dial(t.Context(), "udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		for range 2 {
			if _, err := conn.Write(make([]byte, size)); err != nil {
				return err
			}
			n, err := conn.Read(make([]byte, size+1))
			if err != nil {
				return err
			}
			if n != size {
				return fmt.Errorf("%d bytes came back of %d", n, size)
			}
		}
		return nil
	}
	for _, size := range []int{1, 1400, 9000} { // the last one in fragments
		if err := send("198.51.100.1:123", size); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if c := w.find(func(c errand.Connection) bool { return c.Sent == 2*1400 }); c.Protocol != "udp" || c.Received != 2*1400 || c.Port != 123 {
		t.Errorf("record %+v", c)
	}
	if err := send("10.0.0.1:123", 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("to a private address: %v", err)
	}
	if err := w.network.SetPolicy(egress.Policy{Mode: egress.Listed, Allow: []string{"198.51.100.1:123", "*.test"}}); err != nil {
		t.Fatal(err)
	}
	w.name("quic.test", "198.51.100.1")
	w.lookup("quic.test")
	if err := send("198.51.100.1:123", 1); err != nil {
		t.Errorf("to a listed address: %v", err)
	}
	if err := send("198.51.100.1:443", 1); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("QUIC under lists: %v", err)
	}
	w.find(func(c errand.Connection) bool { return strings.Contains(c.Refused, "QUIC") })
}

func TestDialContext(t *testing.T) {
	w := newOutside(t, egress.Options{})
	w.name("good.test", "198.51.100.1")
	w.name("inner.test", "10.0.0.1")
	w.host("198.51.100.1:80", func(conn net.Conn) { io.Copy(conn, conn) })
	listed := egress.Policy{Mode: egress.Listed, Allow: []string{"good.test", "inner.test"}}
	conn, err := w.gate.DialContext(t.Context(), listed, "good.test", 80, w.record)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "hello")
	io.ReadFull(conn, make([]byte, 5))
	conn.Close()
	conn.Close()
	if c := w.find(func(c errand.Connection) bool { return c.Name == "good.test" }); c.Address != "198.51.100.1" || c.Sent != 5 || c.Received != 5 {
		t.Errorf("record %+v", c)
	}
	for _, host := range []string{"bad.test", "inner.test", "127.0.0.1", "198.51.100.1"} {
		_, err := w.gate.DialContext(t.Context(), listed, host, 80, w.record)
		if errand.KindOf(err) != errand.Forbidden {
			t.Errorf("%s: %v", host, err)
		}
	}
	if len(w.records) != 5 {
		t.Errorf("%d records, want 5", len(w.records))
	}
	private := egress.Policy{Private: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	if _, err := w.gate.DialContext(t.Context(), private, "inner.test", 80, nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a private address that is let through: %v", err)
	}
}
