package egress_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/egress/egresstest"
	"github.com/errand-dev/errand/guest/guesttest"
)

// TestMain makes this program its own client where it is started for that, and
// looks for goroutines that nobody waited for.
func TestMain(m *testing.M) {
	if address := os.Getenv("EGRESS_TEST_PUMP"); address != "" {
		pump(address, os.Getenv("EGRESS_TEST_WAY"), os.Getenv("EGRESS_TEST_BYTES"))
		return
	}
	goleak.VerifyTestMain(m)
}

func TestOpenRecordsNames(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	w.name("plain.test", "198.51.100.1")
	w.name("sealed.test", "198.51.100.1")
	w.web("198.51.100.1:80", "plain")
	w.web("198.51.100.1:443", "sealed", "sealed.test")
	for _, test := range []struct {
		url, name string
		port      int
	}{
		{"http://plain.test/", "plain.test", 80},
		{"https://sealed.test/", "sealed.test", 443},
	} {
		out, code := w.curl(test.url)
		if code != 0 || !strings.Contains(out, "answers GET "+test.name) {
			t.Errorf("curl %s: exit %d, %q", test.url, code, out)
		}
		c := w.find(func(c errand.Connection) bool { return c.Port == test.port })
		if c.Name != test.name || c.Address != "198.51.100.1" || c.Protocol != "tcp" || c.Sent == 0 || c.Received == 0 || c.Refused != "" || c.Error != "" {
			t.Errorf("curl %s: record %+v", test.url, c)
		}
	}
	// The name that is asked for stands before the one that was resolved.
	if out, code := w.curl("--connect-to", "sealed.test:443:plain.test:443", "https://sealed.test/"); code != 0 {
		t.Errorf("curl: exit %d, %q", code, out)
	}
}

func TestRefusedAddresses(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	w.name("inside.test", "10.1.2.3")
	w.name("mixed.test", "10.1.2.3", "198.51.100.1")
	w.web("198.51.100.1:80", "outside")
	w.web("10.1.2.3:80", "inside")
	for _, test := range []struct {
		url  string
		code int // curl's: 6 could not resolve, 7 could not connect
		says string
	}{
		{"http://169.254.169.254/latest/meta-data/", 7, "metadata"},
		{"http://169.254.1.1/", 7, "link-local"},
		{"http://10.1.2.3/", 7, "a private address"},
		{"http://100.64.0.1/", 7, "carrier-shared"},
		{"http://10.201.0.1/", 7, "gateway"},
		{"http://inside.test/", 6, "a private address"},
		{"http://" + ownAddress(t) + "/", 7, "Errand's own host"},
	} {
		w.forget()
		begun := time.Now()
		if out, code := w.curl(test.url); code != test.code {
			t.Errorf("curl %s: exit %d, want %d: %q", test.url, code, test.code, out)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("curl %s: the refusal took %v", test.url, took)
		}
		c := w.find(func(c errand.Connection) bool { return c.Refused != "" })
		if !strings.Contains(c.Refused, test.says) {
			t.Errorf("curl %s: refused because %q, want %q", test.url, c.Refused, test.says)
		}
	}
	if out, code := w.curl("http://mixed.test/"); code != 0 || !strings.Contains(out, "outside answers") {
		t.Errorf("a name with one good address: exit %d, %q", code, out)
	}
}

func ownAddress(t *testing.T) string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && !ip.IsLoopback() {
			return ip.String()
		}
	}
	guesttest.Lacking(t, "this host has no address but loopback")
	return ""
}

// A name that moves between the machine's lookup and ours reaches nothing.
func TestRebind(t *testing.T) {
	for _, policy := range []egress.Policy{{}, {Mode: egress.Listed, Allow: []string{"*.test"}}} {
		t.Run(string(policy.Mode), func(t *testing.T) {
			w := newWorld(t, policy, egress.Options{})
			w.web("198.51.100.1:80", "outside")
			w.web("127.0.0.1:80", "inside")
			w.web("10.0.0.1:80", "inside")
			w.name("moves.test", "198.51.100.1")
			if out, code := w.curl("http://moves.test/"); code != 0 {
				t.Fatalf("exit %d, %q", code, out)
			}
			// What the machine resolved stays good for it; a new name that has
			// moved before it is asked for is refused at the lookup, and an
			// address behind it at the connect.
			w.name("moved.test", "10.0.0.1")
			if out, code := w.curl("http://moved.test/"); code != 6 {
				t.Errorf("exit %d, %q", code, out)
			}
			out, code := w.curl("-H", "Host: moved.test", "http://moves.test/")
			if strings.Contains(out, "inside") {
				t.Errorf("a Host that resolves to a private address reached it: %q", out)
			}
			if policy.Mode == egress.Listed && !strings.Contains(out, "10.0.0.1 is a private address") {
				t.Errorf("exit %d, %q", code, out)
			}
			if out, code := w.curl("--resolve", "moves.test:80:10.0.0.1", "http://moves.test/"); code != 7 {
				t.Errorf("exit %d, %q", code, out)
			}
		})
	}
}

