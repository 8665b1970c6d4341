package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// measureMemory reads what a server holds: with agents that have done a run and
// whose machines are stopped, just after the work and after a rest; after a
// restart; and with machines that run.
func measureMemory(ctx context.Context, b *bench) (err error) {
	s, err := b.serve("memory")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	agents, warm := b.size(100), b.size(20)
	if err := s.start(ctx, ServerOptions{Runs: 4, Idle: time.Second}); err != nil {
		return err
	}
	b.Tell(fmt.Sprintf("letting %d agents do a run", agents))
	made, err := s.idleAgents(ctx, agents)
	if err != nil {
		return err
	}
	idle := fmt.Sprintf("server with %d idle agents, machines stopped", agents)
	if err := b.keepMemory(s, idle+", just after the work"); err != nil {
		return err
	}
	// What Go holds after work it gives back to the system in a few minutes.
	rest := 4 * time.Minute
	if b.Quick {
		rest = 5 * time.Second
	}
	b.Tell("letting the server rest for " + rest.String())
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := b.keepMemory(s, fmt.Sprintf("%s, after %s", idle, rest)); err != nil {
		return err
	}
	if err := errors.Join(s.stop(), s.start(ctx, ServerOptions{Runs: 4, Idle: time.Hour})); err != nil {
		return err
	}
	if _, err := s.client.Agents(ctx, client.AgentQuery{}); err != nil {
		return err
	}
	if err := b.keepMemory(s, idle+", after a restart"); err != nil {
		return err
	}
	for _, id := range made[:warm] {
		run, err := s.client.CreateRun(ctx, errand.AgentID(id), api.CreateRun{Prompt: api.Prompt{Text: promptShort}}, "")
		if err != nil {
			return err
		}
		if _, err := s.await(ctx, id, 0, endOf(run.Run.ID)); err != nil {
			return err
		}
	}
	return b.keepMemory(s, fmt.Sprintf("server with %d agents, %d machines running", agents, warm))
}

// endOf is the good end of a run.
func endOf(run string) func(errand.Event) (bool, error) {
	return func(e errand.Event) (bool, error) {
		if string(e.Run) != run {
			return false, nil
		}
		return finished(e)
	}
}

// idleAgents makes agents that do a run each, and returns when the last of their
// machines is stopped.
func (s *served) idleAgents(ctx context.Context, n int) ([]string, error) {
	made := make([]string, n)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range n {
		g.Go(func() error {
			a, err := s.agent(ctx, promptShort)
			if err != nil {
				return err
			}
			made[i] = a.Agent.ID
			at, err := s.await(ctx, a.Agent.ID, 0, finished)
			if err != nil {
				return err
			}
			_, err = s.await(ctx, a.Agent.ID, at, stopped)
			return err
		})
	}
	return made, g.Wait()
}

// keepMemory adds what the server holds now.
func (b *bench) keepMemory(s *served, name string) error {
	resident, share, err := s.memory()
	if err != nil {
		return fmt.Errorf("reading the server's memory: %w", err)
	}
	b.keep("memory", name, "server", "MB", []float64{resident}, fmt.Sprintf("resident; %.1f MB as share (Pss); %s", share, s.engine))
	return nil
}
