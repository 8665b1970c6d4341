package build

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/journal"
)

// Activate makes a build that succeeded, draft or not, the one that agents start
// on. It stays that until another one succeeds, is activated, or this one is
// deactivated. What an agent proposed with a build becomes the environment's
// text.
func (b *Builds) Activate(ctx context.Context, caller errand.Caller, of errand.EnvironmentID, id errand.BuildID) error {
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		e, err := one(ctx, t, caller, of)
		if err != nil {
			return err
		}
		build, err := b.of(ctx, t, caller, of, id)
		switch {
		case err != nil:
			return err
		case build.Status != errand.BuildSucceeded:
			return errand.Errorf(errand.Conflict, "build_not_activatable", "Build %s is %s; only one that succeeded can be the active one. To look at it, start an agent on it: errand run --build %s", id, build.Status, id)
		case private(e, build):
			return privateError(build)
		case e.Active == id:
			return nil
		}
		if err := adopt(t, caller, &e, build); err != nil {
			return err
		}
		return setActive(t, e, build, id)
	})
	return err
}

// Deactivate makes agents do without a build until another one succeeds or is
// activated. A build that is not the active one is a Conflict.
func (b *Builds) Deactivate(ctx context.Context, caller errand.Caller, of errand.EnvironmentID, id errand.BuildID) error {
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		e, err := one(ctx, t, caller, of)
		if err != nil {
			return err
		}
		build, err := b.of(ctx, t, caller, of, id)
		if err != nil {
			return err
		}
		if e.Active != id {
			return errand.Errorf(errand.Conflict, "build_not_active", "Build %s is not the active one of %s.", id, e.Name)
		}
		return setActive(t, e, build, "")
	})
	return err
}

// setActive writes which build is active, and tells it in the log of build.
func setActive(t *journal.Tx, e errand.Environment, build errand.Build, active errand.BuildID) error {
	e.Active, e.UsedAt = active, t.Now()
	if err := t.UpdateEnvironment(e); err != nil {
		return err
	}
	note := "deactivated by a person"
	if active != "" {
		note = "activated by a person"
	}
	return tell(t, build, errand.Fact{Kind: errand.EventBuildStatus, Data: errand.BuildStatusData{
		Build: build.ID, Status: build.Status, Active: active != "", Note: note,
	}})
}

// private says whether a build was installed with what is an agent's own, or
// with a person's secrets where the environment is not that person's: its disk
// may hold them.
func private(e errand.Environment, build errand.Build) bool {
	agents, persons := environment.Private(build.Parts)
	return agents || persons && e.Owner != errand.OwnerPersonal
}

func privateError(build errand.Build) error {
	return errand.Errorf(errand.Conflict, "build_private", "Build %s was installed with variables or secrets of agent %s, so it is no build for other agents. Start a build of the environment: errand build start %s",
		build.ID, build.Agent, build.Environment)
}
