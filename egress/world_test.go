package egress_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/egress/egresstest"
)

// world is a machine and an internet of our own: names served by a real DNS
// server, and addresses of documentation ranges whose ports are real servers
// on loopback.
type world struct {
	*egresstest.Space
	t       *testing.T
	gate    *egress.Gate
	network *egress.Network
	ca      string // a file with the certificate that signs all of the world's

	mu      sync.Mutex
	zone    map[string][]string // name → addresses
	hosts   map[string]string   // "address:port" → a listener on loopback
	records []errand.Connection
	told    chan struct{} // has a value after each record
}

func newWorld(t *testing.T, policy egress.Policy, options egress.Options) *world {
	t.Helper()
	w := newOutside(t, options)
	w.Space = egresstest.New(t, 1500)
	w.attach(policy)
	t.Cleanup(func() { w.network.Close() })
	return w
}

// newOutside makes a world without a machine.
func newOutside(t *testing.T, options egress.Options) *world {
	w := &world{t: t, zone: map[string][]string{}, hosts: map[string]string{}, told: make(chan struct{}, 1)}
	server := w.serveNames()
	options.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server)
	}}
	options.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		w.mu.Lock()
		real, ok := w.hosts[address]
		w.mu.Unlock()
		if !ok {
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		return (&net.Dialer{}).DialContext(ctx, network, real)
	}
	w.gate = egress.New(options)
	return w
}

func (w *world) attach(policy egress.Policy) {
	w.t.Helper()
	n, err := w.gate.Attach(w.t.Context(), w.Open(w.t), policy, w.record)
	if err != nil {
		w.t.Fatal(err)
	}
	w.network = n
}

func (w *world) record(c errand.Connection) {
	w.mu.Lock()
	w.records = append(w.records, c)
	w.mu.Unlock()
	select {
	case w.told <- struct{}{}:
	default:
	}
}

// find waits for a record for which match is true.
func (w *world) find(match func(errand.Connection) bool) errand.Connection {
	w.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		w.mu.Lock()
		i := slices.IndexFunc(w.records, match)
		if i >= 0 {
			defer w.mu.Unlock()
			return w.records[i]
		}
		all := fmt.Sprintf("%+v", w.records)
		w.mu.Unlock()
		select {
		case <-w.told:
		case <-limit:
			w.t.Fatalf("no such record among %s", all)
		}
	}
}

func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = nil
}

// name sets the addresses of a name.
func (w *world) name(name string, addrs ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zone[name] = addrs
}

// host makes address ("198.51.100.1:80") a listener of serve.
func (w *world) host(address string, serve func(net.Conn)) {
	w.t.Helper()
	l := w.listen(address)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
}

func (w *world) listen(address string) net.Listener {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[address] = l.Addr().String()
	return l
}

// web makes address an HTTP server, over TLS for names if there are any. It
// answers with who it is, the Host it was asked for, and what it was sent.
func (w *world) web(address, who string, names ...string) {
	w.t.Helper()
	l := w.listen(address)
	if len(names) > 0 {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{w.certificate(names)}})
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Protocols: protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
			body, _ := io.ReadAll(q.Body)
			fmt.Fprintf(rw, "%s answers %s %s %s %q %s\n", who, q.Method, q.Host, q.RequestURI, body, q.Proto)
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	w.t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// certificate signs itself for names and adds itself to the world's CA file.
func (w *world) certificate(names []string) tls.Certificate {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ca = cmp.Or(w.ca, filepath.Join(w.t.TempDir(), "ca.pem"))
	f, err := os.OpenFile(w.ca, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	if err := pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveNames runs a DNS server for the zone and gives its address.
func (w *world) serveNames() string {
	w.t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		w.mu.Lock()
		addrs, ok := w.zone[name]
		w.mu.Unlock()
		if !ok {
			m.Rcode = dns.RcodeNameError
		}
		for _, a := range addrs {
			head := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET}
			addr := netip.MustParseAddr(a)
			switch {
			case addr.Is4() && q.Question[0].Qtype == dns.TypeA:
				head.Rrtype = dns.TypeA
				m.Answer = append(m.Answer, &dns.A{Hdr: head, A: addr.AsSlice()})
			case addr.Is6() && q.Question[0].Qtype == dns.TypeAAAA:
				head.Rrtype = dns.TypeAAAA
				m.Answer = append(m.Answer, &dns.AAAA{Hdr: head, AAAA: addr.AsSlice()})
			}
		}
		rw.WriteMsg(m)
	})}
	started, done := make(chan struct{}), make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() {
		defer close(done)
		server.ActivateAndServe()
	}()
	<-started
	w.t.Cleanup(func() {
		server.Shutdown()
		<-done
	})
	return conn.LocalAddr().String()
}

// curl runs curl inside and gives what it printed and its exit code.
func (w *world) curl(args ...string) (string, int) {
	w.t.Helper()
	if w.ca != "" {
		args = append([]string{"--cacert", w.ca}, args...)
	}
	cmd := w.Command(w.t.Context(), "curl", append([]string{"-sS", "-m", "20"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		w.t.Fatalf("running curl: %v", err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
