package build

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/errand-dev/errand"
)

// buildReader is a store, or a transaction in it.
type buildReader interface {
	reader
	Build(context.Context, errand.BuildID) (errand.Build, error)
	Run(context.Context, errand.AgentID, errand.RunID) (errand.Run, error)
}

// of gives a build of an environment that caller may know of.
func (b *Builds) of(ctx context.Context, r buildReader, caller errand.Caller, environment errand.EnvironmentID, id errand.BuildID) (errand.Build, error) {
	if _, err := seen(ctx, r, caller, environment); err != nil {
		return errand.Build{}, err
	}
	build, err := r.Build(ctx, id)
	if err == nil && build.Environment != environment {
		return errand.Build{}, errand.Errorf(errand.NotFound, "build_not_found", "Environment %s has no build %s. `errand build ls` shows which there are.", environment, id)
	}
	return build, err
}

// Build gives one build of an environment, and the environment's active one.
func (b *Builds) Build(ctx context.Context, caller errand.Caller, environment errand.EnvironmentID, id errand.BuildID) (errand.Build, errand.BuildID, error) {
	e, err := seen(ctx, b.Store, caller, environment)
	if err != nil {
		return errand.Build{}, "", err
	}
	build, err := b.of(ctx, b.Store, caller, environment, id)
	return build, e.Active, err
}

// List gives a page of an environment's builds, newest first, the active one,
// and the cursor of the next page ("" on the last).
func (b *Builds) List(ctx context.Context, caller errand.Caller, environment errand.EnvironmentID, limit int, cursor string) (all []errand.Build, active errand.BuildID, next string, err error) {
	e, err := seen(ctx, b.Store, caller, environment)
	if err != nil {
		return nil, "", "", err
	}
	before, err := errand.Before(cursor, errand.ParseBuildID)
	if err != nil {
		return nil, "", "", err
	}
	all, err = b.Store.Builds(ctx, environment, limit+1, before)
	all, next = errand.Page(all, limit, func(b errand.Build) errand.BuildID { return b.ID })
	return all, e.Active, next, err
}

// Events gives the events of a build's log after a number that are there now.
func (b *Builds) Events(ctx context.Context, build errand.Build, after errand.Seq) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		const page = 500
		subject, run, err := logOf(ctx, b.Store, build)
		if err != nil {
			yield(errand.Event{}, err)
			return
		}
		for {
			events, err := b.Store.Events(ctx, subject, after, page)
			if err != nil {
				yield(errand.Event{}, err)
				return
			}
			for _, e := range events {
				after = e.Seq
				if e.Run == run && !yield(e, nil) {
					return
				}
			}
			if len(events) < page {
				return
			}
		}
	}
}

// Follow gives the events of a build's log after a number and then each as it
// is written, until the build's end. Of a build that came about within a run
// these are the run's; where its agent was deleted, what was written since.
// Other ends are those of journal.Follow.
func (b *Builds) Follow(ctx context.Context, build errand.Build, after errand.Seq) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		subject, run, err := logOf(ctx, b.Store, build)
		if err != nil {
			yield(errand.Event{}, err)
			return
		}
		if build.WithinRun() && run == "" {
			b.Events(ctx, build, after)(yield) // it has ended, with its agent at the latest
			return
		}
		for e, err := range b.Journal.Follow(ctx, subject, after) {
			if err == nil && e.Run != run {
				continue
			}
			if !yield(e, err) || err == nil && Ends(build, e) {
				return
			}
		}
	}
}

// Ends says whether e is the last event of a build's log.
func Ends(build errand.Build, e errand.Event) bool {
	var d errand.BuildStatusData
	return e.Kind == errand.EventBuildStatus && json.Unmarshal(e.Data, &d) == nil && d.Build == build.ID && d.Status.Ended()
}
