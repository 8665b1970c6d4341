package git

import (
	"net"
	"net/http"
	"sync"
)

// BrokerAddress is where git in a machine finds the broker.
const BrokerAddress = "127.0.0.1:7418"

// ServeConn serves a broker on one connection and returns when it is closed.
func ServeConn(broker http.Handler, c net.Conn) {
	l := &oneListener{conn: c, closed: make(chan struct{})}
	s := &http.Server{Handler: broker, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			l.Close()
		}
	}}
	_ = s.Serve(l) // ends with the listener, which is no fault
}

// oneListener accepts one connection and then waits for its end.
type oneListener struct {
	mu     sync.Mutex
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneListener) Addr() net.Addr { return &net.UnixAddr{Name: "line", Net: "unix"} }
