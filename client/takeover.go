package client

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// Takeover takes an agent over, or for longer. It returns when the machine's state
// is recorded, or after half a minute without. Where somebody else has the agent it
// is a Conflict, unless o says that it be taken from them.
func (c *Client) Takeover(ctx context.Context, id errand.AgentID, o api.TakeOver) (out api.Takeover, err error) {
	err = c.call(ctx, request{method: "POST", path: agentPath(id, "/takeover"), body: o}, &out)
	return out, err
}

// Handback hands an agent back, and gives what it is told of what was done.
func (c *Client) Handback(ctx context.Context, id errand.AgentID, o api.HandBack) (out api.HandedBack, err error) {
	err = c.call(ctx, request{method: "POST", path: agentPath(id, "/handback"), body: o}, &out)
	return out, err
}

// Presence says who is at an agent just now.
func (c *Client) Presence(ctx context.Context, id errand.AgentID) (out api.Presence, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(id, "/presence")}, &out)
	return out, err
}
