package egress

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
)

func TestGuard(t *testing.T) {
	open := guard{host: &hostAddrs{addrs: []netip.Addr{netip.MustParseAddr("192.0.2.77")}, read: time.Now().Add(time.Hour)}}
	wide := open
	wide.private = prefixes("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "0.0.0.0/0")
	exact := open
	exact.private = prefixes("169.254.169.254/32", "192.0.2.77/32")
	for _, test := range []struct {
		addr              string
		open, wide, exact bool // let through
	}{
		{"93.184.215.14", true, true, true},
		{"203.0.113.80", true, true, true}, // documentation ranges are not private
		{"198.51.100.1", true, true, true},
		{"192.0.2.1", true, true, true},
		{"2001:db8::1", true, true, true},
		{"2606:4700::1", true, true, true},
		{"192.0.2.77", false, true, true}, // our own host's
		{"127.0.0.1", false, true, false},
		{"127.9.9.9", false, true, false},
		{"::1", false, false, false},
		{"10.0.0.1", false, true, false},
		{"172.31.255.255", false, true, false},
		{"172.32.0.0", true, true, true},
		{"192.168.1.1", false, true, false},
		{"100.64.0.1", false, true, false},
		{"169.254.1.1", false, true, false},
		{"169.254.169.254", false, false, true},
		{"168.63.129.16", false, false, false},
		{"fd00:ec2::254", false, false, false},
		{"fd12::1", false, true, false},
		{"fe80::1", false, false, false},
		{"0.0.0.0", false, false, false},
		{"0.1.2.3", false, false, false},
		{"::", false, false, false},
		{"224.0.0.1", false, false, false},
		{"255.255.255.255", false, false, false},
		{"ff02::1", false, false, false},
		{"198.18.0.1", false, true, false},
		{"240.0.0.1", false, true, false},
		{"::ffff:10.0.0.1", false, true, false},      // IPv4 in IPv6
		{"::ffff:203.0.113.80", true, true, true},    //
		{"::10.0.0.1", false, false, false},          // IPv4-compatible
		{"64:ff9b::10.0.0.1", false, true, false},    // NAT64
		{"64:ff9b::93.184.215.14", true, true, true}, //
		{"64:ff9b::169.254.169.254", false, false, true},
		{"64:ff9b:1::1", false, false, false}, // NAT64, local use
		{"2002:a00:1::1", false, true, false}, // 6to4 of 10.0.0.1
		{"2002:a9fe:a9fe::", false, false, true},
		{"2001:0:1::1", false, false, false}, // Teredo
		{"fe80::1%eth0", false, false, false},
	} {
		addr := netip.MustParseAddr(test.addr)
		for _, g := range []struct {
			name string
			guard
			want bool
		}{{"open", open, test.open}, {"wide", wide, test.wide}, {"exact", exact, test.exact}} {
			if why := g.judge(addr); (why == "") != g.want {
				t.Errorf("%s, %s: %q", test.addr, g.name, why)
			}
		}
	}
}

func TestRules(t *testing.T) {
	for _, test := range []struct {
		rule, name, addr string
		port             uint16
		want             bool
	}{
		{"example.com", "example.com", "", 443, true},
		{"EXAMPLE.com.", "example.com", "", 443, true},
		{"example.com", "www.example.com", "", 443, false},
		{"example.com", "notexample.com", "", 443, false},
		{"*.example.com", "www.example.com", "", 443, true},
		{"*.example.com", "a.b.example.com", "", 443, true},
		{"*.example.com", "example.com", "", 443, false},
		{"*.example.com", "badexample.com", "", 443, false},
		{"example.com:443", "example.com", "", 443, true},
		{"example.com:443", "example.com", "", 80, false},
		{"bücher.example", "xn--bcher-kva.example", "", 443, true},
		{"*", "anything.test", "", 1, true},
		{"*", "", "198.51.100.1", 1, true},
		{"*:443", "", "198.51.100.1", 80, false},
		{"198.51.100.1", "", "198.51.100.1", 80, true},
		{"198.51.100.1:80", "", "198.51.100.1", 81, false},
		{"198.51.100.0/24", "", "198.51.100.200", 80, true},
		{"198.51.100.7/24:80", "", "198.51.100.200", 80, true},
		{"198.51.100.0/24", "", "198.51.101.1", 80, false},
		{"198.51.100.0/24", "198.51.100.1", "", 80, false}, // a name that looks like one
		{"2001:db8::1", "", "2001:db8::1", 80, true},
		{"[2001:db8::1]:80", "", "2001:db8::1", 80, true},
		{"[2001:db8::1]:80", "", "2001:db8::1", 81, false},
		{"[2001:db8::/32]", "", "2001:db8::1", 81, true},
		{"example.com", "", "198.51.100.1", 80, false},
	} {
		var addr netip.Addr
		if test.addr != "" {
			addr = netip.MustParseAddr(test.addr)
		}
		for _, policy := range []Policy{{Mode: Listed, Allow: []string{test.rule}}, {Deny: []string{test.rule}}} {
			r, err := compile(policy)
			if err != nil {
				t.Errorf("%s: %v", test.rule, err)
				continue
			}
			if got := (r.judge(test.name, addr, test.port) == "") == (policy.Mode == Listed); got != test.want {
				t.Errorf("rule %s, name %q, address %q, port %d, mode %q: %v", test.rule, test.name, test.addr, test.port, policy.Mode, got)
			}
		}
	}
	for _, bad := range []string{"", "a b", "http://example.com", "example.com:0", "example.com:x", "example.com:99999", "*.", "a.*.com", "[::1", "[::1]80", "10.0.0.0/99", "ex_ample..com"} {
		if err := (Policy{Deny: []string{bad}}).Check(); errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), "the egress rule") {
			t.Errorf("rule %q: %v", bad, err)
		}
	}
	if err := (Policy{Mode: "closed"}).Check(); errand.KindOf(err) != errand.Invalid {
		t.Errorf("an unknown mode: %v", err)
	}
}

