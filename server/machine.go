package server

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func (s *Server) machineRoutes(r *router) {
	r.addRaw(route{name: "getDiff", method: "GET", path: "/v1/agents/{id}/diff", failures: []int{400, 403, 404, 503},
		summary: "Get what an agent changed, as JSON or, with Accept: text/x-patch, as git prints it"},
		http.StatusOK, "text/x-patch", nil, s.diff)
	diff := r.api.OpenAPI().Paths["/v1/agents/{id}/diff"].Get.Responses["200"]
	diff.Content["application/json"] = &huma.MediaType{Schema: r.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Diff](), true, "Diff")}
	add(r, route{name: "listTerminals", method: "GET", path: "/v1/agents/{id}/terminals", failures: []int{400, 403, 404, 503},
		summary: "List the terminals of an agent's machine, how their commands fare, and the ports that its environment names"}, s.terminals)
	r.addRaw(route{name: "exec", method: "GET", path: "/v1/agents/{id}/exec", failures: []int{400, 403, 404},
		summary: "Run a command in an agent's machine, over a WebSocket (" + api.ExecProtocol + ")"},
		http.StatusSwitchingProtocols, "", nil, s.exec)
	r.addRaw(route{name: "attachTerminal", method: "GET", path: "/v1/agents/{id}/terminals/{name}", failures: []int{400, 403, 404},
		summary: "Look at and type into a terminal of an agent's machine, over a WebSocket (" + api.ExecProtocol + ")"},
		http.StatusSwitchingProtocols, "", nil, s.attach)
}

func (s *Server) diff(w http.ResponseWriter, r *http.Request) error {
	id, err := errand.ParseAgentID(r.PathValue("id"))
	if err != nil {
		return err
	}
	d, err := s.runner.Diff(r.Context(), whoIs(r.Context()).caller, id)
	if err != nil {
		return err
	}
	if accept := r.Header.Get("Accept"); strings.Contains(accept, "text/x-patch") || strings.Contains(accept, "text/plain") {
		w.Header().Set("Content-Type", "text/x-patch; charset=utf-8")
		_, err := w.Write(d.Patch)
		return err
	}
	out := api.Diff{Base: d.Base, Head: d.Head, Files: []api.DiffFile{}, Uncommitted: d.Uncommitted, Patch: string(d.Patch)}
	for _, f := range d.Files {
		out.Files = append(out.Files, api.DiffFile{Path: f.Path, OldPath: f.OldPath, Status: f.Status, Added: f.Added, Deleted: f.Deleted, Binary: f.Binary})
		out.Added += f.Added
		out.Deleted += f.Deleted
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(out)
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
		item := api.Terminal{Name: t.Name, Running: t.Running, ExitCode: t.ExitCode, Command: t.Command, Cols: t.Cols, Rows: t.Rows}
		if h := t.Tended; h != nil {
			item.Health = &api.TerminalHealth{Status: string(h.Status), Restarts: h.Restarts, Since: h.Since, Last: h.Last}
			if !h.Next.IsZero() {
				item.Health.Next = &h.Next
			}
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}
