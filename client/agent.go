package client

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func agentPath(id errand.AgentID, rest string) string {
	return "/v1/agents/" + url.PathEscape(string(id)) + rest
}

func runPath(agent errand.AgentID, run errand.RunID, rest string) string {
	return agentPath(agent, "/runs/"+url.PathEscape(string(run))+rest)
}

func idempotency(key string) http.Header {
	if key == "" {
		return nil
	}
	return http.Header{http.CanonicalHeaderKey(api.HeaderIdempotencyKey): {key}}
}

// CreateAgent makes an agent and its first run. With an idempotency key ("" is
// none) the same call again gives the same agent.
func (c *Client) CreateAgent(ctx context.Context, req api.CreateAgent, idempotencyKey string) (out api.CreatedAgent, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/agents", body: req, header: idempotency(idempotencyKey)}, &out)
	return out, err
}

// CreateRun sends a follow-up.
func (c *Client) CreateRun(ctx context.Context, agent errand.AgentID, req api.CreateRun, idempotencyKey string) (out api.CreatedRun, err error) {
	err = c.call(ctx, request{method: "POST", path: agentPath(agent, "/runs"), body: req, header: idempotency(idempotencyKey)}, &out)
	return out, err
}

// Agent gives one agent.
func (c *Client) Agent(ctx context.Context, id errand.AgentID) (out api.Agent, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(id, "")}, &out)
	return out, err
}

// AgentQuery chooses agents for a list.
type AgentQuery struct {
	Limit           int    // of one page, 1 to 100; 0 is the server's choice
	Cursor          string // from the page before; "" for the first
	IncludeArchived bool   // archived ones too
}

// Agents gives one page of agents, newest first.
func (c *Client) Agents(ctx context.Context, q AgentQuery) (out api.Agents, err error) {
	query := paging(q.Limit, q.Cursor)
	query.Set("includeArchived", strconv.FormatBool(q.IncludeArchived))
	err = c.call(ctx, request{method: "GET", path: "/v1/agents", query: query}, &out)
	return out, err
}

// AllAgents gives agents, newest first, page by page as they are asked for.
func (c *Client) AllAgents(ctx context.Context, q AgentQuery) iter.Seq2[api.AgentSummary, error] {
	return func(yield func(api.AgentSummary, error) bool) {
		for {
			page, err := c.Agents(ctx, q)
			if err != nil {
				yield(api.AgentSummary{}, err)
				return
			}
			for _, a := range page.Items {
				if !yield(a, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			q.Cursor = page.NextCursor
		}
	}
}

func paging(limit int, cursor string) url.Values {
	query := url.Values{}
	if limit > 0 {
		query.Set("limit", number(limit))
	}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	return query
}

// Run gives one run.
func (c *Client) Run(ctx context.Context, agent errand.AgentID, run errand.RunID) (out api.Run, err error) {
	err = c.call(ctx, request{method: "GET", path: runPath(agent, run, "")}, &out)
	return out, err
}

// Runs gives one page of an agent's runs, newest first.
func (c *Client) Runs(ctx context.Context, agent errand.AgentID, limit int, cursor string) (out api.Runs, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(agent, "/runs"), query: paging(limit, cursor)}, &out)
	return out, err
}

// Cancel asks for a run's end.
func (c *Client) Cancel(ctx context.Context, agent errand.AgentID, run errand.RunID) error {
	return c.call(ctx, request{method: "POST", path: runPath(agent, run, "/cancel")}, new(api.ID))
}

// Archive puts an agent away; Unarchive takes it out again.
func (c *Client) Archive(ctx context.Context, id errand.AgentID) error {
	return c.call(ctx, request{method: "POST", path: agentPath(id, "/archive")}, new(api.ID))
}

// Unarchive makes an archived agent take runs again.
func (c *Client) Unarchive(ctx context.Context, id errand.AgentID) error {
	return c.call(ctx, request{method: "POST", path: agentPath(id, "/unarchive")}, new(api.ID))
}

