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

// relay carries bytes between a machine and what it reached, passing on an end
// as an end and a reset as a reset. One goroutine carries up, one of its own
// down.
type relay struct {
	flow   *flow
	down   *stream       // the machine
	up     net.Conn      // the world
	idle   time.Duration // bounds the silence of a connection that one side has ended
	active atomic.Int64  // when bytes moved last, Unix time in nanoseconds
	ended  chan struct{} // closed when the way down has ended
	err    error         // what ended the way down, once ended is closed

	once  sync.Once   // for the first of both ways to end
	fault error       // what broke the connection, if that was no end
	half  *time.Timer // resets a connection that is half ended and silent
}

// newRelay starts carrying bytes down to the machine. Either run or stop must
// follow.
func newRelay(f *flow, down *stream, up net.Conn, idle time.Duration) *relay {
	r := &relay{flow: f, down: down, up: up, idle: idle, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = r.carryDown()
		if !errors.Is(r.err, os.ErrDeadlineExceeded) { // else stop takes it back
			r.end(r.err, func() { r.down.CloseWrite() })
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

// run carries first and what follows up, until both ways have ended. The error
// is what broke the connection.
func (r *relay) run(first []byte, heard func([]byte)) error {
	r.end(r.carryUp(first, heard), func() { closeWrite(r.up) })
	<-r.ended
	r.half.Stop()
	r.up.Close()
	r.down.Close()
	return r.fault
}

// end passes the end of one way on, by pass if it was orderly. Only what ends a
// whole connection is a fault: a reset that follows an end is how many programs
// hang up.
func (r *relay) end(err error, pass func()) {
	orderly := errors.Is(err, io.EOF)
	r.once.Do(func() {
		if !orderly {
			r.fault = err
		}
		r.half = r.endWhenIdle()
	})
	if orderly {
		pass()
		return
	}
	r.reset()
}

// reset ends both sides at once.
func (r *relay) reset() {
	r.down.abort()
	reset(r.up)
}

// endWhenIdle resets the connection once no byte has moved for the idle time.
func (r *relay) endWhenIdle() *time.Timer {
	idle := r.idle
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

// stopLimit bounds the last write to the machine when stop is called.
const stopLimit = 5 * time.Second

// stop takes the world's side back before anything went up to it. It is nil, and
// closed, if it has spoken or ended already.
func (r *relay) stop() net.Conn {
	r.up.SetReadDeadline(aLongTimeAgo)
	// Nor may a machine that does not read hold us up.
	r.down.SetWriteDeadline(time.Now().Add(stopLimit))
	<-r.ended
	r.down.SetWriteDeadline(time.Time{})
	if r.flow.received.Load() > 0 || !errors.Is(r.err, os.ErrDeadlineExceeded) {
		if r.half != nil {
			r.half.Stop()
		}
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
