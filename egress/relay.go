package egress

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// buffers are lent for as long as bytes move; a silent connection has none.
var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// stream is the machine's side of a TCP connection.
type stream struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
	wq *waiter.Queue
}

func newStream(wq *waiter.Queue, ep tcpip.Endpoint) *stream {
	return &stream{TCPConn: gonet.NewTCPConn(wq, ep), ep: ep, wq: wq}
}

// abort resets the connection; blocked calls return.
func (s *stream) abort() { s.ep.Abort() }

// await blocks until there is something to read, the end or a reset included.
func (s *stream) await() { awaitEndpoint(s.ep, s.wq) }

func awaitEndpoint(ep tcpip.Endpoint, wq *waiter.Queue) {
	const mask = waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr
	if ep.Readiness(mask) != 0 {
		return
	}
	entry, wake := waiter.NewChannelEntry(mask)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	for ep.Readiness(mask) == 0 {
		<-wake
	}
}

// relay carries bytes between a machine and what it reached. It is driven by
// one goroutine and has one of its own for the way down.
type relay struct {
	flow   *flow
	down   *stream  // the machine
	up     net.Conn // the world
	ended  chan struct{}
	err    error // of the way down, once ended is closed
	active atomic.Int64
}

// newRelay starts carrying bytes down to the machine.
func newRelay(f *flow, down *stream, up net.Conn) *relay {
	r := &relay{flow: f, down: down, up: up, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = r.carryDown()
		if !errors.Is(r.err, os.ErrDeadlineExceeded) { // else stop takes it back
			r.endDown(r.err)
		}
	}()
	return r
}

func (r *relay) carryDown() error {
	for {
		if err := awaitReadable(r.up); err != nil {
			return err
		}
		if err := r.pump(r.down, r.up, &r.flow.received, nil); err != nil {
			return err
		}
	}
}

// pump copies while there is no wait in sight: until a read gives less than was
// asked for. The error is io.EOF where the source has ended.
func (r *relay) pump(dst io.Writer, src io.Reader, count *atomic.Int64, heard func([]byte)) error {
	b := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(b)
	for {
		n, err := src.Read(b[:])
		if n > 0 {
			r.active.Store(time.Now().UnixNano())
			if heard != nil {
				heard(b[:n])
			}
			m, werr := dst.Write(b[:n])
			count.Add(int64(m))
			if werr != nil {
				return werr
			}
		}
		if err != nil || n < len(b) {
			return err
		}
	}
}

// carryUp carries first and then all that the machine sends.
func (r *relay) carryUp(first []byte, heard func([]byte)) error {
	if len(first) > 0 {
		n, err := r.up.Write(first)
		r.flow.sent.Add(int64(n))
		if err != nil {
			return err
		}
	}
	for {
		r.down.await()
		if err := r.pump(r.up, r.down, &r.flow.sent, heard); err != nil {
			return err
		}
	}
}

// run carries bytes both ways until both sides have ended, passing on an end as
// an end and a reset as a reset. idle bounds the silence of a connection that
// one side has ended.
func (r *relay) run(first []byte, idle time.Duration, heard func([]byte)) error {
	upErr := make(chan error, 1)
	go func() { upErr <- r.carryUp(first, heard) }()
	var err error
	var half *time.Timer
	defer func() {
		if half != nil {
			half.Stop()
		}
	}()
	up, down := upErr, r.ended
	for up != nil || down != nil {
		var one error
		select {
		case one = <-up:
			up = nil
			r.endUp(one)
		case <-down:
			one, down = r.err, nil
		}
		if half == nil {
			half = r.endWhenIdle(idle)
			// Only what ends a whole connection is a fault: a reset that follows
			// an end is how many programs hang up.
			if !errors.Is(one, io.EOF) {
				err = one
			}
		}
	}
	r.up.Close()
	r.down.Close()
	return err
}

// endUp passes the end of the machine's bytes on.
func (r *relay) endUp(err error) {
	if errors.Is(err, io.EOF) {
		closeWrite(r.up)
		return
	}
	r.reset()
}

// endDown passes the end of the world's bytes on.
func (r *relay) endDown(err error) {
	if errors.Is(err, io.EOF) {
		r.down.CloseWrite()
		return
	}
	r.reset()
}

// reset ends both sides at once.
func (r *relay) reset() {
	r.down.abort()
	reset(r.up)
}

// endWhenIdle resets the connection once no byte has moved for idle.
func (r *relay) endWhenIdle(idle time.Duration) *time.Timer {
	var t *time.Timer
	ready := make(chan struct{})
	t = time.AfterFunc(idle, func() {
		<-ready
		if since := time.Since(time.Unix(0, r.active.Load())); since < idle {
			t.Reset(idle - since)
			return
		}
		r.reset()
	})
	close(ready)
	return t
}

// stop takes the world's side back before anything went up to it. It is nil, and
// closed, if it has spoken or ended already.
func (r *relay) stop() net.Conn {
	r.up.SetReadDeadline(aLongTimeAgo)
	<-r.ended
	if r.flow.received.Load() > 0 || !errors.Is(r.err, os.ErrDeadlineExceeded) {
		r.up.Close()
		return nil
	}
	r.up.SetReadDeadline(time.Time{})
	return r.up
}

// reset closes conn so that its other side sees a reset, where that can be.
func reset(conn net.Conn) {
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		c.SetLinger(0)
	}
	conn.Close()
}

// closeWrite ends conn's way out, where that can be done alone.
func closeWrite(conn net.Conn) error {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
