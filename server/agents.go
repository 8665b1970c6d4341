package server

import (
	"context"
	"net/http"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/runner"
)

// maxPrompt bounds a body that may hold pictures: five of 15 MB as base64.
const maxPrompt = api.MaxImages*(api.MaxImageBytes/3+1)*4 + maxBody

// ByID are the parameters of what is about one agent.
type ByID struct {
	ID string `path:"id" doc:"Unique identifier for the agent."`
}

// Page are the parameters of a page.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	Cursor string `query:"cursor" doc:"Pagination cursor from the previous response."`
}

type createAgent struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255"`
	Body           api.CreateAgent
}

type getAgent struct {
	ByID
	Glance bool `query:"glance" doc:"With what a list shows of its work."`
}

type listAgents struct {
	Page
	PRURL           string `query:"prUrl" doc:"Only agents with this pull request."`
	IncludeArchived bool   `query:"includeArchived" default:"true"`
	Glance          bool   `query:"glance" doc:"With what a list shows of each agent's work."`
}

func (s *Server) agentRoutes(r *router) {
	add(r, route{name: "createAgent", method: "POST", path: "/v1/agents", status: http.StatusCreated, maxBody: maxPrompt, failures: []int{400, 403, 404, 409, 413},
		summary: "Create an agent and its first run"}, s.createAgent)
	add(r, route{name: "listAgents", method: "GET", path: "/v1/agents", failures: []int{400, 403},
		summary: "List agents, newest first"}, s.listAgents)
	add(r, route{name: "getAgent", method: "GET", path: "/v1/agents/{id}", failures: []int{400, 403, 404},
		summary: "Get an agent"}, s.getAgent)
	add(r, route{name: "deleteAgent", method: "DELETE", path: "/v1/agents/{id}", failures: []int{400, 403, 404},
		summary: "Delete an agent permanently"}, s.change(s.delete))
	add(r, route{name: "archiveAgent", method: "POST", path: "/v1/agents/{id}/archive", failures: []int{400, 403, 404},
		summary: "Archive an agent"}, s.change(s.runner.Archive))
	add(r, route{name: "unarchiveAgent", method: "POST", path: "/v1/agents/{id}/unarchive", failures: []int{400, 403, 404},
		summary: "Unarchive an agent"}, s.change(s.runner.Unarchive))
}

func (s *Server) createAgent(ctx context.Context, w who, in *createAgent) (api.CreatedAgent, error) {
	var none api.CreatedAgent
	if err := in.Body.Check(); err != nil {
		return none, err
	}
	prompt, err := s.prompt(ctx, in.Body.Prompt)
	if err != nil {
		return none, err
	}
	var id errand.AgentID
	if in.Body.AgentID != "" {
		if id, err = errand.ParseAgentID(in.Body.AgentID); err != nil {
			return none, err
		}
	}
	agent, run, err := s.runner.Start(ctx, w.caller, runner.StartRequest{
		ID: id, Name: in.Body.Name, Prompt: prompt, Mode: in.Body.Mode,
		Repositories: in.Body.Repositories(), Settings: in.Body.Settings(),
		EnvVars: in.Body.EnvVars, Branch: in.Body.Branch, Environment: in.Body.Environment(), IdempotencyKey: in.IdempotencyKey,
	})
	if err != nil {
		return none, err
	}
	return api.CreatedAgent{Agent: api.FromAgent(agent, s.url), Run: api.FromRun(run, agent)}, nil
}

func (s *Server) listAgents(ctx context.Context, w who, in *listAgents) (api.Agents, error) {
	out := api.Agents{Items: []api.AgentSummary{}}
	if in.PRURL != "" {
		return out, nil // no agent of this server has opened a pull request
	}
	agents, next, err := s.runner.Agents(ctx, w.caller, runner.AgentQuery{Limit: in.Limit, Cursor: in.Cursor, IncludeArchived: in.IncludeArchived})
	if err != nil {
		return out, err
	}
	for _, a := range agents {
		if !in.Glance {
			out.Items = append(out.Items, api.FromAgentSummary(a, s.url))
			continue
		}
		g, err := s.runner.Glance(ctx, w.caller, a.ID)
		if errand.KindOf(err) == errand.NotFound {
			continue // deleted meanwhile
		}
		if err != nil {
			return out, err
		}
		out.Items = append(out.Items, api.FromGlance(g, s.url, s.runner.Cost))
	}
	out.NextCursor = next
	return out, nil
}

func (s *Server) getAgent(ctx context.Context, w who, in *getAgent) (api.Agent, error) {
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return api.Agent{}, err
	}
	out := api.FromAgent(agent, s.url)
	if in.Glance {
		g, err := s.runner.Glance(ctx, w.caller, agent.ID)
		if err != nil {
			return out, err
		}
		out.AgentSummary = api.FromGlance(g, s.url, s.runner.Cost)
	}
	return out, nil
}

func (s *Server) agent(ctx context.Context, w who, id string) (errand.Agent, error) {
	parsed, err := errand.ParseAgentID(id)
	if err != nil {
		return errand.Agent{}, err
	}
	return s.runner.Agent(ctx, w.caller, parsed)
}

func (s *Server) delete(ctx context.Context, caller errand.Caller, id errand.AgentID) error {
	err := s.runner.Delete(ctx, caller, id)
	if err == nil {
		s.feed.removed(id)
	}
	return err
}

// change makes a route of what changes one agent.
func (s *Server) change(do func(context.Context, errand.Caller, errand.AgentID) error) func(context.Context, who, *ByID) (api.ID, error) {
	return func(ctx context.Context, w who, in *ByID) (api.ID, error) {
		id, err := errand.ParseAgentID(in.ID)
		if err == nil {
			err = do(ctx, w.caller, id)
		}
		return api.ID{ID: string(id)}, err
	}
}
