package build

import (
	"context"

	"github.com/errand-dev/errand"
)

// Choice is what a new agent's request says of its environment.
type Choice struct {
	Name         string // of an environment; "" is none
	Settings     errand.Settings
	Repositories []errand.Repository
}

// Choose checks which environment and build a new agent asks for and gives the
// choice with their ids. An agent that names no repository gets the
// environment's first. What caller may not know of is NotFound.
func (b *Builds) Choose(ctx context.Context, caller errand.Caller, c Choice) (Choice, error) {
	var e errand.Environment
	var err error
	ref := ""
	switch s := &c.Settings; {
	case s.Build != "":
		build, err := b.Store.Build(ctx, s.Build)
		if err != nil {
			return c, err
		}
		e, err = one(ctx, b.Store, caller, build.Environment)
		if errand.KindOf(err) == errand.NotFound && e.DeletedAt.IsZero() {
			return c, errand.Errorf(errand.NotFound, "build_not_found", "There is no build %s. `errand build ls` shows which there are.", s.Build)
		}
		if err != nil {
			return c, err
		}
		if s.Environment != "" && s.Environment != e.ID {
			return c, errand.Errorf(errand.Invalid, "validation_error", "Build %s is of environment %s, and %s was asked for. Name one of the two.", s.Build, e.ID, s.Environment)
		}
		if !build.Status.Ended() {
			return c, errand.Errorf(errand.Conflict, "build_not_ended", "Build %s has not ended yet. Wait for it: errand build log -f %s", s.Build, s.Build)
		}
		if build.Snapshot == "" && build.Status != errand.BuildSucceeded {
			return c, errand.Errorf(errand.Conflict, "build_without_disk", "Build %s is %s and has left no disk to start on.", s.Build, build.Status)
		}
		if private(e, build) {
			return c, privateError(build)
		}
		s.Environment, ref = e.ID, build.Ref
	case s.Environment != "":
		if e, err = one(ctx, b.Store, caller, s.Environment); err != nil {
			return c, err
		}
	case c.Name != "":
		if e, err = b.Named(ctx, caller, c.Name); err != nil {
			return c, err
		}
		s.Environment = e.ID
	default:
		return c, nil
	}
	if len(c.Repositories) == 0 && len(e.Repositories) > 0 {
		c.Repositories = []errand.Repository{{URL: e.Repositories[0].URL, Ref: ref}}
	}
	return c, nil
}
