package egress

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

const (
	// gatherFor is how long connections are gathered before they are told.
	gatherFor = 200 * time.Millisecond
	// maxGathered is how many different destinations are told at once; what is
	// beyond is told as one sum, so that a machine cannot flood a journal.
	maxGathered = 500
)

// Joined is a machine's network that ends here, and what it has to tell. The
// zero Joined is that of a machine which has none of ours.
type Joined struct {
	network *Network
	record  *gathering
}

// Join ends the network of a machine in this process, under policy, unless the
// machine's driver has a way out of its own. Connections that have ended are
// gathered: those to one destination that end at about the same time are told
// to write as one, with their number. write is called from one goroutine at a
// time and may block. The network lives until Close.
func (g *Gate) Join(ctx context.Context, m machine.Machine, policy Policy, write func([]errand.Connection)) (Joined, error) {
	n, ok := m.(machine.Networked)
	if !ok {
		return Joined{}, nil
	}
	link, err := n.Link(ctx)
	if err != nil {
		return Joined{}, fmt.Errorf("opening the network of machine %s: %w", m.Handle().ID, err)
	}
	j, err := g.JoinLink(ctx, link, policy, write)
	if err != nil {
		return Joined{}, errors.Join(fmt.Errorf("attaching the network of machine %s: %w", m.Handle().ID, err), link.File.Close())
	}
	return j, nil
}

// JoinLink is Join for a link that is open already. On an error it stays the
// caller's.
func (g *Gate) JoinLink(ctx context.Context, link *machine.Link, policy Policy, write func([]errand.Connection)) (Joined, error) {
	record := &gathering{tell: write}
	network, err := g.Attach(context.WithoutCancel(ctx), link, policy, record.add)
	if err != nil {
		return Joined{}, err
	}
	return Joined{network, record}, nil
}

// Close ends the network and tells its last connections.
func (j Joined) Close() error {
	if j.network == nil {
		return nil
	}
	err := j.network.Close()
	j.record.write()
	return err
}

// alike is what connections have in common that are told as one.
type alike struct {
	name, address, protocol, refused, failure string
	port                                      int
}

// gathering tells a machine's connections, those to one destination that end at
// about the same time as one.
type gathering struct {
	tell func([]errand.Connection)

	mu     sync.Mutex
	order  []alike
	sums   map[alike]*errand.Connection
	timer  *time.Timer // set while something is gathered
	writes sync.Mutex  // held while telling, so that they keep their order
}

// add takes a connection that has ended. It does not wait for tell.
func (c *gathering) add(n errand.Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := alike{n.Name, n.Address, n.Protocol, n.Refused, n.Error, n.Port}
	if c.sums == nil {
		c.sums = map[alike]*errand.Connection{}
		c.timer = time.AfterFunc(gatherFor, c.write)
	}
	if _, known := c.sums[d]; !known && len(c.order) >= maxGathered {
		d = alike{name: "(further destinations)", protocol: n.Protocol}
		n.Name, n.Address, n.Port, n.Refused, n.Error = d.name, "", 0, "", ""
	}
	sum, known := c.sums[d]
	if !known {
		c.sums[d] = &n
		c.order = append(c.order, d)
		return
	}
	sum.Count = max(sum.Count, 1) + 1
	sum.Sent += n.Sent
	sum.Received += n.Received
	sum.Ms = max(sum.Ms, n.Started.Add(time.Duration(n.Ms)*time.Millisecond).Sub(sum.Started).Milliseconds())
}

// write tells what was gathered, and blocks for as long as that takes.
func (c *gathering) write() {
	c.writes.Lock()
	defer c.writes.Unlock()
	c.mu.Lock()
	var told []errand.Connection
	for _, d := range c.order {
		told = append(told, *c.sums[d])
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.order, c.sums, c.timer = nil, nil, nil
	c.mu.Unlock()
	if len(told) > 0 {
		c.tell(told)
	}
}