// Delete removes an agent with its journal and its machine, for good.
func (c *Client) Delete(ctx context.Context, id errand.AgentID) error {
	return c.call(ctx, request{method: "DELETE", path: agentPath(id, "")}, new(api.ID))
}

// Usage gives what an agent used, run by run.
func (c *Client) Usage(ctx context.Context, id errand.AgentID) (out api.AgentUsage, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(id, "/usage")}, &out)
	return out, err
}

// Diff gives what the agent's branch adds to its base.
func (c *Client) Diff(ctx context.Context, id errand.AgentID) (out api.Diff, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(id, "/diff"), header: http.Header{"Accept": {"application/json"}}}, &out)
	return out, err
}

// Commits gives one page of what the agent's branch has beyond its base, newest
// first. A limit of 0 is the server's choice; cursor is from the page before.
func (c *Client) Commits(ctx context.Context, id errand.AgentID, limit int, cursor string) (out api.Commits, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(id, "/commits"), query: paging(limit, cursor)}, &out)
	return out, err
}

// Refs gives one page of the branches and tags of the repository at url whose
// names contain part; the server asks the repository's remote.
func (c *Client) Refs(ctx context.Context, url, part string, limit int, cursor string) (out api.Refs, err error) {
	query := paging(limit, cursor)
	query.Set("url", url)
	if part != "" {
		query.Set("q", part)
	}
	err = c.call(ctx, request{method: "GET", path: "/v1/repositories/refs", query: query}, &out)
	return out, err
}

// Patch writes the agent's difference to w, as git prints it.
func (c *Client) Patch(ctx context.Context, id errand.AgentID, w io.Writer) error {
	resp, err := c.send(ctx, request{method: "GET", path: agentPath(id, "/diff"), header: http.Header{"Accept": {"text/x-patch"}}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// Terminals gives the terminals of the agent's machine.
func (c *Client) Terminals(ctx context.Context, id errand.AgentID) (out api.Terminals, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(id, "/terminals")}, &out)
	return out, err
}

// OpenTerminal makes a terminal in the agent's machine, waking it where it sleeps: a
// shell. "" lets the server choose a name.
func (c *Client) OpenTerminal(ctx context.Context, id errand.AgentID, name string) (out api.Terminal, err error) {
	err = c.call(ctx, request{method: "POST", path: agentPath(id, "/terminals"), body: api.OpenTerminal{Name: name}}, &out)
	return out, err
}

// CloseTerminal ends a terminal and what runs in it; again is no error.
func (c *Client) CloseTerminal(ctx context.Context, id errand.AgentID, name string) error {
	return c.call(ctx, request{method: "DELETE", path: agentPath(id, "/terminals/"+url.PathEscape(name))}, nil)
}

// TerminalHistory gives what a terminal has shown: its screen and at most so many
// lines before it.
func (c *Client) TerminalHistory(ctx context.Context, id errand.AgentID, name string, lines int) (out api.TerminalHistory, err error) {
	query := url.Values{"lines": {strconv.Itoa(lines)}}
	err = c.call(ctx, request{method: "GET", path: agentPath(id, "/terminals/"+url.PathEscape(name)+"/history"), query: query}, &out)
	return out, err
}

// Me says whose key the client has.
func (c *Client) Me(ctx context.Context) (out api.Me, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/me"}, &out)
	return out, err
}

// SignInCode makes a word that lets one browser in, once, within two minutes.
func (c *Client) SignInCode(ctx context.Context) (out api.SignInCode, err error) {
	err = c.call(ctx, request{method: "POST", path: "/v1/sign-in-codes"}, &out)
	return out, err
}

// Models gives the models that can be named.
func (c *Client) Models(ctx context.Context) (out api.Models, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/models"}, &out)
	return out, err
}

// Health says how the server is.
func (c *Client) Health(ctx context.Context) (out api.Health, err error) {
	err = c.call(ctx, request{method: "GET", path: "/v1/health"}, &out)
	return out, err
}
