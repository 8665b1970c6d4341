package server

import (
	"context"
	"net/http"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/server/socket"
	"github.com/errand-dev/errand/terminal"
)

type openTerminal struct {
	ByID
	Body api.OpenTerminal
}

type byTerminal struct {
	ByID
	Name string `path:"name" doc:"The terminal's name."`
}

type historyOf struct {
	ByID
	Name  string `path:"name" doc:"The terminal's name."`
	Lines int    `query:"lines" minimum:"0" maximum:"50000" default:"10000" doc:"How many lines before the screen, at most."`
}

func (s *Server) terminalRoutes(r *router) {
	add(r, route{name: "listTerminals", method: "GET", path: "/v1/agents/{id}/terminals", failures: []int{400, 403, 404, 503},
		summary: "List the terminals of an agent's machine, how their commands fare, and the ports that its environment names"}, s.terminals)
	add(r, route{name: "openTerminal", method: "POST", path: "/v1/agents/{id}/terminals", status: http.StatusCreated, failures: []int{400, 403, 404, 409, 503},
		summary: "Open a terminal in an agent's machine: a shell of the environment's user, in the repository"}, s.openTerminal)
	r.addRaw(route{name: "attachTerminal", method: "GET", path: "/v1/agents/{id}/terminals/{name}", failures: []int{400, 403, 404},
		summary: "Look at and type into a terminal of an agent's machine, over a WebSocket (" + api.ExecProtocol + ")"},
		http.StatusSwitchingProtocols, "", nil, s.attach)
	addEmpty(r, route{name: "closeTerminal", method: "DELETE", path: "/v1/agents/{id}/terminals/{name}", failures: []int{400, 403, 404, 503},
		summary: "End a terminal of an agent's machine and what runs in it; again is no error"}, s.closeTerminal)
	add(r, route{name: "getTerminalHistory", method: "GET", path: "/v1/agents/{id}/terminals/{name}/history", failures: []int{400, 403, 404, 503},
		summary: "Get what a terminal of an agent's machine has shown"}, s.terminalHistory)
}

func (s *Server) terminals(ctx context.Context, w who, in *ByID) (api.Terminals, error) {
	out := api.Terminals{Items: []api.Terminal{}}
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return out, err
	}
	all, err := s.runner.Terminals(ctx, w.caller, id)
	if err != nil {
		return out, err
	}
	ports, err := s.runner.Ports(ctx, w.caller, id)
	if err != nil {
		return out, err
	}
	for _, p := range ports {
		out.Ports = append(out.Ports, api.Port(p))
	}
	for _, t := range all {
		out.Items = append(out.Items, wireTerminal(t))
	}
	return out, nil
}

func wireTerminal(t guest.TerminalState) api.Terminal {
	out := api.Terminal{Name: t.Name, Running: t.Running, ExitCode: t.ExitCode, Command: t.Command, Cols: t.Cols, Rows: t.Rows}
	if h := t.Tended; h != nil {
		out.Health = &api.TerminalHealth{Status: string(h.Status), Restarts: h.Restarts, Since: h.Since, Last: h.Last}
		if !h.Next.IsZero() {
			out.Health.Next = &h.Next
		}
	}
	return out
}

func (s *Server) openTerminal(ctx context.Context, w who, in *openTerminal) (api.Terminal, error) {
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return api.Terminal{}, err
	}
	t, err := s.runner.NewTerminal(ctx, w.caller, agent.ID, in.Body.Name)
	return wireTerminal(t), err
}

func (s *Server) closeTerminal(ctx context.Context, w who, in *byTerminal) error {
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return err
	}
	return s.runner.CloseTerminal(ctx, w.caller, agent.ID, in.Name)
}

func (s *Server) terminalHistory(ctx context.Context, w who, in *historyOf) (api.TerminalHistory, error) {
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return api.TerminalHistory{}, err
	}
	h, err := s.runner.History(ctx, w.caller, agent.ID, in.Name, in.Lines)
	return api.TerminalHistory{Text: h.Text, Alternate: h.Alternate}, err
}

// attach shows a terminal of an agent's machine to a person at a WebSocket.
func (s *Server) attach(w http.ResponseWriter, r *http.Request) error {
	who, name := whoIs(r.Context()), r.PathValue("name")
	agent, err := s.agent(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.socket(w, r, func(ctx context.Context, c *socket.Socket) (api.ExecExit, error) {
		v := terminal.View{Name: name, ReadOnly: c.Start.ReadOnly, Bare: c.Start.Bare, Existing: c.Start.Existing, Size: guest.Size{Cols: 80, Rows: 24}}
		if size := c.Start.TTY; size != nil {
			v.Size = socket.SizeOf(*size)
		}
		return api.ExecExit{}, s.runner.Attach(ctx, who.caller, agent.ID, v, terminal.Streams{In: c.In, Resize: c.Sizes, Out: c.Output(ctx)})
	})
}
