package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// FileAt names a file or folder in an agent's machine. Every call on one wakes the
// machine where it sleeps.
type FileAt struct {
	Agent errand.AgentID
	Path  string // relative to Root; "" is Root itself
	Root  string // "" is /workspace; "/" is the whole machine
}

func (at FileAt) request(method, rest string) request {
	q := url.Values{"path": {at.Path}}
	if at.Root != "" {
		q.Set("root", at.Root)
	}
	return request{method: method, path: agentPath(at.Agent, "/files"+rest), query: q}
}

// Files gives one page of a folder, folders first. A limit of 0 is the server's
// choice; cursor is from the page before.
func (c *Client) Files(ctx context.Context, at FileAt, limit int, cursor string) (out api.Files, err error) {
	r := at.request("GET", "")
	for name, values := range paging(limit, cursor) {
		r.query[name] = values
	}
	err = c.call(ctx, r, &out)
	return out, err
}

// FileText gives a file as people see it, without secrets.
func (c *Client) FileText(ctx context.Context, at FileAt) (out api.FileText, err error) {
	err = c.call(ctx, at.request("GET", "/text"), &out)
	return out, err
}

// Download writes a file to w as it is.
func (c *Client) Download(ctx context.Context, at FileAt, w io.Writer) error {
	return c.copyOf(ctx, at.request("GET", "/content"), w)
}

// DownloadFolder writes a folder to w as an archive: tar.gz, tar or zip.
func (c *Client) DownloadFolder(ctx context.Context, at FileAt, format string, w io.Writer) error {
	r := at.request("GET", "/archive")
	r.query.Set("format", format)
	return c.copyOf(ctx, r, w)
}

func (c *Client) copyOf(ctx context.Context, r request, w io.Writer) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, arriving{resp.Body}); err != nil {
		var cut *cutError
		if errors.As(err, &cut) && ctx.Err() == nil {
			return &UnreachableError{URL: c.base.String(), Err: cut.err}
		}
		return err
	}
	return nil
}

// arriving tells errors of the connection from those of where it goes.
type arriving struct{ io.Reader }

type cutError struct{ err error }

func (e *cutError) Error() string { return e.err.Error() }

func (a arriving) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &cutError{err}
	}
	return n, err
}

// Upload makes content a file's. With a tag (of api.File) only while the file has
// that; "-" only if there is none. Else it is a Conflict, and nothing is changed.
func (c *Client) Upload(ctx context.Context, at FileAt, content io.Reader, tag string) (out api.File, err error) {
	r := at.request("PUT", "/content")
	r.stream, r.header = content, http.Header{}
	switch tag {
	case "":
	case "-":
		r.header.Set("If-None-Match", "*")
	default:
		r.header.Set("If-Match", `"`+tag+`"`)
	}
	err = c.call(ctx, r, &out)
	return out, err
}

// UploadFolder unpacks an archive (tar, tar.gz or zip) into a folder: all of its
// entries, or none.
func (c *Client) UploadFolder(ctx context.Context, at FileAt, archive io.Reader) (out api.Unpacked, err error) {
	r := at.request("POST", "/archive")
	r.stream = archive
	err = c.call(ctx, r, &out)
	return out, err
}

// MoveFile gives a file or folder another path below the same root.
func (c *Client) MoveFile(ctx context.Context, at FileAt, to string, replace bool) (out api.File, err error) {
	body := api.MoveFile{FileAt: api.FileAt{Path: at.Path, Root: at.Root}, To: to, Replace: replace}
	err = c.call(ctx, request{method: "POST", path: agentPath(at.Agent, "/files/move"), body: body}, &out)
	return out, err
}

// MakeFolder makes a folder, and those above it.
func (c *Client) MakeFolder(ctx context.Context, at FileAt) (out api.File, err error) {
	err = c.call(ctx, request{method: "POST", path: agentPath(at.Agent, "/files/folder"), body: api.FileAt{Path: at.Path, Root: at.Root}}, &out)
	return out, err
}

// DeleteFile deletes a file, or a folder with all that is in it.
func (c *Client) DeleteFile(ctx context.Context, at FileAt) error {
	return c.call(ctx, at.request("DELETE", ""), nil)
}

// Artifacts gives what an agent left for people, at most 100 files.
func (c *Client) Artifacts(ctx context.Context, agent errand.AgentID) (out api.Artifacts, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(agent, "/artifacts")}, &out)
	return out, err
}

// ArtifactLink gives a link to an artifact that needs no key, for a while.
func (c *Client) ArtifactLink(ctx context.Context, agent errand.AgentID, path string) (out api.ArtifactLink, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(agent, "/artifacts/download"), query: url.Values{"path": {path}}}, &out)
	return out, err
}
