package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/server/socket"
)

// exec runs a command in an agent's machine for a person at a WebSocket.
func (s *Server) exec(w http.ResponseWriter, r *http.Request) error {
	who := whoIs(r.Context())
	agent, err := s.agent(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.socket(w, r, func(ctx context.Context, c *socket.Socket) (api.ExecExit, error) {
		if len(c.Start.Args) == 0 {
			return api.ExecExit{}, errand.Errorf(errand.Invalid, "validation_error", "Which command? args is empty.")
		}
		req := runner.ExecRequest{
			Args: c.Start.Args, Dir: c.Start.Dir, User: c.Start.User, Env: c.Start.Env,
			Limit: time.Duration(c.Start.LimitMs) * time.Millisecond, Whole: c.Start.Whole && c.Start.TTY == nil,
		}
		if c.Start.Stdin {
			req.Stdin = c.In
		}
		if size := c.Start.TTY; size != nil {
			fit := socket.SizeOf(*size)
			req.TTY, req.Resize = &fit, c.Sizes
		}
		exit, err := s.runner.Exec(ctx, who.caller, agent.ID, req, c.Output(ctx))
		return api.ExecExit{Code: exit.Code, Signal: exit.Signal, TimedOut: exit.TimedOut, Dropped: exit.Dropped, Unknown: exit.Unknown}, err
	})
}

// socket answers a request with a WebSocket that stands while the key, or the
// cookie, that it was opened with holds.
func (s *Server) socket(w http.ResponseWriter, r *http.Request, do func(context.Context, *socket.Socket) (api.ExecExit, error)) error {
	return socket.Serve(w, r, socket.Options{
		Origin: s.originPattern(), Last: s.lastFrame,
		May: func(ctx context.Context) error {
			_, err := s.caller(r.WithContext(ctx))
			if errand.KindOf(err) == errand.Unauthorized {
				return err
			}
			return nil // a store that cannot be read just now is no reason
		},
	}, do)
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
