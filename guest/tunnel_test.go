package guest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest"
)

// upper answers each connection with what it read, in capitals, once the other
// side has said all.
func upper(conn net.Conn) {
	defer conn.Close()
	all, err := io.ReadAll(conn)
	if err != nil {
		return
	}
	io.WriteString(conn, strings.ToUpper(string(all)))
}

// ask writes text, ends its side, and gives the answer.
func ask(conn net.Conn, text string) (string, error) {
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return "", err
	}
	all, err := io.ReadAll(conn)
	return string(all), err
}

// serve accepts connections until the test ends.
func serve(t *testing.T, network, address string, each func(net.Conn)) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	must(t, err)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { each(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr()
}

func TestDialPort(t *testing.T) {
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	tcp := serve(t, "tcp", "127.0.0.1:0", upper).String()
	socket := filepath.Join(m.dir, "server.sock")
	serve(t, "unix", socket, upper)
	long := strings.Repeat("abc", 1<<20)
	for _, address := range []string{tcp, "unix:" + socket} {
		var all sync.WaitGroup
		for _, text := range []string{"", "hello", long} {
			all.Go(func() {
				conn, err := l.DialPort(ctx, address)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := ask(conn, text); err != nil || got != strings.ToUpper(text) {
					t.Errorf("%s: %d bytes of %d, %v", address, len(got), len(text), err)
				}
			})
		}
		all.Wait()
	}
	if _, err := l.DialPort(ctx, "127.0.0.1:1"); !errors.Is(err, guest.ErrRefused) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := l.DialPort(ctx, "unix:"+m.dir+"/none"); err == nil {
		t.Error("a socket that is not there answered")
	}
}

// TestTunnelEndsAreSeen: the far side's disappearance, and the line's, must not
// look like the end of what was to be said.
func TestTunnelEndsAreSeen(t *testing.T) {
	m := boot(t)
	var conns []net.Conn
	l := m.line(func(ctx context.Context) (net.Conn, error) {
		conn, err := m.dial(ctx)
		if err == nil {
			conns = append(conns, conn)
		}
		return conn, err
	}, guest.Options{})
	ctx := within(t, 30*time.Second)
	closed := make(chan error, 1)
	address := serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
		defer conn.Close()
		io.WriteString(conn, "part")
		_, err := io.Copy(io.Discard, conn)
		closed <- err
	}).String()

	conn, err := l.DialPort(ctx, address)
	must(t, err)
	buf := make([]byte, 4)
	_, err = io.ReadFull(conn, buf)
	must(t, err)
	conn.Close()
	<-closed // our Close reached the far side
	if _, err := conn.Read(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}

	conn, err = l.DialPort(ctx, address)
	must(t, err)
	defer conn.Close()
	_, err = io.ReadFull(conn, buf)
	must(t, err)
	conns[0].Close()
	if _, err := conn.Read(buf); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading after the line broke: %v", err)
	}
	<-closed
}

func TestTunnelDeadline(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	address := serve(t, "tcp", "127.0.0.1:0", upper).String()
	conn, err := l.DialPort(ctx, address)
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) && !isTimeout(err) {
		t.Errorf("got %v", err)
	}
	must(t, conn.SetReadDeadline(time.Time{}))
	if got, err := ask(conn, "still there"); err != nil || got != "STILL THERE" {
		t.Errorf("%q, %v", got, err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestListen(t *testing.T) {
	m := boot(t)
	var greeted atomic.Int64
	l := m.line(nil, guest.Options{Services: map[string]func(net.Conn){
		"upper": upper,
		"greet": func(c net.Conn) { greeted.Add(1); io.WriteString(c, "hi"); c.Close() },
	}})
	ctx := within(t, 30*time.Second)
	socket := filepath.Join(m.dir, "up.sock")
	for range 2 {
		must(t, l.Listen(ctx, "upper", "unix:"+socket))
	}
	text := strings.Repeat("hello", 100000)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			conn, err := net.Dial("unix", socket)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := ask(conn, text); err != nil || got != strings.ToUpper(text) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	all.Wait()

	must(t, l.Listen(ctx, "greet", "unix:"+socket))
	conn, err := net.Dial("unix", socket)
	must(t, err)
	if got, err := io.ReadAll(conn); err != nil || string(got) != "hi" || greeted.Load() != 1 {
		t.Errorf("%q, %v", got, err)
	}
	conn.Close()
	for range 2 {
		must(t, l.Unlisten(ctx, "unix:"+socket))
	}
	if _, err := net.Dial("unix", socket); err == nil {
		t.Error("it still listens")
	}
	if err := l.Listen(ctx, "upper", "256.0.0.1:0"); err == nil {
		t.Error("a bad address was taken")
	}
}

// TestListenWaits: a connection made while there is no server is served when
// there is one again, also by another line.
func TestListenWaits(t *testing.T) {
	m := boot(t)
	services := map[string]func(net.Conn){"upper": upper}
	first := m.line(nil, guest.Options{Services: services})
	ctx := within(t, 30*time.Second)
	socket := filepath.Join(m.dir, "up.sock")
	must(t, first.Listen(ctx, "upper", "unix:"+socket))
	must(t, first.Close())
	later := func(conn net.Conn) {
		io.WriteString(conn, "later: ")
		upper(conn)
	}
	other := m.line(nil, guest.Options{}) // a line without the service does not count
	answered := make(chan error, 1)
	conn, err := net.Dial("unix", socket)
	must(t, err)
	go func() {
		got, err := ask(conn, "waiting")
		if err == nil && got != "later: WAITING" { // by nobody before
			err = fmt.Errorf("got %q", got)
		}
		answered <- err
	}()
	if _, err := other.Processes(ctx); err != nil {
		t.Fatal(err)
	}
	m.line(nil, guest.Options{Services: map[string]func(net.Conn){"upper": later}})
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// TestServiceSpeaksHTTP: net/http sets and clears deadlines as it likes.
func TestServiceSpeaksHTTP(t *testing.T) {
	m := boot(t)
	ours := &queue{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if all, err := io.ReadAll(r.Body); err == nil {
			w.Write(all)
		}
	})}
	var served sync.WaitGroup
	served.Go(func() { server.Serve(ours) })
	defer served.Wait()
	defer server.Close()
	l := m.line(nil, guest.Options{Services: map[string]func(net.Conn){"http": ours.push}})
	ctx := within(t, 30*time.Second)
	socket := filepath.Join(m.dir, "http.sock")
	must(t, l.Listen(ctx, "http", "unix:"+socket))
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	for i := range 5 {
		text := strings.Repeat(fmt.Sprint(i), 100000*i)
		req, err := http.NewRequestWithContext(ctx, "POST", "http://guest/", strings.NewReader(text))
		must(t, err)
		resp, err := transport.RoundTrip(req)
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != text {
			t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
		}
	}
}

// queue is a net.Listener of connections that come from elsewhere.
type queue struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (q *queue) push(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed:
		c.Close()
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { q.once.Do(func() { close(q.closed) }); return nil }
func (q *queue) Addr() net.Addr { return &net.UnixAddr{Name: "queue"} }
