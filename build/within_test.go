package build_test

import (
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/store"
)

// TestOldInstallReplacesNothing has agents install for themselves: one that is
// newer than the active build takes its place, and neither one that began before
// it nor one of a version that was changed since does.
func TestOldInstallReplacesNothing(t *testing.T) {
	y := newYard(t, oci.Runc, map[string]string{"README": "hello\n"})
	before := time.Now().Add(-time.Hour)
	e, first := y.create("web", `{"install": "true"}`)
	first = y.ends(first, errand.BuildSucceeded)
	installs := func(key string, created time.Time) errand.BuildID {
		t.Helper()
		agent := errand.Agent{ID: errand.NewAgentID(), Caller: caller, CreatedAt: created, UpdatedAt: created}
		run := errand.Run{ID: errand.NewRunID(), Agent: agent.ID, Status: errand.RunPreparing, CreatedAt: created}
		err := y.store.Write(t.Context(), func(tx *store.Tx) error {
			if err := tx.InsertAgent(agent, ""); err != nil {
				return err
			}
			return tx.InsertRun(run)
		})
		if err != nil {
			t.Fatal(err)
		}
		w := build.Within{Builds: y.builds, Agent: agent, Run: run.ID, Resolved: build.Resolved{Environment: e, Version: e.Version}}
		w.Wanted.Key = machine.SnapshotKey("k-" + key[:3])
		if err := w.Ready(t.Context(), y.options.Journal, true); err != nil {
			t.Fatal(err)
		}
		made := y.latest(e.ID)
		if made.Agent != agent.ID || made.Status != errand.BuildSucceeded || made.Draft {
			t.Fatalf("the agent's install %s is %+v", key, made)
		}
		return made.ID
	}
	installs("old", before)
	if now := y.active(e.ID); now != first.ID {
		t.Errorf("an older install is active: %s instead of %s", now, first.ID)
	}
	newer := installs("new", time.Now())
	if now := y.active(e.ID); now != newer {
		t.Errorf("a newer install is not active: %s is, instead of %s", now, newer)
	}
	text := `{"install": "true # changed"}`
	if _, err := y.builds.Edit(t.Context(), caller, e.ID, build.EditEnvironment{JSON: &text}); err != nil {
		t.Fatal(err)
	}
	second := y.ends(y.latest(e.ID), errand.BuildSucceeded)
	installs("of the version before", time.Now())
	if now := y.active(e.ID); now != second.ID {
		t.Errorf("an install of the version before is active: %s instead of %s", now, second.ID)
	}
}
