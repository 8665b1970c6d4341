package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

// measureEnvironments times the lists of a server that keeps environments with
// their builds.
func measureEnvironments(ctx context.Context, b *bench) (err error) {
	const environments, builds = 100, 10
	s, err := b.serve("environments")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	b.Tell(fmt.Sprintf("storing %d environments with %d builds each", environments, builds))
	ids, err := fillEnvironments(ctx, filepath.Join(s.data, "errand.db"), environments, builds)
	if err != nil {
		return fmt.Errorf("storing environments: %w", err)
	}
	if err := s.start(ctx, ServerOptions{Runs: 1, Idle: time.Hour}); err != nil {
		return err
	}
	note := fmt.Sprintf("%d environments with %d builds each", environments, builds)
	n := b.size(1000)
	all, err := times(n, func(int) error {
		_, err := s.client.Environments(ctx, 100, "")
		return err
	})
	if err != nil {
		return err
	}
	b.keep("environments", "list a page of 100 environments", "server", "ms", all, note)
	each, err := times(n, func(i int) error {
		_, err := s.client.Builds(ctx, ids[i%len(ids)], 100, "")
		return err
	})
	if err != nil {
		return err
	}
	b.keep("environments", "list an environment's builds", "server", "ms", each, note)
	return nil
}

// fillEnvironments stores environments as work leaves them.
func fillEnvironments(ctx context.Context, path string, environments, builds int) (ids []errand.EnvironmentID, err error) {
	st, err := store.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	err = st.Write(ctx, func(t *store.Tx) error {
		for i := range environments {
			e := errand.Environment{
				ID: errand.NewEnvironmentID(), Name: fmt.Sprintf("project %d", i), Owner: errand.OwnerTeam, JSON: `{"install": "npm ci"}`,
				Repositories: []errand.Repository{{URL: fmt.Sprintf("https://example.com/project-%d.git", i)}},
				Version:      errand.NewVersionID(), CreatedAt: t.Now(),
			}
			ids = append(ids, e.ID)
			for range builds {
				made := errand.Build{
					ID: errand.NewBuildID(t.Now()), Environment: e.ID, Version: e.Version, Status: errand.BuildSucceeded, Trigger: errand.TriggerRecurring,
					Commits: []errand.BuildCommit{{URL: e.Repositories[0].URL, Branch: "main", Commit: fmt.Sprintf("%040x", i)}},
					Key:     fmt.Sprintf("e1-%064x", i), CreatedAt: t.Now(), StartedAt: t.Now(), EndedAt: t.Now(),
				}
				for part := range 40 {
					made.Parts = append(made.Parts, errand.KeyPart{Name: fmt.Sprintf("packages/p%d/package.json", part), Value: fmt.Sprintf("%040x", part)})
				}
				e.Active = made.ID
				if err := t.InsertBuild(made); err != nil {
					return err
				}
			}
			if err := t.InsertEnvironment(e); err != nil {
				return err
			}
		}
		return nil
	})
	return ids, err
}
