// Package socket carries the streams of a command, or of a terminal that somebody
// looks at, over a person's WebSocket (api.ExecProtocol).
//
// What the command prints is sent as the person takes it, and while they do not,
// the command waits: nothing is kept here. TCP alone does not say what is taken: a
// browser takes whatever comes and draws it later. So a client may name a window,
// and say what it has drawn; no more than the window is on its way to it.
//
// A connection stands for as long as the person may have it: that is asked anew
// every few seconds.
//
// Package server decides who may connect, and what runs.
package socket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
)

const (
	startLimit = 10 * time.Second // for the first message
	pingEvery  = 20 * time.Second
	pingLimit  = 10 * time.Second
	askEvery   = 2 * time.Second // whether the person still may
	mostSent   = 128 << 10       // in one message, in bytes
)

// Options are for Serve. All are needed.
type Options struct {
	// Origin matches our own pages, also where a proxy in front calls us otherwise.
	Origin string
	// May says whether the person still may be connected. An error ends the
	// connection and is what it is told.
	May func(context.Context) error
	// Last makes the last message.
	Last func(context.Context, api.ExecExit, error) api.Frame
}

// Socket is one person's connection. In and Sizes are for whoever runs the
// command, who need not read them.
type Socket struct {
	Start api.ExecStart // what the person asked for
	In    io.Reader     // what they type; fails when they are gone
	Sizes <-chan guest.Size

	conn   *websocket.Conn
	cancel context.CancelCauseFunc // ends the command
	stdin  *io.PipeReader
	feed   *io.PipeWriter
	sizes  chan guest.Size
	stuck  atomic.Bool // the command does not read its stdin just now
	credit credit
}

// Serve answers a request with a WebSocket, and has do do what its first message
// says. ctx ends when the person is gone or may not be there any more. Once the
// connection stands errors go over it, and Serve returns nil; it does when the
// connection has ended.
func Serve(w http.ResponseWriter, r *http.Request, o Options, do func(context.Context, *Socket) (api.ExecExit, error)) error {
	if r.Header.Get("Upgrade") == "" {
		return errand.Errorf(errand.Invalid, "validation_error", "This is a WebSocket (%s). Connect with one, or use: errand exec.", api.ExecProtocol)
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{api.ExecProtocol}, OriginPatterns: []string{o.Origin},
	})
	if err != nil {
		return nil // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(api.MaxFrame + 1)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	start, err := firstFrame(ctx, conn)
	if err != nil {
		conn.Close(websocket.StatusPolicyViolation, "the first message must be a start frame")
		return nil
	}
	s := &Socket{Start: start, conn: conn, cancel: cancel, sizes: make(chan guest.Size), credit: newCredit(start.Window)}
	s.stdin, s.feed = io.Pipe()
	s.In, s.Sizes = s.stdin, s.sizes
	var work sync.WaitGroup
	work.Go(func() { s.read(ctx) })
	work.Go(func() { s.watch(ctx, o.May) })
	exit, err := s.run(ctx, do)
	s.stdin.Close() // lets go whoever waits for the command to read
	switch {
	case r.Context().Err() != nil: // who looked at a terminal connects again
		conn.Close(websocket.StatusGoingAway, "the server is stopping")
	case ctx.Err() == nil || why(ctx) != nil:
		s.end(r.Context(), func(ctx context.Context) api.Frame { return o.Last(ctx, exit, err) })
	} // else nobody is there
	cancel(nil)
	conn.CloseNow()
	work.Wait()
	return nil
}

func firstFrame(ctx context.Context, conn *websocket.Conn) (api.ExecStart, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	kind, text, err := conn.Read(ctx)
	if err != nil {
		return api.ExecStart{}, err
	}
	f, err := api.ParseFrame(text)
	if err != nil || kind != websocket.MessageText || f.Type != api.FrameStart || f.Start == nil {
		return api.ExecStart{}, errors.New("no start frame")
	}
	return *f.Start, nil
}

// run does what was asked for, if it can be. Why ctx ended is the error then.
func (s *Socket) run(ctx context.Context, do func(context.Context, *Socket) (api.ExecExit, error)) (api.ExecExit, error) {
	if w := s.Start.Window; w != 0 && (w < api.LeastWindow || w > api.MostWindow) {
		return api.ExecExit{}, errand.Errorf(errand.Invalid, "validation_error", "A window has %d to %d bytes, or is not given.", api.LeastWindow, api.MostWindow)
	}
	exit, err := do(ctx, s)
	if told := why(ctx); told != nil {
		err = told
	}
	return exit, err
}

// why gives what a person is to be told of why ctx ended; nil: there is nothing.
func why(ctx context.Context) error {
	if e := (*errand.Error)(nil); errors.As(context.Cause(ctx), &e) {
		return e
	}
	return nil
}

