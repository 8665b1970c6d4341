package server

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/presence"
	"github.com/errand-dev/errand/runner"
)

type takeOver struct {
	ByID
	Body api.TakeOver
}

type handBack struct {
	ByID
	Body api.HandBack
}

func (s *Server) takeoverRoutes(r *router) {
	add(r, route{name: "takeOverAgent", method: "POST", path: "/v1/agents/{id}/takeover", failures: []int{400, 403, 404, 409},
		summary: "Take an agent over: it begins nothing new until it is handed back. Again by the same person: for longer"}, s.takeOver)
	add(r, route{name: "handBackAgent", method: "POST", path: "/v1/agents/{id}/handback", failures: []int{400, 403, 404, 409, 413},
		summary: "Hand an agent back: it is told what you did, and goes on"}, s.handBack)
	add(r, route{name: "getPresence", method: "GET", path: "/v1/agents/{id}/presence", failures: []int{400, 403, 404},
		summary: "Say who is at an agent just now"}, s.presence)
}

func (s *Server) takeOver(ctx context.Context, w who, in *takeOver) (api.Takeover, error) {
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return api.Takeover{}, err
	}
	agent, err := s.runner.Takeover(ctx, w.caller, id, runner.TakeoverRequest{Force: in.Body.Force})
	if err != nil {
		return api.Takeover{}, err
	}
	if agent.Takeover == nil {
		return api.Takeover{}, errand.Errorf(errand.Conflict, "agent_handing_back", "Agent %s was handed back again at once. `errand logs %s` says by whom.", id, id)
	}
	return *api.FromTakeover(agent.Takeover), nil
}

func (s *Server) handBack(ctx context.Context, w who, in *handBack) (api.HandedBack, error) {
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return api.HandedBack{}, err
	}
	ended, err := s.runner.Handback(ctx, w.caller, id, runner.HandbackRequest{Note: in.Body.Note, Force: in.Body.Force})
	return api.FromHandback(ended), err
}

func (s *Server) presence(ctx context.Context, w who, in *ByID) (api.Presence, error) {
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return api.Presence{}, err
	}
	return api.FromPresence(s.runner.Rooms.Here(agent.ID)), nil
}

// roomOf is what a visitor's stream is told of those who are there; nothing for nil.
func (s *Server) roomOf(id errand.AgentID, visit *presence.Visit) aside {
	if visit == nil {
		return aside{}
	}
	return aside{changed: visit.Changed, tell: func(out *sse) error {
		return out.put(api.Message{Event: api.StreamPresence, Data: api.FromPresence(s.runner.Rooms.Here(id))})
	}}
}
