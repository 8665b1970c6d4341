package wire

import (
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
	return yamux.Client(&guard{Conn: conn}, c)
}

// Server makes the guest's end of a line over conn. It owns conn from then on.
func Server(conn net.Conn, logger *slog.Logger) (*yamux.Session, error) {
	return yamux.Server(conn, config(logger))
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
