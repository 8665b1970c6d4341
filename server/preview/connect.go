package preview

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
)

// maxOpen bounds the connections into one machine. They share the line that its
// commands and files are on, and a page can ask for any number of sockets.
const maxOpen = 200

// connect connects to a port of a machine's loopback, of the address family that
// something listens on.
func (p *Previews) connect(ctx context.Context, caller errand.Caller, t Target) (net.Conn, error) {
	if !p.open.take(t.Agent) {
		return nil, errand.Errorf(errand.Limited, "too_many_connections", "There are %d connections to ports of agent %s, and at most that many are allowed at once. Close some: tabs that show its ports, and `errand port`.", maxOpen, t.Agent)
	}
	conn, err := p.dialEither(ctx, caller, t)
	if err != nil {
		p.open.give(t.Agent)
		return nil, err
	}
	return &counted{Conn: conn, done: sync.OnceFunc(func() { p.open.give(t.Agent) })}, nil
}

func (p *Previews) dialEither(ctx context.Context, caller errand.Caller, t Target) (net.Conn, error) {
	port := strconv.Itoa(t.Port)
	conn, err := p.runner.Dial(ctx, caller, t.Agent, net.JoinHostPort("127.0.0.1", port))
	if errors.Is(err, guest.ErrRefused) {
		if six, err := p.runner.Dial(ctx, caller, t.Agent, net.JoinHostPort("::1", port)); err == nil {
			return six, nil
		}
	}
	return conn, err
}

// connections count those that are open, by agent. The zero value has none.
type connections struct {
	mu  sync.Mutex
	all map[errand.AgentID]int
}

// take counts one more, and says whether there may be.
func (c *connections) take(id errand.AgentID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[id] == maxOpen {
		return false
	}
	if c.all == nil {
		c.all = map[errand.AgentID]int{}
	}
	c.all[id]++
	return true
}

func (c *connections) give(id errand.AgentID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[id]--; c.all[id] == 0 {
		delete(c.all, id)
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	done func()
}

// Close ends it.
func (c *counted) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// CloseWrite ends what is sent, and leaves what is received.
func (c *counted) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