func TestClassify(t *testing.T) {
	sealed := clientHello(t, "name.test")
	for _, test := range []struct {
		first string
		want  speech
	}{
		{"", undecided}, {"\r\n", undecided}, {"G", undecided}, {"GET ", undecided}, {"GET / HTTP/1.1", undecided},
		{"GET / HTTP/1.1\r\n", request}, {"\r\n\r\nGET / HTTP/1.1\n", request}, {"get / http/1.1\r\n", request},
		{"GET\t/\tHTTP/1.0\r\n", request}, {"PRI * HTTP/2.0\r\n", request}, {"A b c d HTTP/1.1\r\n", request},
		{"GET /\r\n", opaque}, {"SSH-2.0-x\r\n", opaque}, {"EHLO me\r\n", opaque}, {"\x00\x00\x00\x08", opaque},
		{strings.Repeat("a", 40), opaque}, {" GET / HTTP/1.1\r\n", opaque},
		{"\x16", undecided}, {"\x16\x03", undecided}, {"\x16\x02", opaque}, {"\x16\x03\x01\x00\x00", garbled},
		{"\x16\x03\x01\xff\xff", garbled}, {"\x16\x03\x01\x00\x01\x02", garbled}, {"\x16\x03\x01\x00\x04\x01\xff\xff\xff", garbled},
		{string(sealed), hello}, {string(sealed[:len(sealed)-1]), undecided}, {string(inRecords(sealed, 7)), hello},
		{string(inRecords(sealed, 1)[:100]), undecided},
	} {
		if got := classify([]byte(test.first)); got != test.want {
			t.Errorf("%.40q: %v, want %v", test.first, got, test.want)
		}
	}
	for _, b := range [][]byte{sealed, inRecords(sealed, 7)} {
		if name, ok := helloName(b); name != "name.test" || !ok {
			t.Errorf("the name in a hello: %q, %v", name, ok)
		}
	}
	if name, ok := helloName(clientHello(t, "")); name != "" || !ok {
		t.Errorf("a hello without a name: %q, %v", name, ok)
	}
}

// What goes by unhindered is heard however it is cut.
func TestEar(t *testing.T) {
	plain := []byte("POST /x HTTP/1.1\r\nHost: Name.test:80\r\nA: b\r\n\r\nbody")
	for _, whole := range [][]byte{clientHello(t, "name.test"), plain} {
		for _, size := range []int{1, 10, len(whole)} {
			var e ear
			got := ""
			for rest := whole; len(rest) > 0; rest = rest[min(size, len(rest)):] {
				got += e.hear(rest[:min(size, len(rest))])
			}
			if got != "name.test" {
				t.Errorf("in pieces of %d: %q", size, got)
			}
			if e.kept != nil && e.done {
				t.Error("bytes are kept for nothing")
			}
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if classify(b) == hello {
			helloName(b)
		}
		var e ear
		e.hear(b)
		e.hear(b)
	})
}

// clientHello gives what crypto/tls sends first.
func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer near.Close()
		tls.Client(near, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	}()
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(far, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(far, body); err != nil {
		t.Fatal(err)
	}
	far.Close()
	<-done
	return append(head, body...)
}

// inRecords cuts a one-record message into records of size bytes.
func inRecords(record []byte, size int) []byte {
	var out bytes.Buffer
	for rest := record[recordHeader:]; len(rest) > 0; {
		n := min(size, len(rest))
		out.Write([]byte{recordHandshake, 3, 1, 0, byte(n)})
		out.Write(rest[:n])
		rest = rest[n:]
	}
	return out.Bytes()
}

func TestNamesAreBounded(t *testing.T) {
	var n names
	for i := range maxAddrs + 100 {
		n.learn("a.test", []netip.Addr{netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})})
	}
	if len(n.byAddr) > maxAddrs {
		t.Errorf("%d addresses are remembered", len(n.byAddr))
	}
	addr := netip.MustParseAddr("203.0.113.1")
	for i := range maxNamesAnAddr + 5 {
		n.learn(string(rune('a'+i))+".test", []netip.Addr{addr})
	}
	n.learn("f.test", []netip.Addr{addr})
	got := n.of(addr)
	if len(got) != maxNamesAnAddr || got[0] != "f.test" {
		t.Errorf("names of an address: %v", got)
	}
}