func TestServerSpeaksFirst(t *testing.T) {
	for _, policy := range []egress.Policy{{}, {Mode: egress.Listed, Allow: []string{"git.test:22"}}, {Deny: []string{"bad.test"}}} {
		t.Run(fmt.Sprintf("%s%v", policy.Mode, policy.Deny), func(t *testing.T) {
			w := newWorld(t, policy, egress.Options{})
			w.name("git.test", "198.51.100.2")
			w.host("198.51.100.2:22", func(conn net.Conn) {
				io.WriteString(conn, "SSH-2.0-Banner\r\n")
				line, _ := bufio.NewReader(conn).ReadString('\n')
				io.WriteString(conn, "you said "+line)
			})
			w.lookup("git.test")
			conn := w.dial("198.51.100.2:22")
			defer conn.Close()
			r := bufio.NewReader(conn)
			if line, err := r.ReadString('\n'); line != "SSH-2.0-Banner\r\n" {
				t.Fatalf("banner %q, %v", line, err)
			}
			io.WriteString(conn, "SSH-2.0-Client\r\n")
			if line, err := r.ReadString('\n'); line != "you said SSH-2.0-Client\r\n" {
				t.Fatalf("answer %q, %v", line, err)
			}
			conn.Close()
			if c := w.find(func(c errand.Connection) bool { return c.Port == 22 }); c.Name != "git.test" || c.Refused != "" {
				t.Errorf("record %+v", c)
			}
		})
	}
}

// The end of one direction leaves the other open, in both directions.
func TestHalfClose(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	w.host("198.51.100.1:7", func(conn net.Conn) {
		b, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "%d bytes", len(b))
	})
	w.host("198.51.100.1:8", func(conn net.Conn) {
		io.WriteString(conn, "bye")
		conn.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(conn)
		w.record(errand.Connection{Name: "late", Sent: int64(len(b))})
	})
	conn := w.dial("198.51.100.1:7")
	defer conn.Close()
	conn.Write(make([]byte, 300_000))
	conn.CloseWrite()
	if b, err := io.ReadAll(conn); string(b) != "300000 bytes" {
		t.Errorf("after our end: %q, %v", b, err)
	}
	other := w.dial("198.51.100.1:8")
	defer other.Close()
	if b, err := io.ReadAll(other); string(b) != "bye" {
		t.Errorf("their end: %q, %v", b, err)
	}
	other.Write(make([]byte, 1000))
	other.Close()
	if c := w.find(func(c errand.Connection) bool { return c.Name == "late" }); c.Sent != 1000 {
		t.Errorf("%d bytes came after their end, want 1000", c.Sent)
	}
}

func TestResets(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	w.host("198.51.100.1:7", func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 1))
		conn.(*net.TCPConn).SetLinger(0)
	})
	w.host("198.51.100.1:8", func(conn net.Conn) {
		io.WriteString(conn, "go")
		_, err := io.ReadAll(conn)
		w.record(errand.Connection{Name: "seen", Error: fmt.Sprint(errors.Is(err, syscall.ECONNRESET))})
	})
	conn := w.dial("198.51.100.1:7")
	defer conn.Close()
	io.WriteString(conn, "x")
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset from outside: %v", err)
	}
	other := w.dial("198.51.100.1:8")
	io.ReadFull(other, make([]byte, 2))
	other.SetLinger(0)
	other.Close()
	if c := w.find(func(c errand.Connection) bool { return c.Name == "seen" }); c.Error != "true" {
		t.Error("a reset by the machine did not go on")
	}
	// Nobody listens: refused, and never open.
	if _, err := w.Dial(t.Context(), "tcp", "198.51.100.1:9"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connecting to a closed port: %v", err)
	}
	if c := w.find(func(c errand.Connection) bool { return c.Port == 9 }); !strings.Contains(c.Error, "connection refused") || c.Refused != "" {
		t.Errorf("record %+v", c)
	}
}

func TestManyConnections(t *testing.T) {
	const many = 1000
	w := newWorld(t, egress.Policy{}, egress.Options{MaxConnections: many})
	w.host("198.51.100.1:7", func(conn net.Conn) { io.Copy(conn, conn) })
	var wg sync.WaitGroup
	conns := make([]*net.TCPConn, many)
	for i := range conns {
		wg.Go(func() { conns[i] = w.dial("198.51.100.1:7") })
	}
	wg.Wait()
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	if _, err := w.Dial(t.Context(), "tcp", "198.51.100.1:7"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("one connection too many: %v", err)
	}
	if c := w.find(func(c errand.Connection) bool { return c.Refused != "" }); !strings.Contains(c.Refused, strconv.Itoa(many)) {
		t.Errorf("record %+v", c)
	}
	for i, c := range conns {
		wg.Go(func() {
			text := fmt.Sprintf("hello %d", i)
			io.WriteString(c, text)
			b := make([]byte, len(text))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
				t.Errorf("connection %d: %q, %v", i, b, err)
			}
		})
	}
	wg.Wait()
}

