package runner

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/handover"
	"github.com/errand-dev/errand/presence"
)

// keys are what a visitor types.
type keys struct {
	io.Reader
	visit *presence.Visit
}

// Read passes on what is typed, and notes that it is.
func (k keys) Read(b []byte) (int, error) {
	n, err := k.Reader.Read(b)
	if n > 0 {
		k.visit.Typed()
	}
	return n, err
}

// showPeople has the machine's terminals show who is at the agent, as that changes,
// until end is called, which ends the visit.
func (r *Runner) showPeople(ctx context.Context, line *guest.Line, v *presence.Visit) (end func()) {
	watching, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			changed := v.Changed() // before showing, so that nothing falls between
			r.showStatusOf(watching, line, v.Agent())
			select {
			case <-changed:
			case <-watching.Done():
				return
			}
		}
	})
	return func() {
		stop()
		work.Wait()
		v.Leave()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		r.showStatusOf(last, line, v.Agent())
	}
}

// showStatusOf brings what the terminals show up to date.
func (r *Runner) showStatusOf(ctx context.Context, line *guest.Line, id errand.AgentID) {
	agent, err := r.Store.Agent(ctx, id)
	if err == nil {
		if text := r.statusOf(agent.Takeover, id); text != line.Status() {
			err = line.SetStatus(ctx, text)
		}
	}
	if err != nil && ctx.Err() == nil {
		r.Log.Debug("showing in terminals who is there", "agent", id, "err", err) // the machine has ended, or the agent
	}
}

// statusOf is what the terminals of an agent are to show.
func (r *Runner) statusOf(held *errand.Takeover, id errand.AgentID) string {
	people, _ := r.Rooms.Here(id)
	var names []string
	for _, p := range people {
		if name := p.Caller.Called(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return handover.Status(held, names)
}
