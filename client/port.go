package client

import (
	"context"
	"net"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/api/tunnel"
)

// Ports lists the ports of the agent's machine. One that sleeps has none, and is
// not woken.
func (c *Client) Ports(ctx context.Context, agent errand.AgentID) (out api.Ports, err error) {
	err = c.call(ctx, request{method: "GET", path: agentPath(agent, "/ports")}, &out)
	return out, err
}

// OpenPreview gives a URL by which one browser looks at a port of the agent's
// machine, beginning at path; "" is its root.
func (c *Client) OpenPreview(ctx context.Context, agent errand.AgentID, port int, path string) (out api.Preview, err error) {
	err = c.call(ctx, request{method: "POST", path: agentPath(agent, "/ports/"+number(port)+"/preview"), body: api.OpenPreview{Path: path}}, &out)
	return out, err
}

// OpenEditor starts an editor in the agent's machine, which may take minutes where
// there is none yet, and gives a URL by which one browser uses it.
func (c *Client) OpenEditor(ctx context.Context, agent errand.AgentID) (out api.Preview, err error) {
	err = c.call(ctx, request{method: "POST", path: agentPath(agent, "/ide")}, &out)
	return out, err
}

// Forward joins conn with a port of the agent's machine, waking it where it
// sleeps, and returns when both directions have ended or ctx has. It closes conn
// unless it could not connect, which is an *UnreachableError or what the server
// says, such as that nothing listens. Another error is that a connection was cut.
func (c *Client) Forward(ctx context.Context, agent errand.AgentID, port int, conn net.Conn) error {
	ws, err := c.dial(ctx, agentPath(agent, "/ports/"+number(port)+"/connect"), tunnel.Protocol)
	if err != nil {
		return err
	}
	return tunnel.Join(ctx, ws, conn)
}
