package build

import (
	"context"
	"slices"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/journal"
)

// Activate makes a build that succeeded, draft or not, the one that agents start
// on. It stays that until another one succeeds, is activated, or this one is
// deactivated.
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
		case hasVariables(build):
			return errand.Errorf(errand.Conflict, "build_not_activatable", "Build %s was installed with the variables of agent %s, which other agents must not have. Start a build: errand build start", id, build.Agent)
		case e.Active == id:
			return nil
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
	return t.Tell(logOf(build), build.Run, errand.Fact{Kind: errand.EventBuildStatus, Data: errand.BuildStatusData{
		Build: build.ID, Status: build.Status, Active: active != "", Note: note,
	}})
}

// hasVariables says whether a build was installed with an agent's own variables:
// its disk may hold them.
func hasVariables(build errand.Build) bool {
	return slices.ContainsFunc(build.Parts, func(p errand.KeyPart) bool { return p.Name == environment.VariablesPart })
}
