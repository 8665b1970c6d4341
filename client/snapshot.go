package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func snapshotPath(ref, rest string) string { return "/v1/snapshots/" + url.PathEscape(ref) + rest }

// Snapshots gives one page of snapshots, newest first.
func (c *Client) Snapshots(ctx context.Context, limit int, cursor string) (out api.Snapshots, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/snapshots", query: paging(limit, cursor)}, &out)
	return out, err
}

// AllSnapshots gives snapshots, newest first, page by page as they are asked
// for.
func (c *Client) AllSnapshots(ctx context.Context) iter.Seq2[errand.Snapshot, error] {
	return pages(func(cursor string) ([]errand.Snapshot, string, error) {
		page, err := c.Snapshots(ctx, 100, cursor)
		return page.Items, page.NextCursor, err
	})
}

// Snapshot gives one snapshot by its name, its key, or the unique beginning of
// that; so do the calls below take it.
func (c *Client) Snapshot(ctx context.Context, ref string) (out errand.Snapshot, err error) {
	err = c.call(ctx, request{method: "GET", path: snapshotPath(ref, "")}, &out)
	return out, err
}

// NameSnapshot gives a snapshot a name; "" takes it away.
func (c *Client) NameSnapshot(ctx context.Context, ref, name string) (out errand.Snapshot, err error) {
	err = c.call(ctx, request{method: "PATCH", path: snapshotPath(ref, ""), body: api.EditSnapshot{Name: name}}, &out)
	return out, err
}

// DeleteSnapshot removes a snapshot; one that is pinned only with force.
func (c *Client) DeleteSnapshot(ctx context.Context, ref string, force bool) error {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	return c.call(ctx, request{method: "DELETE", path: snapshotPath(ref, ""), query: q}, new(api.ID))
}

// ExportSnapshot gives a snapshot as an OCI image archive, with the host's own
// directories if host is set. The caller closes it. What is cut off ends with an
// error and not with io.EOF.
func (c *Client) ExportSnapshot(ctx context.Context, ref string, host bool) (io.ReadCloser, error) {
	q := url.Values{}
	if host {
		q.Set("host", "true")
	}
	resp, err := c.send(ctx, request{method: "GET", path: snapshotPath(ref, "/export"), query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// ImportSnapshot makes a snapshot of an OCI image archive and names it; "" is no
// name.
func (c *Client) ImportSnapshot(ctx context.Context, name string, archive io.Reader) (out errand.Snapshot, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/snapshots/import", query: url.Values{"name": {name}},
		header: http.Header{"Content-Type": {api.MediaArchive}}, stream: archive}, &out)
	return out, err
}

// ImportImage makes a snapshot of an image that has a reference.
func (c *Client) ImportImage(ctx context.Context, name, image string) (out errand.Snapshot, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/snapshots/import", query: url.Values{"name": {name}, "image": {image}}}, &out)
	return out, err
}

// Collect makes room, or says what would go.
func (c *Client) Collect(ctx context.Context, dryRun bool) (out errand.Collection, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/snapshots/collect", body: api.Collect{DryRun: dryRun}}, &out)
	return out, err
}

// Collections gives one page of what was removed to make room, newest first.
func (c *Client) Collections(ctx context.Context, limit int, cursor string) (out api.Collections, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/snapshots/collections", query: paging(limit, cursor)}, &out)
	return out, err
}
