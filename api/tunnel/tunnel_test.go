package tunnel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"

	"github.com/errand-dev/errand/api/tunnel"
)

// pipe is a connection that is carried over a WebSocket: what is done to one end
// is seen at the other.
type pipe struct {
	near, far *net.TCPConn
	end       context.CancelFunc // of the far end's Join
	nearErr   chan error
	farErr    chan error
}

func newPipe(t *testing.T) *pipe {
	t.Helper()
	p := &pipe{nearErr: make(chan error, 1), farErr: make(chan error, 1)}
	var farInner, nearInner *net.TCPConn
	p.far, farInner = pair(t)
	p.near, nearInner = pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.end = cancel
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{tunnel.Protocol}})
		if err != nil {
			p.farErr <- err
			return
		}
		p.farErr <- tunnel.Join(ctx, ws, farInner)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(cancel)
	ws, _, err := websocket.Dial(t.Context(), s.URL, &websocket.DialOptions{Subprotocols: []string{tunnel.Protocol}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { p.nearErr <- tunnel.Join(t.Context(), ws, nearInner) }()
	return p
}

// pair gives the two ends of a TCP connection.
func pair(t *testing.T) (outer, inner *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// TestJoin sends more than fits anywhere both ways, and ends one after the other.
func TestJoin(t *testing.T) {
	p := newPipe(t)
	big := make([]byte, 5<<20)
	rand.Read(big)
	go func() {
		_, err := p.near.Write(big)
		if err = errors.Join(err, p.near.CloseWrite()); err != nil {
			t.Error(err)
		}
	}()
	if got, err := io.ReadAll(p.far); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d of %d bytes came, %v", len(got), len(big), err)
	}
	// The other direction goes on.
	if _, err := p.far.Write(big); err != nil {
		t.Error(err)
	}
	if err := p.far.CloseWrite(); err != nil {
		t.Error(err)
	}
	if got, err := io.ReadAll(p.near); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d of %d bytes came back, %v", len(got), len(big), err)
	}
	if err := errors.Join(<-p.nearErr, <-p.farErr); err != nil {
		t.Errorf("a clean end is %v", err)
	}
}

// TestCut: an end that is cut is cut at the other end too, and is no end of what
// was to be said.
func TestCut(t *testing.T) {
	for name, cut := range map[string]func(*pipe){
		"by the server":  func(p *pipe) { p.end() },
		"by the program": func(p *pipe) { p.far.SetLinger(0); p.far.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipe(t)
			if _, err := p.far.Write([]byte("half of a sen")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(p.near, make([]byte, 13)); err != nil {
				t.Fatal(err)
			}
			cut(p)
			if err := <-p.farErr; err == nil {
				t.Error("the far end knows of no cut")
			}
			if err := <-p.nearErr; err == nil {
				t.Error("the near end knows of no cut")
			}
			if n, err := p.near.Read(make([]byte, 1)); n > 0 || err == nil || errors.Is(err, io.EOF) {
				t.Errorf("a cut reads as %d bytes, %v", n, err)
			}
		})
	}
}
