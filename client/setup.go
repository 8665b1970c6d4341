package client

import (
	"context"
	"iter"
	"net/url"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func setupPath(id errand.SetupID, rest string) string {
	return "/v1/setups/" + url.PathEscape(string(id)) + rest
}

// CreateSetup begins the setup of a repository's environment.
func (c *Client) CreateSetup(ctx context.Context, req api.CreateSetup) (out api.Setup, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/setups", body: req}, &out)
	return out, err
}

// Setup gives one setup.
func (c *Client) Setup(ctx context.Context, id errand.SetupID) (out api.Setup, err error) {
	err = c.call(ctx, request{method: "GET", path: setupPath(id, "")}, &out)
	return out, err
}

// Setups gives one page of setups, newest first.
func (c *Client) Setups(ctx context.Context, limit int, cursor string) (out api.Setups, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/setups", query: paging(limit, cursor)}, &out)
	return out, err
}

// AllSetups gives setups, newest first, page by page as they are asked for.
func (c *Client) AllSetups(ctx context.Context) iter.Seq2[api.Setup, error] {
	return pages(func(cursor string) ([]api.Setup, string, error) {
		page, err := c.Setups(ctx, 100, cursor)
		return page.Items, page.NextCursor, err
	})
}

// EditSetup changes a setup's draft.
func (c *Client) EditSetup(ctx context.Context, id errand.SetupID, req api.EditSetup) (out api.Setup, err error) {
	err = c.call(ctx, request{method: "PATCH", path: setupPath(id, ""), body: req}, &out)
	return out, err
}

// OpenSetup opens a machine for work on a setup's draft.
func (c *Client) OpenSetup(ctx context.Context, id errand.SetupID, req api.OpenSetup) (out api.Setup, err error) {
	err = c.call(ctx, request{method: "POST", path: setupPath(id, "/open"), body: req}, &out)
	return out, err
}

// ProveSetup asks for a proof of a setup's draft.
func (c *Client) ProveSetup(ctx context.Context, id errand.SetupID, req api.ProveSetup) (out api.Setup, err error) {
	err = c.call(ctx, request{method: "POST", path: setupPath(id, "/prove"), body: req}, &out)
	return out, err
}

// AcceptSetup asks for a setup's draft to be written.
func (c *Client) AcceptSetup(ctx context.Context, id errand.SetupID, req api.AcceptSetup) (out api.Setup, err error) {
	err = c.call(ctx, request{method: "POST", path: setupPath(id, "/accept"), body: req}, &out)
	return out, err
}

// DeleteSetup ends a setup and removes its machines.
func (c *Client) DeleteSetup(ctx context.Context, id errand.SetupID) error {
	return c.call(ctx, request{method: "DELETE", path: setupPath(id, "")}, new(api.ID))
}

// FollowSetup gives a setup's events after a number and then each as it is
// written, until ctx ends or the setup is deleted. It reconnects as Follow does.
func (c *Client) FollowSetup(ctx context.Context, id errand.SetupID, after errand.Seq) iter.Seq2[errand.Event, error] {
	return c.follow(ctx, setupPath(id, "/journal"), after)
}
