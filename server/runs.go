package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/runner"
)

// byRun are the parameters of what is about one run.
type byRun struct {
	ID    string `path:"id" doc:"Unique identifier for the agent."`
	RunID string `path:"runId" doc:"Unique identifier for the run."`
}

func (in byRun) parse() (agent errand.AgentID, run errand.RunID, err error) {
	if agent, err = errand.ParseAgentID(in.ID); err != nil {
		return "", "", err
	}
	run, err = errand.ParseRunID(in.RunID)
	return agent, run, err
}

type createRun struct {
	ByID
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255"`
	Body           api.CreateRun
}

type listRuns struct {
	ByID
	Page
}

type usageOf struct {
	ByID
	RunID string `query:"runId" doc:"Only this run."`
}

func (s *Server) runRoutes(r *router) {
	add(r, route{name: "createRun", method: "POST", path: "/v1/agents/{id}/runs", status: http.StatusCreated, maxBody: maxPrompt, failures: []int{400, 403, 404, 409, 413},
		summary: "Send a follow-up"}, s.createRun)
	add(r, route{name: "listRuns", method: "GET", path: "/v1/agents/{id}/runs", failures: []int{400, 403, 404},
		summary: "List an agent's runs, newest first"}, s.listRuns)
	add(r, route{name: "getRun", method: "GET", path: "/v1/agents/{id}/runs/{runId}", failures: []int{400, 403, 404},
		summary: "Get a run"}, s.getRun)
	add(r, route{name: "cancelRun", method: "POST", path: "/v1/agents/{id}/runs/{runId}/cancel", failures: []int{400, 403, 404, 409},
		summary: "Cancel a run"}, s.cancelRun)
	add(r, route{name: "getAgentUsage", method: "GET", path: "/v1/agents/{id}/usage", failures: []int{400, 403, 404},
		summary: "Get what an agent used, run by run"}, s.usage)
	r.addRaw(route{name: "streamRun", method: "GET", path: "/v1/agents/{id}/runs/{runId}/stream", failures: []int{400, 403, 404, 410},
		summary: "Stream a run as server-sent events"}, http.StatusOK, "text/event-stream", []*huma.Param{lastEventID()}, s.streamRun)
}

func (s *Server) createRun(ctx context.Context, w who, in *createRun) (api.CreatedRun, error) {
	var none api.CreatedRun
	if err := in.Body.Check(); err != nil {
		return none, err
	}
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return none, err
	}
	prompt, err := s.prompt(ctx, in.Body.Prompt)
	if err != nil {
		return none, err
	}
	follow := runner.FollowUp{Prompt: prompt, Mode: in.Body.Mode, WhenBusy: in.Body.WhenBusy, IdempotencyKey: in.IdempotencyKey}
	if in.Body.Model != nil {
		model := in.Body.Model.Model()
		follow.Model = &model
	}
	run, err := s.runner.FollowUp(ctx, w.caller, id, follow)
	if err != nil {
		return none, err
	}
	agent, err := s.runner.Agent(ctx, w.caller, id)
	if err != nil {
		return none, err
	}
	return api.CreatedRun{Run: api.FromRun(run, agent)}, nil
}

func (s *Server) listRuns(ctx context.Context, w who, in *listRuns) (api.Runs, error) {
	out := api.Runs{Items: []api.Run{}}
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return out, err
	}
	runs, next, err := s.runner.Runs(ctx, w.caller, agent.ID, in.Limit, in.Cursor)
	if err != nil {
		return out, err
	}
	for _, run := range runs {
		out.Items = append(out.Items, api.FromRun(run, agent))
	}
	out.NextCursor = next
	return out, nil
}

func (s *Server) getRun(ctx context.Context, w who, in *byRun) (api.Run, error) {
	agent, err := s.agent(ctx, w, in.ID)
	if err != nil {
		return api.Run{}, err
	}
	_, id, err := in.parse()
	if err != nil {
		return api.Run{}, err
	}
	run, err := s.runner.OneRun(ctx, w.caller, agent.ID, id)
	if err != nil {
		return api.Run{}, err
	}
	return api.FromRun(run, agent), nil
}

func (s *Server) cancelRun(ctx context.Context, w who, in *byRun) (api.ID, error) {
	agent, run, err := in.parse()
	if err == nil {
		err = s.runner.Cancel(ctx, w.caller, agent, run)
	}
	return api.ID{ID: string(run)}, err
}

func (s *Server) usage(ctx context.Context, w who, in *usageOf) (api.AgentUsage, error) {
	out := api.AgentUsage{Runs: []api.RunUsage{}}
	id, err := errand.ParseAgentID(in.ID)
	if err != nil {
		return out, err
	}
	var one errand.RunID
	if in.RunID != "" {
		if one, err = errand.ParseRunID(in.RunID); err != nil {
			return out, err
		}
		if _, err := s.runner.OneRun(ctx, w.caller, id, one); err != nil {
			return out, err
		}
	}
	all, err := s.runner.Usage(ctx, w.caller, id)
	if err != nil {
		return out, err
	}
	var total errand.Usage
	for _, u := range all {
		if one != "" && u.Run != one {
			continue
		}
		total = total.Add(u.Usage)
		out.Runs = append(out.Runs, api.RunUsage{ID: string(u.Run), Usage: api.FromUsage(u.Usage)})
	}
	out.TotalUsage = api.FromUsage(total)
	return out, nil
}
