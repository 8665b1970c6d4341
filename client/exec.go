package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/coder/websocket"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// ExecIO is where a command's streams go.
type ExecIO struct {
	Stdin          io.Reader // nil is none; read until it ends or the command does
	Stdout, Stderr io.Writer
	Resize         <-chan api.Size // new sizes of the terminal; nil is none
}

// Exec runs a command in the agent's machine, waking it where it sleeps, and
// returns when the command has exited. When ctx ends the command is ended.
// Exec does not wait for a read of Stdin that blocks.
func (c *Client) Exec(ctx context.Context, agent errand.AgentID, start api.ExecStart, streams ExecIO) (api.ExecExit, error) {
	start.Stdin = streams.Stdin != nil
	return c.bridge(ctx, agentPath(agent, "/exec"), start, streams)
}

// Attach shows a named terminal of the agent's machine on streams until the
// terminal or ctx ends.
func (c *Client) Attach(ctx context.Context, agent errand.AgentID, terminal string, start api.ExecStart, streams ExecIO) (api.ExecExit, error) {
	start.Stdin = streams.Stdin != nil
	return c.bridge(ctx, agentPath(agent, "/terminals/"+url.PathEscape(terminal)), start, streams)
}

func (c *Client) bridge(ctx context.Context, path string, start api.ExecStart, streams ExecIO) (api.ExecExit, error) {
	conn, err := c.dial(ctx, path, api.ExecProtocol)
	if err != nil {
		return api.ExecExit{}, err
	}
	defer conn.CloseNow()
	ctx, cancel := context.WithCancel(ctx)
	w := frameWriter{conn}
	if err := w.frame(ctx, api.Frame{Type: api.FrameStart, Start: &start}); err != nil {
		cancel()
		return api.ExecExit{}, &UnreachableError{URL: c.base.String(), Err: err}
	}
	var resizing sync.WaitGroup
	defer resizing.Wait()
	defer cancel()
	if streams.Resize != nil {
		resizing.Go(func() { w.resize(ctx, streams.Resize) })
	}
	if streams.Stdin != nil {
		// Not waited for: a read of a terminal cannot be interrupted.
		go w.feed(ctx, streams.Stdin)
	}
	return c.receive(ctx, conn, start.Window, streams)
}

func (c *Client) dial(ctx context.Context, path, protocol string) (*websocket.Conn, error) {
	header := http.Header{}
	c.sign(header)
	conn, resp, err := websocket.Dial(ctx, c.url(path, nil).String(), &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: header, Subprotocols: []string{protocol},
	})
	if err != nil {
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case resp != nil && resp.StatusCode >= 300:
			return nil, c.refusal(resp)
		}
		return nil, &UnreachableError{URL: c.base.String(), Err: err}
	}
	conn.SetReadLimit(api.MaxFrame + 1)
	return conn, nil
}

// receive writes output where it belongs until the command has ended, and tells of
// it where there is a window.
func (c *Client) receive(ctx context.Context, conn *websocket.Conn, window int64, streams ExecIO) (api.ExecExit, error) {
	var taken int64
	for {
		kind, text, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return api.ExecExit{}, context.Cause(ctx)
			}
			return api.ExecExit{}, &UnreachableError{URL: c.base.String(), Err: err}
		}
		if kind == websocket.MessageBinary {
			if err := deliver(text, streams); err != nil {
				return api.ExecExit{}, err
			}
			if taken += int64(len(text) - 1); window > 0 && taken >= window/4 {
				if err := (frameWriter{conn}).frame(ctx, api.Frame{Type: api.FrameAck, Bytes: taken}); err != nil {
					return api.ExecExit{}, &UnreachableError{URL: c.base.String(), Err: err}
				}
				taken = 0
			}
			continue
		}
		f, err := api.ParseFrame(text)
		switch {
		case err != nil:
			return api.ExecExit{}, err
		case f.Type == api.FrameExit && f.Exit != nil:
			conn.Close(websocket.StatusNormalClosure, "")
			return *f.Exit, nil
		case f.Type == api.FrameError && f.Error != nil:
			conn.Close(websocket.StatusNormalClosure, "")
			return api.ExecExit{}, toError(errand.Kind(f.Kind), *f.Error)
		}
	}
}

func deliver(message []byte, streams ExecIO) error {
	stream, data, err := api.UnpackData(message)
	if err != nil {
		return err
	}
	w := streams.Stdout
	if stream == api.ExecStderr {
		w = streams.Stderr
	}
	if w == nil {
		return nil
	}
	_, err = w.Write(data)
	return err
}

// frameWriter sends the client's side of an exec connection.
type frameWriter struct{ conn *websocket.Conn }

func (w frameWriter) frame(ctx context.Context, f api.Frame) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return w.conn.Write(ctx, websocket.MessageText, text)
}

func (w frameWriter) resize(ctx context.Context, sizes <-chan api.Size) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || w.frame(ctx, api.Frame{Type: api.FrameResize, Size: &size}) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (w frameWriter) feed(ctx context.Context, r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 && w.conn.Write(ctx, websocket.MessageBinary, api.PackData(api.ExecStdin, buf[:n])) != nil {
			return
		}
		if errors.Is(err, io.EOF) {
			_ = w.frame(ctx, api.Frame{Type: api.FrameEOF}) // the command may have ended by now
		}
		if err != nil {
			return
		}
	}
}
