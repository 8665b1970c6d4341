package wire

import (
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// guard ends a line whose guest sends more pings than a sound one does. yamux
// answers each ping in a goroutine of its own, which waits for up to
// ConnectionWriteTimeout while the guest takes nothing: without a bound a
// machine could fill the server's memory with them. What yamux takes in a stream
// is bounded by its window; how many streams there are, package guest bounds.
type guard struct {
	net.Conn

	head  [muxHeader]byte // the frame's header, as far as it has come
	have  int             // bytes of head
	body  uint32          // bytes of the frame that are still to come
	pings int             // since
	since time.Time
}

// yamux's frames: version, type, two bytes of flags, four of stream, four of
// length.
const (
	muxHeader = 12
	muxData   = 0
	muxPing   = 2
)

const (
	maxPings   = 50
	pingPeriod = 10 * time.Second
)

var errPings = errors.New("guest floods the line with pings")

// Read passes on what the guest sends, and looks at the headers in it.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if flood := g.scan(p[:n]); flood != nil {
		return 0, flood
	}
	return n, err
}

func (g *guard) scan(p []byte) error {
	for len(p) > 0 {
		if g.body > 0 {
			n := min(uint32(len(p)), g.body)
			g.body -= n
			p = p[n:]
			continue
		}
		n := copy(g.head[g.have:], p)
		g.have += n
		p = p[n:]
		if g.have < muxHeader {
			return nil
		}
		g.have = 0
		switch g.head[1] {
		case muxData:
			g.body = binary.BigEndian.Uint32(g.head[8:])
		case muxPing:
			if err := g.ping(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *guard) ping() error {
	if time.Since(g.since) > pingPeriod {
		g.pings, g.since = 0, time.Now()
	}
	if g.pings++; g.pings > maxPings {
		return errPings
	}
	return nil
}
