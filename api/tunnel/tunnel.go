// Package tunnel carries one TCP connection over one WebSocket: what `errand port`
// and the server say to each other once a connection stands.
//
// A binary message is data, of any length up to MaxMessage. The text message "eof"
// says that its sender will send no more, which a WebSocket by itself cannot say;
// the other direction goes on. Other texts are left alone, for later versions.
// Both ends are the same, and look now and then whether the other is still there.
//
// The package knows neither which connection it is nor who may have it.
package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Protocol is the WebSocket's subprotocol.
const Protocol = "errand.port.v1"

// MaxMessage bounds one message, in bytes.
const MaxMessage = 64 << 10

// How often the other end is asked whether it is there, and how long it has to
// answer.
const (
	pingEvery = 20 * time.Second
	pingLimit = 10 * time.Second
)

const eof = "eof"

// ErrBroken: the WebSocket ended before its data did.
var ErrBroken = errors.New("the connection was cut")

// Join copies both ways between ws and conn until both directions have ended, one
// failed, or ctx ends, and closes both. It blocks until then. The error says why a
// direction was cut; nil is a clean end.
func Join(ctx context.Context, ws *websocket.Conn, conn net.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer ws.CloseNow()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { reset(conn) })
	defer stop()
	ws.SetReadLimit(MaxMessage)
	j := &join{ws: ws, conn: conn}
	var ways, watch sync.WaitGroup
	way := func(carry func(context.Context) error) func() {
		return func() {
			if err := carry(ctx); err != nil {
				cancel(err)
			}
		}
	}
	ways.Go(way(j.in))
	ways.Go(way(j.out))
	watching, done := context.WithCancel(ctx)
	watch.Go(func() {
		if err := j.watch(watching); err != nil {
			cancel(err)
		}
	})
	ways.Wait()
	err := context.Cause(ctx)
	done()
	watch.Wait()
	if err == nil {
		_ = ws.Close(websocket.StatusNormalClosure, "") // the other end may have gone first
	}
	return err
}

// reset closes conn so that its other end takes it for no clean end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		_ = tcp.SetLinger(0) // it may be closed already
	}
	conn.Close()
}

type join struct {
	ws    *websocket.Conn
	conn  net.Conn
	stuck atomic.Bool // conn does not take what came just now
}

// in passes on what comes until the other end says that it was all.
func (j *join) in(ctx context.Context) error {
	for {
		kind, message, err := j.ws.Read(ctx)
		switch {
		case websocket.CloseStatus(err) == websocket.StatusNormalClosure:
			return ErrBroken // an end that was not told as one
		case err != nil:
			return err
		case kind == websocket.MessageText && string(message) == eof:
			return j.ended()
		case kind == websocket.MessageText:
			continue
		}
		j.stuck.Store(true)
		_, err = j.conn.Write(message)
		j.stuck.Store(false)
		if err != nil {
			return err
		}
	}
}

// ended tells conn that no more comes.
func (j *join) ended() error {
	half, ok := j.conn.(interface{ CloseWrite() error })
	if !ok {
		return io.ErrClosedPipe
	}
	return half.CloseWrite()
}

// out sends what conn says, and its end.
func (j *join) out(ctx context.Context) error {
	buf := make([]byte, MaxMessage)
	for {
		n, err := j.conn.Read(buf)
		if n > 0 {
			if err := j.ws.Write(ctx, websocket.MessageBinary, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return j.ws.Write(ctx, websocket.MessageText, []byte(eof))
		}
		if err != nil {
			return err
		}
	}
}

// watch fails when the other end is gone without a word. While conn does not take
// what came, the answer to a ping cannot be seen.
func (j *join) watch(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		ping, cancel := context.WithTimeout(ctx, pingLimit)
		err := j.ws.Ping(ping)
		late := ping.Err() != nil
		cancel()
		if err != nil && ctx.Err() == nil && !(late && j.stuck.Load()) {
			return err
		}
	}
}
