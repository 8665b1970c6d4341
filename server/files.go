package server

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/server/files"
)

// FilePath names a file of an agent's machine.
type FilePath struct {
	ByID
	Path string `query:"path" maxLength:"4096" doc:"Relative to root; empty is root itself."`
	Root string `query:"root" enum:"/workspace,/" doc:"/workspace when left out, or / for the whole machine."`
}

type (
	listFiles struct {
		FilePath
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"500"`
		Cursor string `query:"cursor" doc:"Pagination cursor from the previous response."`
	}
	moveFile struct {
		ByID
		Body api.MoveFile
	}
	makeFolder struct {
		ByID
		Body api.FileAt
	}
	artifactPath struct {
		ByID
		Path string `query:"path" required:"true" minLength:"1" maxLength:"5000"`
	}
)

// filePath are the parameters of routes that write their answers themselves.
func filePath(more ...*huma.Param) []*huma.Param {
	text := &huma.Schema{Type: huma.TypeString}
	return append([]*huma.Param{
		{Name: "path", In: "query", Schema: text, Description: "Relative to root; empty is root itself."},
		{Name: "root", In: "query", Schema: text, Description: "/workspace when left out, or / for the whole machine."},
	}, more...)
}

func (s *Server) fileRoutes(r *router) {
	const base = "/v1/agents/{id}/files"
	failures := []int{400, 403, 404, 503}
	changes := []int{400, 403, 404, 409, 413, 503}
	add(r, route{name: "listFiles", method: "GET", path: base, failures: failures,
		summary: "List a folder of an agent's machine, waking it where it sleeps"}, s.listFiles)
	add(r, route{name: "getFileText", method: "GET", path: base + "/text", failures: failures,
		summary: "Show a file as text, without secrets, at most 1 MiB of it"}, s.fileText)
	add(r, route{name: "moveFile", method: "POST", path: base + "/move", failures: changes,
		summary: "Rename or move a file or folder"}, s.moveFile)
	add(r, route{name: "makeFolder", method: "POST", path: base + "/folder", failures: changes,
		summary: "Make a folder"}, s.makeFolder)
	addEmpty(r, route{name: "deleteFile", method: "DELETE", path: base, failures: changes,
		summary: "Delete a file, or a folder with all that is in it"}, s.deleteFile)
	r.addRaw(route{name: "downloadFile", method: "GET", path: base + "/content", failures: append(failures, 416),
		summary: "Download a file as it is; takes Range"}, http.StatusOK, "application/octet-stream", filePath(), s.downloadFile)
	r.addRaw(route{name: "uploadFile", method: "PUT", path: base + "/content", failures: changes,
		summary: "Make the body a file's content; with If-Match only while that has the tag, with If-None-Match: * only if it is new"},
		http.StatusOK, "application/json", filePath(), s.uploadFile)
	r.addRaw(route{name: "downloadFolder", method: "GET", path: base + "/archive", failures: failures, summary: "Download a folder as an archive"},
		http.StatusOK, "application/octet-stream", filePath(&huma.Param{Name: "format", In: "query", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"tar.gz", "tar", "zip"}}}), s.downloadFolder)
	r.addRaw(route{name: "uploadFolder", method: "POST", path: base + "/archive", failures: changes,
		summary: "Unpack the body, a tar, tar.gz or zip archive, into a folder: all of it, or nothing"},
		http.StatusOK, "application/json", filePath(), s.uploadFolder)
	r.addRaw(route{name: "streamFileChanges", method: "GET", path: base + "/changes", failures: failures,
		summary: "Watch a folder for changes (SSE); the machine stays awake meanwhile"},
		http.StatusOK, "text/event-stream", filePath(), s.fileChanges)
	s.artifactRoutes(r)
}

func (s *Server) artifactRoutes(r *router) {
	failures := []int{400, 403, 404, 503}
	add(r, route{name: "listArtifacts", method: "GET", path: "/v1/agents/{id}/artifacts", failures: failures,
		summary: "List artifacts"}, s.artifacts)
	add(r, route{name: "downloadArtifact", method: "GET", path: "/v1/agents/{id}/artifacts/download", failures: failures,
		summary: "Get a link to an artifact, good for 15 minutes"}, s.artifactLink)
	add(r, route{name: "listAgentArtifacts", method: "GET", path: "/v0/agents/{id}/artifacts", failures: failures,
		summary: "List artifacts, by their paths in the machine"}, s.artifactsV0)
	add(r, route{name: "getAgentArtifact", method: "GET", path: "/v0/agents/{id}/artifacts/download", failures: failures,
		summary: "Get a link to an artifact, good for 15 minutes"}, s.artifactLink)
	r.addRaw(route{name: "followArtifactLink", method: "GET", path: files.LinkPath + "{id}", failures: append(failures, 410, 416),
		summary: "Download an artifact by a link that the server made; needs no key"},
		http.StatusOK, "application/octet-stream", nil, s.files.Follow)
	r.api.OpenAPI().Paths[files.LinkPath+"{id}"].Get.Security = []map[string][]string{{}}
}

// place gives the file that a request names in its query.
func (s *Server) place(r *http.Request) (files.Place, error) {
	q := r.URL.Query()
	return s.files.At(r.Context(), whoIs(r.Context()).caller, r.PathValue("id"), q.Get("root"), q.Get("path"))
}

func (s *Server) listFiles(ctx context.Context, w who, in *listFiles) (api.Files, error) {
	at, err := s.files.At(ctx, w.caller, in.ID, in.Root, in.Path)
	if err != nil {
		return api.Files{}, err
	}
	return s.files.List(ctx, at, in.Limit, in.Cursor)
}

func (s *Server) fileText(ctx context.Context, w who, in *FilePath) (api.FileText, error) {
	at, err := s.files.At(ctx, w.caller, in.ID, in.Root, in.Path)
	if err != nil {
		return api.FileText{}, err
	}
	return s.files.Text(ctx, at)
}

func (s *Server) moveFile(ctx context.Context, w who, in *moveFile) (api.File, error) {
	at, err := s.files.At(ctx, w.caller, in.ID, in.Body.Root, in.Body.Path)
	if err != nil {
		return api.File{}, err
	}
	return s.files.Move(ctx, at, in.Body.To, in.Body.Replace)
}

func (s *Server) makeFolder(ctx context.Context, w who, in *makeFolder) (api.File, error) {
	at, err := s.files.At(ctx, w.caller, in.ID, in.Body.Root, in.Body.Path)
	if err != nil {
		return api.File{}, err
	}
	return s.files.Folder(ctx, at)
}

func (s *Server) deleteFile(ctx context.Context, w who, in *FilePath) error {
	at, err := s.files.At(ctx, w.caller, in.ID, in.Root, in.Path)
	if err != nil {
		return err
	}
	return s.files.Remove(ctx, at)
}

func (s *Server) downloadFile(w http.ResponseWriter, r *http.Request) error {
	at, err := s.place(r)
	if err != nil {
		return err
	}
	return s.files.Download(w, r, at)
}

func (s *Server) uploadFile(w http.ResponseWriter, r *http.Request) error {
	at, err := s.place(r)
	if err != nil {
		return err
	}
	file, err := s.files.Upload(r, at)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", `"`+file.Tag+`"`)
	return json.NewEncoder(w).Encode(file)
}

func (s *Server) downloadFolder(w http.ResponseWriter, r *http.Request) error {
	at, err := s.place(r)
	if err != nil {
		return err
	}
	return s.files.Pack(w, r, at, r.URL.Query().Get("format"))
}

func (s *Server) uploadFolder(w http.ResponseWriter, r *http.Request) error {
	at, err := s.place(r)
	if err != nil {
		return err
	}
	done, err := s.files.Unpack(r, at)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(done)
}

// fileChanges streams what changes. The stream begins when the machine watches, so
// that an error before is answered as one.
func (s *Server) fileChanges(w http.ResponseWriter, r *http.Request) error {
	at, err := s.place(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	changes := make(chan api.FileChanges)
	ended := make(chan error, 1)
	go func() {
		ended <- s.files.Watch(ctx, at, func(c api.FileChanges) error {
			select {
			case changes <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	defer func() {
		cancel()
		<-ended
	}()
	return s.tellChanges(ctx, w, changes, ended)
}

func (s *Server) tellChanges(ctx context.Context, w http.ResponseWriter, changes <-chan api.FileChanges, ended chan error) error {
	var out *sse
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	for {
		var m api.Message
		select {
		case c := <-changes:
			m = api.Message{Event: api.StreamFiles, Data: c}
		case <-beat.C:
			m = api.Message{Event: api.StreamHeartbeat, Data: struct{}{}}
		case err := <-ended:
			ended <- nil // for whoever waits
			if out != nil || ctx.Err() != nil {
				return nil // the client asks again, and is told
			}
			return err
		}
		if out == nil {
			if m.Event == api.StreamHeartbeat {
				continue
			}
			out = newSSE(w)
		}
		if out.put(m) != nil || out.flush() != nil {
			return nil // the reader is gone
		}
	}
}

func (s *Server) artifacts(ctx context.Context, w who, in *ByID) (api.Artifacts, error) {
	all, err := s.files.Artifacts(ctx, w.caller, in.ID)
	return api.Artifacts{Items: all}, err
}

func (s *Server) artifactsV0(ctx context.Context, w who, in *ByID) (api.ArtifactsV0, error) {
	out := api.ArtifactsV0{Artifacts: []api.ArtifactV0{}}
	all, err := s.files.Artifacts(ctx, w.caller, in.ID)
	for _, a := range all {
		out.Artifacts = append(out.Artifacts, api.ArtifactV0{AbsolutePath: guest.Artifacts + a.Path[len("artifacts"):], SizeBytes: a.SizeBytes, UpdatedAt: a.UpdatedAt})
	}
	return out, err
}

func (s *Server) artifactLink(ctx context.Context, w who, in *artifactPath) (api.ArtifactLink, error) {
	return s.files.Link(ctx, w.caller, in.ID, in.Path)
}
