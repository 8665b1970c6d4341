package build

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/journal"
)

// Within is the build that comes about within an agent's run, if one does: the
// install that the agent's own machine needs. Its row moves along with the
// facts that tell of the install (Along), in the same transactions.
type Within struct {
	Builds   *Builds
	Agent    errand.Agent
	Run      errand.RunID // "" where a person woke the machine
	Resolved Resolved
	// Draft says that the disk is not for everybody: it is of another branch, or
	// on an image of the agent's own.
	Draft  bool
	Wanted environment.Wanted
	Chosen errand.BuildID // whose disk the machine stands on; "" is none that is known
}

// Along brings the rows of the build and of its agent along with facts that are
// being told of the run.
func (w *Within) Along(t *journal.Tx, facts []errand.Fact) error {
	if w.Resolved.Environment.ID == "" {
		return nil
	}
	installs := w.Run != "" && w.Wanted.Key != ""
	for _, f := range facts {
		var err error
		switch d := f.Data.(type) {
		case errand.PhaseStarted:
			switch {
			case d.Phase == errand.PhaseInstall && d.Command != "" && installs:
				err = w.begin(t)
			case d.Phase == errand.PhaseCheckout && w.Chosen != "":
				// From here on the disk is the agent's, and nobody looks for one again.
				err = w.stands(t, w.Chosen)
			}
		case errand.PhaseEnded:
			switch {
			case !installs:
			case d.Phase == errand.PhaseInstall && d.Error != nil:
				err = w.end(t, d.Error)
			case d.Phase == errand.PhaseSnapshot:
				err = w.end(t, d.Error)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// open gives the run's build that is under way.
func (w *Within) open(t *journal.Tx) (errand.Build, bool, error) {
	all, err := t.BuildsOfRun(t.Context(), w.Run)
	if err != nil || len(all) == 0 || all[len(all)-1].Status.Ended() {
		return errand.Build{}, false, err
	}
	return all[len(all)-1], true, nil
}

func (w *Within) begin(t *journal.Tx) error {
	_, open, err := w.open(t)
	if err != nil || open {
		return err // an install that is begun anew
	}
	build := w.row(t)
	build.Status = errand.BuildRunning
	if err := t.InsertBuild(build); err != nil {
		return err
	}
	if err := t.Tell(w.Agent.ID, w.Run, errand.Fact{Kind: errand.EventBuildQueued, Data: errand.BuildQueuedData{Build: build}}); err != nil {
		return err
	}
	return w.settle(t, build.ID)
}

// row is a build of what the agent's machine needs.
func (w *Within) row(t *journal.Tx) errand.Build {
	return errand.Build{
		ID: errand.NewBuildID(t.Now()), Environment: w.Resolved.Environment.ID, Version: w.Resolved.Version,
		Trigger: errand.TriggerConfigChange, Draft: w.Draft || private(w.Resolved.Environment, errand.Build{Parts: w.Wanted.Parts}), Commits: used(w.Agent, w.Resolved, "").Commits,
		Key: string(w.Wanted.Key), Parts: w.Wanted.Parts, Caller: w.Agent.Caller, Agent: w.Agent.ID, Run: w.Run,
		CreatedAt: t.Now(), StartedAt: t.Now(), UpdatedAt: t.Now(),
	}
}

func (w *Within) end(t *journal.Tx, failure *errand.Error) error {
	build, open, err := w.open(t)
	if err != nil || !open {
		return err
	}
	if failure != nil {
		build.Failure = w.Builds.failureOf(failure)
		return end(t, build, errand.BuildFailed, "")
	}
	build.Snapshot = build.Key
	return end(t, build, errand.BuildSucceeded, "")
}

// EndRun ends what a run that ends has left open. failure is the run's, nil
// where it was stopped.
func (b *Builds) EndRun(t *journal.Tx, run errand.RunID, failure *errand.Error) error {
	all, err := t.BuildsOfRun(t.Context(), run)
	if err != nil {
		return err
	}
	for _, build := range all {
		switch {
		case build.Status.Ended():
			continue
		case failure != nil:
			build.Failure = b.failureOf(failure)
			err = end(t, build, errand.BuildFailed, "")
		default:
			err = end(t, build, errand.BuildCancelled, "the run was stopped")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Ready writes down whose disk the agent's machine stands on, now that it is
// ready; kept says that there is a disk of Wanted. One of which no build is
// known becomes one, so that there is always a build to name. Where nobody
// looked for a disk there is nothing to write: only what the server has found
// out itself may become a disk of others.
func (w *Within) Ready(ctx context.Context, j *journal.Journal, kept bool) error {
	if w.Resolved.Environment.ID == "" {
		return nil
	}
	_, err := j.Decide(ctx, func(t *journal.Tx) error {
		now, err := t.Agent(ctx, w.Agent.ID)
		if err != nil || now.Build != "" {
			return err
		}
		id := w.Chosen
		if id == "" && kept && w.Wanted.Key != "" {
			build := w.row(t)
			build.Status, build.Snapshot, build.EndedAt = errand.BuildRunning, string(w.Wanted.Key), t.Now()
			id = build.ID
			if err := t.InsertBuild(build); err != nil {
				return err
			}
			if err := end(t, build, errand.BuildSucceeded, "its disk was there already"); err != nil {
				return err
			}
		}
		if id == "" {
			return nil
		}
		return w.settle(t, id)
	})
	return err
}

// stands is settle for an agent that is on no build yet.
func (w *Within) stands(t *journal.Tx, id errand.BuildID) error {
	now, err := t.Agent(t.Context(), w.Agent.ID)
	if err != nil || now.Build != "" {
		return err
	}
	return w.settle(t, id)
}

// settle writes a build into the rows of its agent and run, and tells it.
func (w *Within) settle(t *journal.Tx, id errand.BuildID) error {
	now, err := t.Agent(t.Context(), w.Agent.ID)
	if err != nil {
		return err
	}
	now.Build = id
	if err := t.UpdateAgent(now); err != nil {
		return err
	}
	return t.Tell(now.ID, w.Run, errand.Fact{Kind: errand.EventEnvironment, Data: used(now, w.Resolved, id)})
}