// A server that restarts takes the link up again; what was open is reset.
func TestAttachAgain(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	w.name("web.test", "198.51.100.1")
	w.web("198.51.100.1:80", "web")
	w.host("198.51.100.1:7", func(conn net.Conn) { io.Copy(conn, conn) })
	conn := w.dial("198.51.100.1:7")
	defer conn.Close()
	io.WriteString(conn, "x")
	io.ReadFull(conn, make([]byte, 1))
	if err := w.network.Close(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	told := len(w.records)
	w.mu.Unlock()
	if told != 1 {
		t.Errorf("%d records when Close returned, want 1", told)
	}
	if err := w.network.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	w.attach(egress.Policy{})
	if out, code := w.curl("http://web.test/"); code != 0 || !strings.Contains(out, "web answers") {
		t.Errorf("after a restart: exit %d, %q", code, out)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection of before the restart: %v", err)
	}
}

// A link without offloads works as well, only slower.
func TestPlainLink(t *testing.T) {
	w := newOutside(t, egress.Options{})
	w.Space = egresstest.New(t, 1500)
	n, err := w.gate.Attach(t.Context(), w.OpenPlain(t), egress.Policy{}, w.record)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	const size = 5 << 20
	w.host("198.51.100.1:7", func(conn net.Conn) { io.Copy(conn, io.LimitReader(conn, size)) })
	conn := w.dial("198.51.100.1:7")
	defer conn.Close()
	go conn.Write(make([]byte, size))
	if got, err := io.Copy(io.Discard, conn); got != size {
		t.Errorf("%d bytes came back of %d: %v", got, size, err)
	}
}

// The gateway answers a ping; the rest of the world cannot be pinged, and says so.
func TestPing(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	echo := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 1, Seq: 1, Data: []byte("ping")}}
	for to, want := range map[string]icmp.Type{"10.201.0.1": ipv4.ICMPTypeEchoReply, "198.51.100.1": ipv4.ICMPTypeDestinationUnreachable} {
		conn, err := w.Dial(t.Context(), "ip4:icmp", "10.201.0.1") // both answers come from there
		if err != nil {
			t.Fatal(err)
		}
		out, err := echo.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := w.Dial(t.Context(), "ip4:icmp", to)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		raw.Write(out)
		b := make([]byte, 1500)
		n, _, err := conn.(*net.IPConn).ReadFrom(b) // without the IP header
		if err != nil {
			t.Errorf("ping %s: %v", to, err)
		} else if m, err := icmp.ParseMessage(1, b[:n]); err != nil || m.Type != want {
			t.Errorf("ping %s: %+v, %v; want %v", to, m, err, want)
		}
		raw.Close()
		conn.Close()
	}
}

// A machine that is removed while it is attached does not hold Close up.
func TestMachineGoesAway(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	w.host("198.51.100.1:7", func(conn net.Conn) { io.Copy(conn, conn) })
	conn := w.dial("198.51.100.1:7")
	defer conn.Close()
	io.WriteString(conn, "x")
	io.ReadFull(conn, make([]byte, 1))
	if out, err := w.Command(t.Context(), "ip", "link", "delete", egresstest.Device).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	begun := time.Now()
	w.network.Close()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
	if c := w.find(func(c errand.Connection) bool { return c.Port == 7 }); c.Sent != 1 || c.Received != 1 {
		t.Errorf("record %+v", c)
	}
}

func TestSetPolicy(t *testing.T) {
	w := newWorld(t, egress.Policy{}, egress.Options{})
	w.web("198.51.100.1:80", "web")
	if out, code := w.curl("http://198.51.100.1/"); code != 0 {
		t.Fatalf("exit %d, %q", code, out)
	}
	if err := w.network.SetPolicy(egress.Policy{Mode: egress.Listed, Allow: []string{"192.0.2.0/24"}}); err != nil {
		t.Fatal(err)
	}
	if out, code := w.curl("http://198.51.100.1/"); code != 7 {
		t.Errorf("after the policy changed: exit %d, %q", code, out)
	}
	if err := w.network.SetPolicy(egress.Policy{Allow: []string{"not a host"}}); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a rule that cannot be read: %v", err)
	}
}

// dial connects from inside or fails the test.
func (w *world) dial(address string) *net.TCPConn {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	conn, err := w.Dial(ctx, "tcp", address)
	if err != nil {
		w.t.Error(err)
		return new(net.TCPConn)
	}
	return conn.(*net.TCPConn)
}
