package inside

import (
	"slices"

	"github.com/errand-dev/errand/guest/wire"
)

// op is a change to files that was asked for by an id: under way, or done.
type op struct {
	done   chan struct{} // closed when result and fault are set
	result any
	fault  *wire.Fault
	size   int64 // bytes of contents that result holds
}

// ops are all of them that nobody has forgotten. The guest's lock guards them.
type ops struct {
	byID  map[string]*op
	order []string // oldest first; may name some that were forgotten
	size  int64
}

const (
	maxOps     = 50000
	maxOpsSize = 64 << 20 // bytes of contents
)

// once does what id stands for, or waits for and gives the result of the first
// time that it was asked.
func once[R any](g *Guest, id string, do func() (R, error)) (R, error) {
	var none R
	if err := checkID(id); err != nil {
		return none, err
	}
	g.mu.Lock()
	o := g.ops.byID[id]
	if o == nil {
		if err := g.admitOpLocked(id); err != nil {
			g.mu.Unlock()
			return none, err
		}
		o = &op{done: make(chan struct{})}
		g.ops.byID[id] = o
		g.ops.order = append(g.ops.order, id)
		g.mu.Unlock()
		g.perform(o, func() (any, error) { return do() })
	} else {
		g.mu.Unlock()
	}
	<-o.done
	if o.fault != nil {
		return none, o.fault
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	result, ok := o.result.(R)
	if !ok {
		return none, faultf(wire.CodeInvalid, "%s is the id of something else", id)
	}
	return result, nil
}

func (g *Guest) admitOpLocked(id string) error {
	switch {
	case g.used.has(id):
		return faultf(wire.CodeForgotten, "%s was done and forgotten", id)
	case g.processes[id] != nil:
		return faultf(wire.CodeInvalid, "%s is the id of a command", id)
	case len(g.ops.byID) >= maxOps:
		return faultf(wire.CodeTooLarge, "the guest keeps the results of %d changes; forget some", maxOps)
	}
	return nil
}

// perform does an op and keeps its result.
func (g *Guest) perform(o *op, do func() (any, error)) {
	defer close(o.done)
	result, err := do()
	if err != nil {
		o.fault = fault(err)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	o.result = result
	if change, ok := result.(wire.ChangeResult); ok {
		for _, f := range change.Files {
			o.size += int64(len(f.Before) + len(f.After))
		}
		g.ops.size += o.size
		g.ops.thin()
	}
}

// thin takes the contents, which are only for showing, out of the oldest
// results where all of them together are too large.
func (s *ops) thin() {
	for _, id := range s.order {
		if s.size <= maxOpsSize {
			return
		}
		o := s.byID[id]
		if o == nil || o.size == 0 {
			continue
		}
		change := o.result.(wire.ChangeResult)
		// The old one may be on its way to a server now.
		change.Files = slices.Clone(change.Files)
		for i := range change.Files {
			change.Files[i].Before, change.Files[i].After, change.Files[i].Truncated = nil, nil, true
		}
		o.result = change
		s.size -= o.size
		o.size = 0
	}
}

// forget drops one result.
func (s *ops) forget(id string) {
	o := s.byID[id]
	if o == nil {
		return
	}
	s.size -= o.size
	delete(s.byID, id)
	if len(s.order) > 2*len(s.byID)+64 {
		s.order = slices.DeleteFunc(s.order, func(id string) bool { return s.byID[id] == nil })
	}
}
