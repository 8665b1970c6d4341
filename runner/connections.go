package runner

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
)

const (
	// gather is how long connections are gathered before they are written.
	gather = 200 * time.Millisecond
	// maxGathered is how many different destinations one writing tells; what is
	// beyond is told as one sum, so that a machine cannot flood the journal.
	maxGathered = 500
)

// destination is what connections have in common that are told as one.
type destination struct {
	name, address, protocol, refused, failure string
	port                                      int
}

// connections writes an agent's connections into its journal: those to one
// destination that end at about the same time as one event, with their number.
type connections struct {
	journal *journal.Journal
	agent   errand.AgentID
	log     *slog.Logger

	mu     sync.Mutex
	order  []destination
	sums   map[destination]*errand.Connection
	timer  *time.Timer // set while something is gathered
	writes sync.Mutex  // held while writing, so that events keep their order
}

// add takes a connection that has ended. It does not block on the journal.
func (c *connections) add(n errand.Connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := destination{n.Name, n.Address, n.Protocol, n.Refused, n.Error, n.Port}
	if c.sums == nil {
		c.sums = map[destination]*errand.Connection{}
		c.timer = time.AfterFunc(gather, c.write)
	}
	if _, known := c.sums[d]; !known && len(c.order) >= maxGathered {
		d = destination{name: "(further destinations)", protocol: n.Protocol}
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

// write tells what was gathered. It blocks until it is in the journal.
func (c *connections) write() {
	c.writes.Lock()
	defer c.writes.Unlock()
	c.mu.Lock()
	var facts []errand.Fact
	for _, d := range c.order {
		facts = append(facts, errand.Fact{Kind: errand.EventConnection, Data: *c.sums[d]})
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.order, c.sums, c.timer = nil, nil, nil
	c.mu.Unlock()
	// A connection may end when its agent is deleted already.
	if _, err := c.journal.Append(context.Background(), c.agent, "", facts...); err != nil && errand.KindOf(err) != errand.NotFound {
		c.log.Error("cannot record connections", "agent", c.agent, "connections", len(facts), "error", err)
	}
}
