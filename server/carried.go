package server

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// carryRoutes are git's push, in its two halves, of work that only stands on a
// person's machine.
func (s *Server) carryRoutes(r *router) {
	url := []*huma.Param{{Name: "url", In: "query", Required: true, Schema: &huma.Schema{Type: huma.TypeString}, Description: "Repository URL, as for an agent."}}
	r.addRaw(route{name: "getCarried", method: "GET", path: "/v1/repositories/carried", failures: []int{400, 403, 404, 503},
		summary: "Tell git what the server has of a repository, as receive-pack does, before local work is carried there"},
		http.StatusOK, "application/octet-stream", url, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", "application/octet-stream")
			return s.runner.Mirrors.Carried(r.Context(), r.URL.Query().Get("url"), w)
		})
	r.addRaw(route{name: "carry", method: "POST", path: "/v1/repositories/carried", failures: []int{400, 403, 404, 413, 503},
		summary: "Take local work that git pushes, for an agent whose startingRef is its commit"},
		http.StatusOK, "application/octet-stream", url, func(w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", "application/octet-stream")
			return s.runner.Mirrors.Carry(r.Context(), r.URL.Query().Get("url"), r.Body, w)
		})
}
