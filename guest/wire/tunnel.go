package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Tunnel carries one TCP or Unix connection over a stream. A yamux stream alone
// cannot tell "the other side has said all" from "the line broke" or "the other
// side is gone", so each piece has a length in front of it and the two ends are
// marked: a tunnel that just stops reads as io.ErrUnexpectedEOF.
type Tunnel struct {
	net.Conn // the stream

	rmu  sync.Mutex
	head [4]byte // the length of the next piece, as far as it has come
	have int     // bytes of head
	left int     // bytes of the current piece that were not read yet
	rerr error   // what every later Read gives

	wmu  sync.Mutex
	wbuf []byte
	werr error // what every later Write gives

	gone   atomic.Bool // the other side wants nothing more from us
	closed atomic.Bool
}

// Marks in place of a length.
const (
	markEnd   = 0          // no more will be written
	markReset = 0xffffffff // the sender is gone altogether
	maxPiece  = 32 << 10
)

// errReset: the other side closed the connection.
var errReset = errors.New("connection reset by the other side of the tunnel")

// NewTunnel makes a tunnel of a stream, and owns it from then on.
func NewTunnel(stream net.Conn) *Tunnel { return &Tunnel{Conn: stream} }

// Read gives io.EOF only where the other side has called CloseWrite.
func (t *Tunnel) Read(p []byte) (int, error) {
	t.rmu.Lock()
	defer t.rmu.Unlock()
	for t.left == 0 && t.rerr == nil {
		if err := t.nextLocked(); err != nil {
			return 0, err
		}
	}
	if t.rerr != nil {
		return 0, t.rerr
	}
	n, err := t.Conn.Read(p[:min(len(p), t.left)])
	t.left -= n
	return n, t.failure(unexpected(err))
}

// nextLocked reads the length of the next piece. It returns only errors after
// which reading may go on (a deadline); others are kept in rerr.
func (t *Tunnel) nextLocked() error {
	for t.have < len(t.head) {
		n, err := t.Conn.Read(t.head[t.have:])
		t.have += n
		switch {
		case err == nil:
		case isTimeout(err):
			return t.failure(err)
		default:
			t.rerr = t.failure(unexpected(err))
			return nil
		}
	}
	t.have = 0
	switch n := binary.BigEndian.Uint32(t.head[:]); {
	case n == markEnd:
		t.rerr = io.EOF
	case n == markReset:
		t.gone.Store(true)
		t.rerr = errReset
	case n > maxPiece:
		t.rerr = ErrFrame
	default:
		t.left = int(n)
	}
	return nil
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// failure gives err, or net.ErrClosed where our own Close is the reason.
func (t *Tunnel) failure(err error) error {
	if err != nil && t.closed.Load() {
		return net.ErrClosed
	}
	return err
}

// Write sends p in pieces. A Write that failed in the middle, also by its
// deadline, is the last one.
func (t *Tunnel) Write(p []byte) (int, error) {
	t.wmu.Lock()
	defer t.wmu.Unlock()
	sent := 0
	for len(p) > 0 && t.werr == nil {
		n := min(len(p), maxPiece)
		t.wbuf = binary.BigEndian.AppendUint32(t.wbuf[:0], uint32(n))
		t.wbuf = append(t.wbuf, p[:n]...)
		if _, err := t.Conn.Write(t.wbuf); err != nil {
			t.werr = t.failure(err)
			break
		}
		sent += n
		p = p[n:]
	}
	return sent, t.werr
}

// CloseWrite tells the other side that no more will be written. Reading goes on.
func (t *Tunnel) CloseWrite() error {
	t.wmu.Lock()
	defer t.wmu.Unlock()
	if t.werr != nil {
		return nil
	}
	t.werr = net.ErrClosed
	return t.markLocked(markEnd)
}

// Close ends both directions. What the other side still sends is refused. It
// does not wait for the other side.
func (t *Tunnel) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	// A Write that waits for the other side to read must not hold us up.
	t.Conn.SetDeadline(time.Now())
	t.wmu.Lock()
	defer t.wmu.Unlock()
	t.werr = net.ErrClosed
	if !t.gone.Load() {
		t.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		t.markLocked(markReset)
	}
	return t.Conn.Close()
}

func (t *Tunnel) markLocked(mark uint32) error {
	_, err := t.Conn.Write(binary.BigEndian.AppendUint32(nil, mark))
	return err
}

// halfCloser is what TCP, Unix and Tunnel connections have in common.
type halfCloser interface{ CloseWrite() error }

// Bridge copies both ways between a and b until both directions have ended or
// one of them failed, then closes both. It blocks until then.
func Bridge(a, b net.Conn) {
	oneWay := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if h, ok := dst.(halfCloser); ok && err == nil {
			h.CloseWrite()
			return
		}
		a.Close()
		b.Close()
	}
	var wg sync.WaitGroup
	wg.Go(func() { oneWay(a, b) })
	wg.Go(func() { oneWay(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
}
