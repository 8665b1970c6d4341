package build

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
)

// Why the making of a build may end, besides the server's own end.
var errCancelled = errors.New("the build was cancelled")

// Request asks for a build.
type Request struct {
	Ref   string // branch, tag or commit; "" is the default branch
	Draft bool   // it becomes active only when a person activates it
	Force bool   // install also where a snapshot of the same key is there
}

// Ask queues a build of an environment for a person.
func (b *Builds) Ask(ctx context.Context, caller errand.Caller, id errand.EnvironmentID, r Request) (errand.Build, error) {
	var build errand.Build
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		e, err := one(ctx, t, caller, id)
		if err != nil {
			return err
		}
		e.UsedAt = t.Now()
		if err := t.UpdateEnvironment(e); err != nil {
			return err
		}
		// What stands on another ref than the default branch is for looking at.
		build, err = queue(t, errand.Build{
			Environment: id, Version: e.Version, Trigger: errand.TriggerManual,
			Draft: r.Draft || r.Ref != "", Force: r.Force, Ref: r.Ref, Caller: caller,
		})
		return err
	})
	b.nudge()
	return build, err
}

// queueChange queues a build of an environment's new version, unless one waits
// that will take it up anyway.
func queueChange(t *journal.Tx, e errand.Environment, caller errand.Caller) error {
	open, err := t.OpenBuilds(t.Context())
	if err != nil {
		return err
	}
	for _, build := range open {
		if build.Environment == e.ID && build.Status == errand.BuildQueued && build.Ref == "" && !build.Draft {
			return nil
		}
	}
	_, err = queue(t, errand.Build{Environment: e.ID, Version: e.Version, Trigger: errand.TriggerConfigChange, Caller: caller})
	return err
}

// queue keeps a new build and tells it. One without an id gets a fresh one.
func queue(t *journal.Tx, build errand.Build) (errand.Build, error) {
	build.ID, build.Status = cmp.Or(build.ID, errand.NewBuildID(t.Now())), errand.BuildQueued
	build.CreatedAt, build.UpdatedAt = t.Now(), t.Now()
	if err := t.InsertBuild(build); err != nil {
		return build, err
	}
	return build, t.Tell(build.ID, "", errand.Fact{Kind: errand.EventBuildQueued, Data: errand.BuildQueuedData{Build: build}})
}

// Cancel ends a build. One that waits is cancelled at once, one under way as
// soon as it has stopped. One that has ended, or that is part of a run, is a
// Conflict.
func (b *Builds) Cancel(ctx context.Context, caller errand.Caller, environment errand.EnvironmentID, id errand.BuildID) error {
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		build, err := b.of(ctx, t, caller, environment, id)
		switch {
		case err != nil:
			return err
		case build.Status.Ended():
			return errand.Errorf(errand.Conflict, "build_not_cancellable", "Build %s has ended already (%s).", id, build.Status)
		case build.WithinRun():
			return errand.Errorf(errand.Conflict, "build_not_cancellable", "Build %s is part of a run. Cancel that: errand cancel %s --run %s", id, build.Agent, build.Run)
		}
		return askCancel(t, build, caller)
	})
	if err == nil {
		b.stop([]errand.BuildID{id})
	}
	return err
}

// askCancel notes the wish to end a build. One that nobody has taken up yet
// ends here.
func askCancel(t *journal.Tx, build errand.Build, caller errand.Caller) error {
	if !build.CancelAsked {
		build.CancelAsked = true
		if err := t.UpdateBuild(build); err != nil {
			return err
		}
		if err := t.Tell(build.ID, "", errand.Fact{Kind: errand.EventBuildCancel, Data: errand.CancelAsked{Caller: caller}}); err != nil {
			return err
		}
	}
	if build.Status != errand.BuildQueued {
		return nil
	}
	return end(t, build, errand.BuildCancelled, "")
}

