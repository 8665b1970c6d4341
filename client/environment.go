package client

import (
	"context"
	"iter"
	"net/url"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func environmentPath(id errand.EnvironmentID, rest string) string {
	return "/v1/environments/" + url.PathEscape(string(id)) + rest
}

func buildPath(environment errand.EnvironmentID, build errand.BuildID, rest string) string {
	return environmentPath(environment, "/builds/"+url.PathEscape(string(build))+rest)
}

// CreateEnvironment stores an environment.
func (c *Client) CreateEnvironment(ctx context.Context, req api.CreateEnvironment) (out api.Environment, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/environments", body: req}, &out)
	return out, err
}

// Environment gives one environment.
func (c *Client) Environment(ctx context.Context, id errand.EnvironmentID) (out api.Environment, err error) {
	err = c.call(ctx, request{method: "GET", path: environmentPath(id, "")}, &out)
	return out, err
}

// Environments gives one page of environments, newest first.
func (c *Client) Environments(ctx context.Context, limit int, cursor string) (out api.Environments, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/environments", query: paging(limit, cursor)}, &out)
	return out, err
}

// AllEnvironments gives environments, newest first, page by page as they are
// asked for.
func (c *Client) AllEnvironments(ctx context.Context) iter.Seq2[api.EnvironmentSummary, error] {
	return pages(func(cursor string) ([]api.EnvironmentSummary, string, error) {
		page, err := c.Environments(ctx, 100, cursor)
		return page.Items, page.NextCursor, err
	})
}

// pages gives the items of all pages.
func pages[T any](page func(cursor string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := ""; ; {
			items, next, err := page(cursor)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			cursor = next
		}
	}
}

// EditEnvironment changes an environment.
func (c *Client) EditEnvironment(ctx context.Context, id errand.EnvironmentID, req api.EditEnvironment) error {
	return c.call(ctx, request{method: "PATCH", path: environmentPath(id, ""), body: req}, nil)
}

// CheckEnvironment says what is odd about the text of an environment file.
func (c *Client) CheckEnvironment(ctx context.Context, req api.CheckEnvironment) (out api.EnvironmentCheck, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/environments/check", body: req}, &out)
	return out, err
}

// DeleteEnvironment removes an environment; its history stays.
func (c *Client) DeleteEnvironment(ctx context.Context, id errand.EnvironmentID) error {
	return c.call(ctx, request{method: "DELETE", path: environmentPath(id, "")}, new(api.ID))
}

// EnvironmentHistory gives one page of an environment's versions, newest first.
func (c *Client) EnvironmentHistory(ctx context.Context, id errand.EnvironmentID, limit int, cursor string) (out api.EnvironmentHistory, err error) {
	err = c.call(ctx, request{method: "GET", path: environmentPath(id, "/history"), query: paging(limit, cursor)}, &out)
	return out, err
}

// EnvironmentDiff gives what a version changed against another; "" is the one
// before.
func (c *Client) EnvironmentDiff(ctx context.Context, id errand.EnvironmentID, version, against errand.VersionID) (out api.EnvironmentDiff, err error) {
	query := url.Values{}
	if against != "" {
		query.Set("against", string(against))
	}
	err = c.call(ctx, request{method: "GET", path: environmentPath(id, "/history/"+url.PathEscape(string(version))+"/diff"), query: query}, &out)
	return out, err
}

// RestoreEnvironment makes an earlier version the current one again.
func (c *Client) RestoreEnvironment(ctx context.Context, id errand.EnvironmentID, version errand.VersionID) (out api.Environment, err error) {
	err = c.call(ctx, request{method: "POST", path: environmentPath(id, "/history/"+url.PathEscape(string(version))+"/restore")}, &out)
	return out, err
}

// CreateBuild queues a build.
func (c *Client) CreateBuild(ctx context.Context, environment errand.EnvironmentID, req api.CreateBuild) (out api.Build, err error) {
	err = c.call(ctx, request{method: "POST", path: environmentPath(environment, "/builds"), body: req}, &out)
	return out, err
}

// Build gives one build.
func (c *Client) Build(ctx context.Context, environment errand.EnvironmentID, id errand.BuildID) (out api.Build, err error) {
	err = c.call(ctx, request{method: "GET", path: buildPath(environment, id, "")}, &out)
	return out, err
}

// Builds gives one page of an environment's builds, newest first.
func (c *Client) Builds(ctx context.Context, environment errand.EnvironmentID, limit int, cursor string) (out api.Builds, err error) {
	err = c.call(ctx, request{method: "GET", path: environmentPath(environment, "/builds"), query: paging(limit, cursor)}, &out)
	return out, err
}

// AllBuilds gives an environment's builds, newest first, page by page as they
// are asked for.
func (c *Client) AllBuilds(ctx context.Context, environment errand.EnvironmentID) iter.Seq2[api.Build, error] {
	return pages(func(cursor string) ([]api.Build, string, error) {
		page, err := c.Builds(ctx, environment, 100, cursor)
		return page.Items, page.NextCursor, err
	})
}

// ActiveBuild says what agents of an environment start on.
func (c *Client) ActiveBuild(ctx context.Context, environment errand.EnvironmentID) (out api.ActiveBuild, err error) {
	err = c.call(ctx, request{method: "GET", path: environmentPath(environment, "/builds/active")}, &out)
	return out, err
}

// CancelBuild asks for a build's end.
func (c *Client) CancelBuild(ctx context.Context, environment errand.EnvironmentID, id errand.BuildID) error {
	return c.call(ctx, request{method: "POST", path: buildPath(environment, id, "/cancel")}, new(api.ID))
}

// ActivateBuild makes a build the one that agents start on.
func (c *Client) ActivateBuild(ctx context.Context, environment errand.EnvironmentID, id errand.BuildID) error {
	return c.call(ctx, request{method: "POST", path: buildPath(environment, id, "/activate")}, new(api.ID))
}

// DeactivateBuild lets agents do without the active build.
func (c *Client) DeactivateBuild(ctx context.Context, environment errand.EnvironmentID, id errand.BuildID) error {
	return c.call(ctx, request{method: "POST", path: buildPath(environment, id, "/deactivate")}, new(api.ID))
}

// Boot gives how an agent's machine became ready for a run; "" is the latest.
func (c *Client) Boot(ctx context.Context, agent errand.AgentID, run errand.RunID) (out api.Boot, err error) {
	query := url.Values{}
	if run != "" {
		query.Set("run", string(run))
	}
	err = c.call(ctx, request{method: "GET", path: agentPath(agent, "/boot"), query: query}, &out)
	return out, err
}
