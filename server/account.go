package server

import (
	"context"
	"strings"

	"github.com/errand-dev/errand/api"
)

func (s *Server) accountRoutes(r *router) {
	add(r, route{name: "getApiKeyInfo", method: "GET", path: "/v1/me",
		summary: "Say whose key this is"}, s.me)
	add(r, route{name: "listModels", method: "GET", path: "/v1/models",
		summary: "List the models that agents can have"}, s.models)
	add(r, route{name: "getHealth", method: "GET", path: "/v1/health",
		summary: "Say how the server stands"}, s.health)
}

func (s *Server) me(_ context.Context, w who, _ *struct{}) (api.Me, error) {
	me := api.Me{APIKeyName: w.key.Name, CreatedAt: w.key.CreatedAt, UserEmail: w.key.Email}
	first, last, _ := strings.Cut(strings.TrimSpace(w.key.Person), " ")
	me.UserFirstName, me.UserLastName = first, strings.TrimSpace(last)
	return me, nil
}

func (s *Server) models(ctx context.Context, _ who, _ *struct{}) (api.Models, error) {
	return api.FromEntries(s.runner.ListModels(ctx)), nil
}

func (s *Server) health(ctx context.Context, _ who, _ *struct{}) (api.Health, error) {
	h, err := s.runner.Health(ctx)
	if err != nil {
		return api.Health{}, err
	}
	out := api.Health{
		Version: s.version, Started: s.started, Runs: h.Runs, RunsMost: h.RunsMost,
		Machines: h.Machines, Models: h.Models, Missing: h.Missing, Findings: []api.Finding{},
	}
	for _, f := range h.Findings {
		out.Findings = append(out.Findings, api.Finding{Name: f.Name, OK: f.OK, Needed: f.Needed, Detail: f.Detail})
	}
	return out, nil
}
