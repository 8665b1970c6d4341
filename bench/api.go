package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/store"
)

// measureAPI times requests to a server that keeps many agents. Its one slot
// for runs is taken by a run that waits for its model, so that the runs that are
// made stay queued and requests alone are measured.
func measureAPI(ctx context.Context, b *bench) (err error) {
	agents := b.size(100_000)
	s, err := b.serve("api")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	b.Tell(fmt.Sprintf("storing %d agents", agents))
	if err := fill(ctx, filepath.Join(s.data, "errand.db"), agents); err != nil {
		return fmt.Errorf("storing agents: %w", err)
	}
	if err := s.start(ctx, ServerOptions{Runs: 1, Idle: time.Hour}); err != nil {
		return err
	}
	first, err := s.agent(ctx, promptLong)
	if err != nil {
		return err
	}
	if _, err := s.await(ctx, first.Agent.ID, 0, thinking); err != nil {
		return err
	}
	note := fmt.Sprintf("%d agents stored", agents)
	n := b.size(1000)
	create := func(int) error { _, err := s.agent(ctx, promptShort); return err }
	alone, err := times(n, create)
	if err != nil {
		return err
	}
	b.keep("api", "create an agent, one after another", "server", "ms", alone, note)
	crowd, err := atOnce(8, n/8, create)
	if err != nil {
		return err
	}
	b.keep("api", "create an agent, 8 clients at once", "server", "ms", crowd, note)
	query := client.AgentQuery{Limit: 100, IncludeArchived: true}
	pages, err := times(n/2, func(int) error {
		page, err := s.client.Agents(ctx, query)
		query.Cursor = page.NextCursor
		return err
	})
	if err != nil {
		return err
	}
	b.keep("api", "list a page of 100 agents", "server", "ms", pages, note)
	return nil
}

// atOnce is times by several clients at once, each with n runs of f.
func atOnce(clients, n int, f func(i int) error) ([]float64, error) {
	var g errgroup.Group
	took := make([][]float64, clients)
	for c := range clients {
		g.Go(func() (err error) {
			took[c], err = times(n, f)
			return err
		})
	}
	err := g.Wait()
	var all []float64
	for _, t := range took {
		all = append(all, t...)
	}
	return all, err
}

// fill stores agents as work leaves them: each with a finished run and a few
// events.
func fill(ctx context.Context, path string, agents int) (err error) {
	st, err := store.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	const chunk = 2000
	for made := 0; made < agents; made += chunk {
		err := st.Write(ctx, func(t *store.Tx) error {
			for i := made; i < min(made+chunk, agents); i++ {
				if err := fillOne(t, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func fillOne(t *store.Tx, i int) error {
	a := errand.Agent{
		ID: errand.NewAgentID(), Name: fmt.Sprintf("Mend the test of package %d", i), Status: errand.AgentIdle,
		Caller:       errand.Caller{Key: "key-measured", Name: "Ada Lovelace", Email: "ada@example.com"},
		Repositories: []errand.Repository{{URL: "https://example.com/repository.git", Ref: "main"}},
		Branch:       fmt.Sprintf("errand/mend-the-test-%04d", i), Settings: errand.Settings{Model: errand.Model{ID: "measured"}},
		CreatedAt: t.Now(), UpdatedAt: t.Now(),
	}
	r := errand.Run{
		ID: errand.NewRunID(), Agent: a.ID, Prompt: errand.Prompt{Text: a.Name}, Status: errand.RunFinished,
		CreatedAt: t.Now(), StartedAt: t.Now(), EndedAt: t.Now(),
	}
	a.LatestRun = r.ID
	if err := errors.Join(t.InsertAgent(a, ""), t.InsertRun(r)); err != nil {
		return err
	}
	if err := t.UpdateRun(r); err != nil {
		return err
	}
	var events []errand.Event
	for _, kind := range []errand.EventKind{errand.EventAgentCreated, errand.EventRunQueued, errand.EventTurnEnded, errand.EventRunStatus} {
		text, err := json.Marshal(a)
		if err != nil {
			return err
		}
		events = append(events, errand.Event{Kind: kind, Run: r.ID, Data: text})
	}
	return t.AppendEvents(a.ID, events)
}
