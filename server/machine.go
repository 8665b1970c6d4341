package server

import (
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
	r.addRaw(route{name: "exec", method: "GET", path: "/v1/agents/{id}/exec", failures: []int{400, 403, 404},
		summary: "Run a command in an agent's machine, over a WebSocket (" + api.ExecProtocol + ")"},
		http.StatusSwitchingProtocols, "", nil, s.exec)
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
