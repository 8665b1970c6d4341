package server

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/terminal"
)

// exec runs a command in an agent's machine for a person at a WebSocket.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) error {
	who := whoIs(r.Context())
	agent, err := s.agent(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.bridge(w, r, func(ctx context.Context, start api.ExecStart, b *bridge) (api.ExecExit, error) {
		if len(start.Args) == 0 {
			return api.ExecExit{}, errand.Errorf(errand.Invalid, "validation_error", "Which command? args is empty.")
		}
		req := runner.ExecRequest{
			Args: start.Args, Dir: start.Dir, User: start.User, Env: start.Env,
			Limit: time.Duration(start.LimitMs) * time.Millisecond, Whole: start.Whole && start.TTY == nil,
		}
		if start.Stdin {
			req.Stdin = b.stdin
		}
		if start.TTY != nil {
			req.TTY, req.Resize = &guest.Size{Cols: start.TTY.Cols, Rows: start.TTY.Rows}, b.sizes
		}
		exit, err := s.runner.Exec(ctx, who.caller, agent.ID, req, b.output(ctx))
		return api.ExecExit{Code: exit.Code, Signal: exit.Signal, TimedOut: exit.TimedOut, Dropped: exit.Dropped, Unknown: exit.Unknown}, err
	})
}

// attach shows a terminal of an agent's machine to a person at a WebSocket.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) error {
	who, name := whoIs(r.Context()), r.PathValue("name")
	agent, err := s.agent(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.bridge(w, r, func(ctx context.Context, start api.ExecStart, b *bridge) (api.ExecExit, error) {
		size := guest.Size{Cols: 80, Rows: 24}
		if start.TTY != nil {
			size = guest.Size{Cols: start.TTY.Cols, Rows: start.TTY.Rows}
		}
		return api.ExecExit{}, s.runner.Attach(ctx, who.caller, agent.ID, name, start.ReadOnly, size,
			terminal.Streams{In: b.stdin, Resize: b.sizes, Out: b.output(ctx)})
	})
}

// bridge is one person's WebSocket, as the streams of a command.
type bridge struct {
	conn   *websocket.Conn
	cancel context.CancelFunc // ends the command
	stdin  *io.PipeReader
	feed   *io.PipeWriter
	sizes  chan guest.Size
	stuck  atomic.Bool // the command does not read its stdin just now
}

// bridge answers a request with a WebSocket and does on it what its first
// message says. Once the connection stands, errors go over it.
func (s *Server) bridge(w http.ResponseWriter, r *http.Request, do func(context.Context, api.ExecStart, *bridge) (api.ExecExit, error)) error {
	if r.Header.Get("Upgrade") == "" {
		return errand.Errorf(errand.Invalid, "validation_error", "This is a WebSocket (%s). Connect with one, or use: errand exec.", api.ExecProtocol)
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{api.ExecProtocol}, OriginPatterns: []string{s.originPattern()},
	})
	if err != nil {
		return nil // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(api.MaxFrame + 1)
	ctx, cancel := context.WithCancel(r.Context())
	start, err := firstFrame(ctx, conn)
	if err != nil {
		cancel()
		conn.Close(websocket.StatusPolicyViolation, "the first message must be a start frame")
		return nil
	}
	b := &bridge{conn: conn, cancel: cancel, sizes: make(chan guest.Size)}
	b.stdin, b.feed = io.Pipe()
	var work sync.WaitGroup
	work.Go(func() { b.read(ctx) })
	work.Go(func() { b.watch(ctx) })
	exit, err := do(ctx, start, b)
	b.stdin.Close() // lets go whoever waits for the command to read
	b.end(context.WithoutCancel(ctx), s.lastFrame(ctx, exit, err))
	cancel()
	conn.CloseNow()
	work.Wait()
	return nil
}

func firstFrame(ctx context.Context, conn *websocket.Conn) (api.ExecStart, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
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

// read passes on what the person sends until the connection ends, and then ends
// the command.
func (b *bridge) read(ctx context.Context) {
	defer b.cancel()
	for {
		kind, message, err := b.conn.Read(ctx)
		if err != nil {
			b.feed.CloseWithError(io.ErrUnexpectedEOF)
			return
		}
		if kind == websocket.MessageBinary {
			err = b.input(message)
		} else {
			err = b.frame(ctx, message)
		}
		if err != nil {
			b.conn.Close(websocket.StatusPolicyViolation, "not a message of "+api.ExecProtocol)
			return
		}
	}
}

func (b *bridge) input(message []byte) error {
	stream, data, err := api.UnpackData(message)
	if err != nil || stream != api.ExecStdin {
		return errors.New("not for stdin")
	}
	b.stuck.Store(true)
	defer b.stuck.Store(false)
	_, _ = b.feed.Write(data) // a command that has ended wants no more
	return nil
}

func (b *bridge) frame(ctx context.Context, message []byte) error {
	f, err := api.ParseFrame(message)
	if err != nil {
		return err
	}
	switch {
	case f.Type == api.FrameEOF:
		return b.feed.Close()
	case f.Type == api.FrameResize && f.Size != nil:
		select {
		case b.sizes <- guest.Size{Cols: f.Size.Cols, Rows: f.Size.Rows}:
		case <-time.After(time.Second): // nobody listens: the command has no terminal
		case <-ctx.Done():
		}
	}
	return nil // types of later clients are left alone
}

// watch ends the command when the person is gone without a word. A connection
// whose reader waits for the command cannot see the answer to a ping: then only
// a ping that cannot be sent counts.
func (b *bridge) watch(ctx context.Context) {
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		ping, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := b.conn.Ping(ping)
		late := ping.Err() != nil
		cancel()
		if err != nil && !(late && b.stuck.Load()) {
			b.cancel()
			return
		}
	}
}

// output gives what sends each piece that the command prints. While the person
// does not take it, the command waits.
func (b *bridge) output(ctx context.Context) func(guest.Output) {
	const most = 128 << 10
	return func(o guest.Output) {
		stream := api.ExecStdout
		if o.Stderr {
			stream = api.ExecStderr
		}
		for data := range slices.Chunk(o.Data, most) {
			if err := b.conn.Write(ctx, websocket.MessageBinary, api.PackData(stream, data)); err != nil {
				b.cancel()
				return
			}
		}
	}
}

// lastFrame says how it ended.
func (s *Server) lastFrame(ctx context.Context, exit api.ExecExit, err error) api.Frame {
	if err == nil {
		return api.Frame{Type: api.FrameExit, Exit: &exit}
	}
	switch {
	case errors.Is(err, guest.ErrRebooted):
		err = errand.Errorf(errand.Unavailable, "machine_restarted", "The machine was restarted meanwhile; nobody knows how the command ended. Try again.")
	case errors.Is(err, guest.ErrNotStarted):
		err = errand.Errorf(errand.Invalid, "not_started", "The command was not started: %w.", err)
	}
	e := s.refusalOf(ctx, err).body.Error
	return api.Frame{Type: api.FrameError, Error: &e, Kind: string(errand.KindOf(err))}
}

func (b *bridge) end(ctx context.Context, f api.Frame) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := json.Marshal(f)
	if err != nil || b.conn.Write(ctx, websocket.MessageText, text) != nil {
		return
	}
	// The client closes when it has read this; a little patience lets it.
	b.conn.Close(websocket.StatusNormalClosure, "")
}