// read passes on what the person sends until the connection ends, and then ends
// the command.
func (s *Socket) read(ctx context.Context) {
	defer s.cancel(nil)
	for {
		// To read under a context that ends would close the connection, which has a
		// last message to carry. Serve closes it.
		kind, message, err := s.conn.Read(context.WithoutCancel(ctx))
		if err != nil {
			s.feed.CloseWithError(io.ErrUnexpectedEOF)
			return
		}
		if kind == websocket.MessageBinary {
			err = s.input(message)
		} else {
			err = s.frame(ctx, message)
		}
		if err != nil {
			s.conn.Close(websocket.StatusPolicyViolation, "not a message of "+api.ExecProtocol)
			return
		}
	}
}

func (s *Socket) input(message []byte) error {
	stream, data, err := api.UnpackData(message)
	if err != nil || stream != api.ExecStdin {
		return errors.New("not for stdin")
	}
	if s.Start.ReadOnly {
		return nil // also where the machine would take it
	}
	s.stuck.Store(true)
	defer s.stuck.Store(false)
	_, _ = s.feed.Write(data) // a command that has ended wants no more
	return nil
}

func (s *Socket) frame(ctx context.Context, message []byte) error {
	f, err := api.ParseFrame(message)
	if err != nil {
		return err
	}
	switch {
	case f.Type == api.FrameEOF:
		return s.feed.Close()
	case f.Type == api.FrameAck:
		return s.credit.give(f.Bytes)
	case f.Type == api.FrameResize && f.Size != nil:
		select {
		case s.sizes <- SizeOf(*f.Size):
		case <-time.After(time.Second): // nobody listens: the command has no terminal
		case <-ctx.Done():
		}
	}
	return nil // types of later clients are left alone
}

// SizeOf gives the size that a terminal gets which a client asks for: at least 1
// by 1, at most 1000 by 1000.
func SizeOf(s api.Size) guest.Size {
	const most = 1000
	return guest.Size{Cols: min(max(s.Cols, 1), most), Rows: min(max(s.Rows, 1), most)}
}

// watch ends the command when the person is gone without a word, or may not be
// there any more.
func (s *Socket) watch(ctx context.Context, may func(context.Context) error) {
	ask, ping := time.NewTicker(askEvery), time.NewTicker(pingEvery)
	defer ask.Stop()
	defer ping.Stop()
	for {
		var err error
		select {
		case <-ask.C:
			if err = may(ctx); ctx.Err() != nil {
				return
			}
		case <-ping.C:
			err = s.ping(ctx)
		case <-ctx.Done():
			return
		}
		if err != nil {
			s.cancel(err)
			return
		}
	}
}

// ping finds out whether somebody is there. A connection whose reader waits for
// the command cannot see the answer: then only a ping that cannot be sent counts.
func (s *Socket) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	err := s.conn.Ping(ctx)
	if ctx.Err() != nil && s.stuck.Load() {
		return nil
	}
	return err
}

// Output gives what sends each piece that the command prints. While the person
// does not take it, the command waits.
func (s *Socket) Output(ctx context.Context) func(guest.Output) {
	most := mostSent
	if w := s.Start.Window; w > 0 {
		most = min(most, int(w/2))
	}
	return func(o guest.Output) {
		stream := api.ExecStdout
		if o.Stderr {
			stream = api.ExecStderr
		}
		for data := range slices.Chunk(o.Data, most) {
			err := s.credit.take(ctx, int64(len(data)))
			if err == nil {
				err = s.conn.Write(ctx, websocket.MessageBinary, api.PackData(stream, data))
			}
			if err != nil {
				s.cancel(err)
				return
			}
		}
	}
}

// end sends the last message.
func (s *Socket) end(ctx context.Context, last func(context.Context) api.Frame) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := json.Marshal(last(ctx))
	if err != nil || s.conn.Write(ctx, websocket.MessageText, text) != nil {
		return
	}
	// The client closes when it has read this; a little patience lets it.
	s.conn.Close(websocket.StatusNormalClosure, "")
}

// credit counts what is on its way to a client with a window.
type credit struct {
	window int64 // 0: without end

	mu      sync.Mutex
	out     int64         // sent, and not said to be drawn
	changed chan struct{} // closed and replaced by give
}

func newCredit(window int64) credit { return credit{window: window, changed: make(chan struct{})} }

// take waits until n bytes more may be sent.
func (c *credit) take(ctx context.Context, n int64) error {
	for {
		c.mu.Lock()
		if c.window == 0 || c.out+n <= c.window {
			c.out += n
			c.mu.Unlock()
			return nil
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// give notes that n bytes were drawn.
func (c *credit) give(n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < 0 || n > c.out {
		return fmt.Errorf("%d bytes were drawn of %d", n, c.out)
	}
	c.out -= n
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}
