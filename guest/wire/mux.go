package wire

import (
	"encoding/binary"
	"log"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/yamux"
)

// Client makes the server's end of a line over conn. It owns conn from then on.
//
// A stream that this end has closed stays until the guest has closed it too: who
// opens or accepts streams must bound how many there are (Session.NumStreams).
func Client(conn net.Conn, logger *slog.Logger) (*yamux.Session, error) {
	c := config(logger)
	// yamux's timer would hold the stream, and what the guest has sent in it,
	// also when the session has long ended.
	c.StreamCloseTimeout = 0
	return yamux.Client(&whole{Conn: &guard{Conn: conn}, raw: conn}, c)
}

// Server makes the guest's end of a line over conn. It owns conn from then on.
func Server(conn net.Conn, logger *slog.Logger) (*yamux.Session, error) {
	return yamux.Server(&whole{Conn: conn, raw: conn}, config(logger))
}

// whole writes the header of a frame together with what follows it. yamux writes
// one after the other, and the other end would be woken for each.
type whole struct {
	net.Conn
	raw  net.Conn // the same, where both can be written in one call
	head []byte   // a header whose body comes with the next Write
}

func (w *whole) Write(p []byte) (int, error) {
	if len(w.head) == 0 {
		if len(p) == muxHeader && p[1] == muxData && binary.BigEndian.Uint32(p[8:]) > 0 {
			w.head = append(w.head, p...)
			return len(p), nil
		}
		return w.Conn.Write(p)
	}
	both := net.Buffers{w.head, p}
	n, err := both.WriteTo(w.raw)
	n -= int64(len(w.head))
	w.head = w.head[:0]
	return int(max(n, 0)), err
}

func config(logger *slog.Logger) *yamux.Config {
	c := yamux.DefaultConfig()
	// A line that is dead without saying so is noticed after this long.
	c.KeepAliveInterval = 20 * time.Second
	c.ConnectionWriteTimeout = 20 * time.Second
	c.LogOutput = nil
	c.Logger = quiet(logger)
	return c
}

// quiet passes yamux's own complaints on as debug lines: a broken line is
// nothing unusual, and what matters comes back as an error.
func quiet(logger *slog.Logger) *log.Logger {
	return slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
}
