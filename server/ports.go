package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/api/tunnel"
	"github.com/errand-dev/errand/server/editor"
	"github.com/errand-dev/errand/server/preview"
)

type openPreview struct {
	ID   string `path:"id" doc:"Unique identifier of the agent."`
	Port int    `path:"port" minimum:"1" maximum:"65535"`
	Body *api.OpenPreview
}

func (s *Server) portRoutes(r *router) {
	add(r, route{name: "listPorts", method: "GET", path: "/v1/agents/{id}/ports", failures: []int{400, 403, 404, 503},
		summary: "List the ports of an agent's machine: what listens, which program, and what the environment names"}, s.ports)
	r.addRaw(route{name: "followPorts", method: "GET", path: "/v1/agents/{id}/ports/changes", failures: []int{400, 403, 404, 503},
		summary: "Follow the ports of an agent's machine as server-sent events \"ports\", each with all of them"},
		http.StatusOK, "text/event-stream", nil, s.followPorts)
	add(r, route{name: "openPreview", method: "POST", path: "/v1/agents/{id}/ports/{port}/preview", status: http.StatusCreated, failures: []int{400, 403, 404, 503},
		summary: "Make a URL under which one browser looks at a port of an agent's machine"}, s.openPreview)
	add(r, route{name: "openEditor", method: "POST", path: "/v1/agents/{id}/ide", status: http.StatusCreated, failures: []int{400, 403, 404, 503},
		summary: "Start an editor for browsers in an agent's machine, installing it where there is none, and make a URL under which one browser uses it"}, s.openEditor)
	r.addRaw(route{name: "connectPort", method: "GET", path: "/v1/agents/{id}/ports/{port}/connect", failures: []int{400, 403, 404, 503},
		summary: "Connect to a port of an agent's machine, over a WebSocket (" + tunnel.Protocol + ")"},
		http.StatusSwitchingProtocols, "", nil, s.connectPort)
}

func (s *Server) ports(ctx context.Context, w who, in *ByID) (api.Ports, error) {
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return api.Ports{}, err
	}
	return s.previews.Ports(ctx, w.caller, id)
}

// followPorts sends the ports each time that they change, until the reader goes or
// is let in no more.
func (s *Server) followPorts(w http.ResponseWriter, r *http.Request) error {
	agent, err := s.agent(r.Context(), whoIs(r.Context()), r.PathValue("id"))
	if err != nil {
		return err
	}
	ctx, end := s.whileLetIn(r)
	defer end()
	var out *sse
	told := time.Now()
	err = s.previews.Watch(ctx, whoIs(ctx).caller, agent.ID, func(p *api.Ports) error {
		if out == nil {
			out = newSSE(w)
		}
		message := api.Message{Event: api.StreamPorts, Data: p}
		if p == nil {
			if time.Since(told) < s.heartbeat {
				return nil
			}
			message = api.Message{Event: api.StreamHeartbeat, Data: struct{}{}}
		}
		told = time.Now()
		return errors.Join(out.put(message), out.flush())
	})
	if out == nil {
		return err
	}
	s.lost(ctx, err)
	return nil
}

func (s *Server) openPreview(ctx context.Context, w who, in *openPreview) (api.Preview, error) {
	t, err := s.target(ctx, w, in.ID, in.Port)
	if err != nil {
		return api.Preview{}, err
	}
	path := ""
	if in.Body != nil {
		path = in.Body.Path
	}
	return s.previews.Open(w.key, w.signIn, w.host, t, path)
}

func (s *Server) openEditor(ctx context.Context, w who, in *ByID) (api.Preview, error) {
	t, err := s.target(ctx, w, in.ID, editor.Port)
	if err != nil {
		return api.Preview{}, err
	}
	editors := editor.Editors{Runner: s.runner}
	if err := editors.Open(ctx, w.caller, t.Agent); err != nil {
		return api.Preview{}, err
	}
	return s.previews.Open(w.key, w.signIn, w.host, t, "")
}

// target finds what a path names.
func (s *Server) target(ctx context.Context, w who, id string, port int) (preview.Target, error) {
	agent, err := s.agent(ctx, w, id)
	return preview.Target{Agent: agent.ID, Port: port}, err
}

func (s *Server) connectPort(w http.ResponseWriter, r *http.Request) error {
	port, err := strconv.ParseUint(r.PathValue("port"), 10, 16)
	if err != nil || port == 0 {
		return errand.Errorf(errand.Invalid, "validation_error", "%.20q is no port: it is a number from 1 to 65535.", r.PathValue("port"))
	}
	asks := whoIs(r.Context())
	t, err := s.target(r.Context(), asks, r.PathValue("id"), int(port))
	if err != nil {
		return err
	}
	ctx, end := s.whileLetIn(r)
	defer end()
	return s.previews.Tunnel(w, r.WithContext(ctx), asks.caller, t, s.originPattern())
}

// whileLetIn gives a context that ends with the request's, or soon after what let
// its caller in holds no more.
func (s *Server) whileLetIn(r *http.Request) (ctx context.Context, end func()) {
	return preview.During(r.Context(), func(ctx context.Context) error {
		_, err := s.caller(r.WithContext(ctx))
		return err
	})
}

// originPattern matches our own page, also where a proxy names us otherwise: as
// checkBrowser has it.
func (s *Server) originPattern() string { return strings.ReplaceAll(s.host, "[", `\[`) }
