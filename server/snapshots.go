package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// BySnapshot are the parameters of what is about one snapshot.
type BySnapshot struct {
	Key string `path:"key" maxLength:"80" doc:"A snapshot's name, its key, or the unique beginning of that."`
}

type editSnapshot struct {
	BySnapshot
	Body api.EditSnapshot
}

type deleteSnapshot struct {
	BySnapshot
	Force bool `query:"force" doc:"Also one that has a name, is an active build's or carries a running machine."`
}

type collect struct {
	Body *api.Collect `required:"false"`
}

func (s *Server) snapshotRoutes(r *router) {
	add(r, route{name: "listSnapshots", method: "GET", path: "/v1/snapshots", failures: []int{400, 403},
		summary: "List snapshots, newest first"}, s.listSnapshots)
	add(r, route{name: "listCollections", method: "GET", path: "/v1/snapshots/collections", failures: []int{400, 403},
		summary: "List what was removed to make room, newest first"}, s.listCollections)
	add(r, route{name: "collectSnapshots", method: "POST", path: "/v1/snapshots/collect", failures: []int{400, 403, 503},
		summary: "Remove what nothing leads to and, over the quota, what was not used for longest"}, s.collect)
	add(r, route{name: "getSnapshot", method: "GET", path: "/v1/snapshots/{key}", failures: []int{400, 403, 404, 409},
		summary: "Get a snapshot with its layers and who stands on it"}, s.getSnapshot)
	add(r, route{name: "editSnapshot", method: "PATCH", path: "/v1/snapshots/{key}", failures: []int{400, 403, 404, 409},
		summary: "Name a snapshot"}, s.editSnapshot)
	add(r, route{name: "deleteSnapshot", method: "DELETE", path: "/v1/snapshots/{key}", failures: []int{400, 403, 404, 409},
		summary: "Delete a snapshot; machines that stand on it keep what they need"}, s.deleteSnapshot)
	r.addRaw(route{name: "exportSnapshot", method: "GET", path: "/v1/snapshots/{key}/export", failures: []int{400, 403, 404, 409, 503},
		summary: "Get a snapshot as an OCI image archive. One that is cut off has no index.json"},
		http.StatusOK, api.MediaArchive, []*huma.Param{{
			Name: "host", In: "query", Schema: &huma.Schema{Type: huma.TypeBoolean},
			Description: "Put the host's own directories in, where the snapshot stands on them.",
		}}, s.exportSnapshot)
	text := &huma.Schema{Type: huma.TypeString}
	r.addRaw(route{name: "importSnapshot", method: "POST", path: "/v1/snapshots/import", failures: []int{400, 403, 404, 409, 503},
		summary: "Make a snapshot of an OCI image archive, which is the body, or of an image"},
		http.StatusCreated, "application/json", []*huma.Param{
			{Name: "name", In: "query", Schema: text, Description: "What to call it."},
			{Name: "image", In: "query", Schema: text, Description: "An image's reference, in place of a body."},
		}, s.importSnapshot)
}

func (s *Server) listSnapshots(ctx context.Context, w who, in *Page) (api.Snapshots, error) {
	items, next, err := s.runner.Snapshots.List(ctx, in.Limit, in.Cursor)
	return api.Snapshots{Items: items, NextCursor: next}, err
}

func (s *Server) listCollections(ctx context.Context, w who, in *Page) (api.Collections, error) {
	out := api.Collections{Items: []errand.Collection{}}
	var before int64
	if in.Cursor != "" {
		var err error
		if before, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil || before < 1 {
			return out, errand.Errorf(errand.Invalid, "validation_error", "The cursor %.80q is not one that this server gave.", in.Cursor)
		}
	}
	all, next, err := s.runner.Snapshots.Collections(ctx, in.Limit, before)
	out.Items = append(out.Items, all...)
	if next != 0 {
		out.NextCursor = strconv.FormatInt(next, 10)
	}
	return out, err
}

func (s *Server) collect(ctx context.Context, w who, in *collect) (errand.Collection, error) {
	return s.runner.Snapshots.Collect(ctx, "The key "+strconv.Quote(w.caller.Key)+" asked for it.", in.Body != nil && in.Body.DryRun)
}

func (s *Server) getSnapshot(ctx context.Context, w who, in *BySnapshot) (errand.Snapshot, error) {
	return s.runner.Snapshots.Snapshot(ctx, in.Key)
}

func (s *Server) editSnapshot(ctx context.Context, w who, in *editSnapshot) (errand.Snapshot, error) {
	return s.runner.Snapshots.Rename(ctx, in.Key, in.Body.Name)
}

func (s *Server) deleteSnapshot(ctx context.Context, w who, in *deleteSnapshot) (api.ID, error) {
	key, err := s.runner.Snapshots.Remove(ctx, in.Key, in.Force)
	return api.ID{ID: key}, err
}

// exportSnapshot streams an archive. A failure after its beginning cuts the
// connection, so that nobody takes what arrived for whole.
func (s *Server) exportSnapshot(w http.ResponseWriter, r *http.Request) error {
	host, err := flag(r, "host")
	if err != nil {
		return err
	}
	out := &begun{w: w}
	err = s.runner.Snapshots.Export(r.Context(), r.PathValue("key"), out, host, nil)
	if err == nil || !out.yes {
		return err
	}
	if r.Context().Err() == nil {
		s.log.Error("export was cut off", "snapshot", r.PathValue("key"), "error", err)
	}
	panic(http.ErrAbortHandler)
}

// begun sends the headers of an archive before its first byte.
type begun struct {
	w   http.ResponseWriter
	yes bool
}

// Write sends a piece of the archive.
func (b *begun) Write(p []byte) (int, error) {
	if !b.yes {
		b.yes = true
		b.w.Header().Set("Content-Type", api.MediaArchive)
		b.w.Header().Set("Content-Disposition", `attachment; filename="snapshot.oci.tar"`)
	}
	return b.w.Write(p)
}

func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, errand.Errorf(errand.Invalid, "validation_error", "%s is true or false, not %.20q.", name, text)
	}
	return on, nil
}

func (s *Server) importSnapshot(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	var archive io.Reader = r.Body
	if query.Get("image") != "" {
		archive = nil
	}
	snap, err := s.runner.Snapshots.Import(r.Context(), query.Get("name"), query.Get("image"), archive, nil)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	return json.NewEncoder(w).Encode(snap)
}
