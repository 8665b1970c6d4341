package server

import (
	"context"
	"maps"
	"slices"

	"github.com/errand-dev/errand/api"
)

type tryModel struct {
	Body api.TryModel
}

func (s *Server) settingsRoutes(r *router) {
	add(r, route{name: "getSettings", method: "GET", path: "/v1/settings", failures: []int{403},
		summary: "Say what the server was told when it was started"}, s.settings)
	add(r, route{name: "tryModel", method: "POST", path: "/v1/models/test", failures: []int{400, 403},
		summary: "Ask a model for one word and say what came back; a refusal by its provider is an answer too"}, s.tryModel)
}

func (s *Server) settings(context.Context, who, *struct{}) (api.Settings, error) {
	out := api.Settings{Flags: []api.Flag{}, Providers: []api.Provider{}}
	for _, f := range s.flags {
		f.Value = s.runner.Redactor.String(f.Value)
		out.Flags = append(out.Flags, f)
	}
	all := s.runner.Models.Providers
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := api.Provider{Name: name, Usable: all[name].Missing == "", Missing: all[name].Missing, Settings: []api.Variable{}}
		for _, v := range all[name].Settings {
			p.Settings = append(p.Settings, api.Variable{Name: v.Name, Set: v.Set, Value: s.runner.Redactor.String(v.Value)})
		}
		out.Providers = append(out.Providers, p)
	}
	return out, nil
}

func (s *Server) tryModel(ctx context.Context, w who, in *tryModel) (api.ModelTrial, error) {
	t, err := s.runner.Try(ctx, w.caller, in.Body.Model)
	if err != nil {
		return api.ModelTrial{}, err
	}
	out := api.ModelTrial{
		Model: t.Model, OK: t.Err == nil, Named: t.Named, Text: t.Text, Usage: api.FromUsage(t.Spent.Usage),
		CostCents: float64(t.Spent.Cost) / 1e7, Ms: t.Took.Milliseconds(),
	}
	if t.Err != nil {
		out.Error = &api.TrialError{Provider: t.Err.Provider, Cause: string(t.Err.Cause), Status: t.Err.Status, Message: t.Err.Message, Advice: t.Advice}
	}
	return out, nil
}