// stop makes the making of builds end, if this process has them.
func (b *Builds) stop(builds []errand.BuildID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range builds {
		if cancel, ok := b.active[id]; ok {
			cancel(errCancelled)
		}
	}
}

// end writes a build's end into its row and its journal. A successful build
// that is no draft becomes its environment's active one, unless it came about
// within a run and agents start on something newer.
func end(t *journal.Tx, build errand.Build, status errand.BuildStatus, note string) error {
	build.Status, build.EndedAt = status, t.Now()
	if err := t.UpdateBuild(build); err != nil {
		return err
	}
	active := false
	if status == errand.BuildSucceeded && !build.Draft {
		e, err := t.Environment(t.Context(), build.Environment)
		if err != nil {
			return err
		}
		older, err := olderThanActive(t, e, build)
		if err != nil {
			return err
		}
		if older {
			note = "what agents start on is newer"
		}
		if active = e.DeletedAt.IsZero() && !older; active {
			e.Active = build.ID
			if err := t.UpdateEnvironment(e); err != nil {
				return err
			}
		}
	}
	from := build.StartedAt
	if from.IsZero() {
		from = build.CreatedAt
	}
	return tell(t, build, errand.Fact{Kind: errand.EventBuildStatus, Data: errand.BuildStatusData{
		Build: build.ID, Status: status, Failure: build.Failure, Commits: build.Commits, Snapshot: build.Snapshot,
		Active: active, Note: note, DurationMs: t.Now().Sub(from).Milliseconds(),
	}})
}

// olderThanActive says whether a build is an agent's own install of what the
// environment no longer says, or of a repository as it was before the active
// build took it up. An agent goes on with its base for days.
func olderThanActive(t *journal.Tx, e errand.Environment, build errand.Build) (bool, error) {
	if !build.WithinRun() {
		return false, nil
	}
	if build.Version != e.Version {
		return true, nil
	}
	active, err := t.Build(t.Context(), e.Active)
	if errand.KindOf(err) == errand.NotFound {
		return false, nil
	}
	if err != nil || active.Draft {
		return false, err // a draft is active because a person has seen it
	}
	from, err := begun(t, active)
	if err != nil {
		return false, err
	}
	own, err := begun(t, build)
	return own.Before(from), err
}

// begun gives when what a build is made of was settled, or shortly before.
func begun(t *journal.Tx, build errand.Build) (time.Time, error) {
	if build.WithinRun() {
		agent, err := t.Agent(t.Context(), build.Agent)
		if errand.KindOf(err) != errand.NotFound {
			return agent.CreatedAt, err
		}
	}
	if build.StartedAt.IsZero() {
		return build.CreatedAt, nil
	}
	return build.StartedAt, nil
}

// tell writes facts into a build's log.
func tell(t *journal.Tx, build errand.Build, facts ...errand.Fact) error {
	subject, run, err := logOf(t.Context(), t, build)
	if err != nil {
		return err
	}
	return t.Tell(subject, run, facts...)
}

// logOf gives whose journal tells of a build, and with the events of which run:
// its own, or that of the agent in whose run it came about, for as long as there
// is that run.
func logOf(ctx context.Context, r buildReader, build errand.Build) (errand.Subject, errand.RunID, error) {
	if !build.WithinRun() {
		return build.ID, "", nil
	}
	_, err := r.Run(ctx, build.Agent, build.Run)
	if errand.KindOf(err) == errand.NotFound {
		return build.ID, "", nil
	}
	return build.Agent, build.Run, err
}

// Slot takes one of the places for builds, for work that loads the host as a
// build does, and waits for it in line with the builds. Where that takes longer
// than a moment, waiting is called first. The caller calls leave, once.
func (b *Builds) Slot(ctx context.Context, waiting func() error) (leave func(), err error) {
	leave = func() { b.slots.Release(1) }
	// Run holds a place too while it only looks what there is to do.
	moment, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if b.slots.Acquire(moment, 1) == nil {
		return leave, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err := waiting(); err != nil {
		return nil, err
	}
	if err := b.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return leave, nil
}
