package build

import (
	"context"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
)

// forgotten is how long the schedule goes on for an environment that nobody
// uses.
const forgotten = 7 * 24 * time.Hour

// schedule asks for the builds that are due, until ctx ends.
func (b *Builds) schedule(ctx context.Context) {
	if b.Every < 0 {
		return
	}
	tick := time.NewTicker(b.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := b.Due(ctx); err != nil && ctx.Err() == nil {
			b.Log.Error("cannot ask for the builds that are due", "error", err)
		}
	}
}

// Due asks for a build of each environment in use whose default branch has moved
// since its last one. Whether anything came of that is found when it is made: a
// build of nothing new ends as skipped.
func (b *Builds) Due(ctx context.Context) error {
	all, err := b.Store.EnvironmentsUsed(ctx, time.Now().Add(-forgotten).UnixMilli())
	if err != nil {
		return err
	}
	for _, e := range all {
		moved, err := b.moved(ctx, e)
		if err != nil {
			// One repository that cannot be reached must not keep the others waiting.
			b.Log.Warn("cannot see whether a default branch has moved", "environment", e.ID, "error", err)
		}
		if err != nil || !moved {
			continue
		}
		if _, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
			_, err := queue(t, errand.Build{Environment: e.ID, Version: e.Version, Trigger: errand.TriggerRecurring})
			return err
		}); err != nil {
			return err
		}
	}
	b.nudge()
	return nil
}

// moved says whether the default branch of an environment's repository is at
// another commit than its last build, and no build is under way.
func (b *Builds) moved(ctx context.Context, e errand.Environment) (bool, error) {
	if len(e.Repositories) == 0 {
		return false, nil
	}
	const enough = 50 // of which one is not a draft, or it is built once more
	builds, err := b.Store.Builds(ctx, e.ID, enough, "")
	if err != nil {
		return false, err
	}
	last := ""
	for _, build := range builds {
		if !build.Status.Ended() && !build.Draft {
			return false, nil
		}
		if last == "" && !build.Draft && len(build.Commits) > 0 {
			last = build.Commits[0].Commit
		}
	}
	mirror, err := b.Mirrors.Fetch(ctx, e.Repositories[0].URL)
	if err != nil {
		return false, err
	}
	commit, _, err := mirror.Resolve(ctx, "")
	return commit != last, err
}
