package build_test

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci"
)

// TestBuild makes a first build, one of nothing new, one that is forced, one of
// a change, and one that fails, on both engines.
func TestBuild(t *testing.T) {
	for _, engine := range []string{oci.Runc, oci.GVisor} {
		t.Run(engine, func(t *testing.T) {
			y := newYard(t, engine, map[string]string{"package.json": "1", "README": "hello"})
			e, first := y.create("web", `{"install": "cat package.json && git log --oneline && touch /opt/installed"}`)
			done := y.ends(first, errand.BuildSucceeded)
			if done.Trigger != errand.TriggerConfigChange || done.Key == "" || done.Snapshot != done.Key || len(done.Parts) == 0 {
				t.Errorf("the first build is %+v", done)
			}
			if c := done.Commits; len(c) != 1 || c[0].Branch != "main" || c[0].Commit != y.git("-C", y.tree, "rev-parse", "HEAD") {
				t.Errorf("it was made at %+v", c)
			}
			if got := y.printed(first); !strings.Contains(got, "1") || !strings.Contains(got, "change") {
				t.Errorf("install printed %q", got)
			}
			if y.active(e.ID) != first.ID {
				t.Errorf("the active build is %s, want %s", y.active(e.ID), first.ID)
			}
			y.has(done, true)

			again := y.ends(y.ask(e.ID, build.Request{}), errand.BuildSucceeded)
			if again.Snapshot != done.Snapshot || strings.Contains(y.story(again), `"boot"`) {
				t.Errorf("a build of nothing new stands on %s and did\n%s", again.Snapshot, y.story(again))
			}
			forced := y.ends(y.ask(e.ID, build.Request{Force: true}), errand.BuildSucceeded)
			if forced.Snapshot == done.Snapshot || forced.Key != done.Key || y.printed(forced) == "" {
				t.Errorf("a forced build is %+v", forced)
			}
			y.has(forced, true)

			y.push(map[string]string{"package.json": "2"})
			changed := y.ends(y.ask(e.ID, build.Request{}), errand.BuildSucceeded)
			if changed.Key == done.Key || !strings.Contains(y.story(changed), "package.json changed since "+string(forced.ID)) {
				t.Errorf("after a change the build did\n%s", y.story(changed))
			}

			text := `{"install": "echo broken; touch /opt/half; exit 3"}`
			if _, err := y.builds.Edit(t.Context(), caller, e.ID, build.EditEnvironment{JSON: &text}); err != nil {
				t.Fatal(err)
			}
			failed := y.ends(y.latest(e.ID), errand.BuildFailed)
			f := failed.Failure
			if f == nil || f.Type != errand.FailureInstall || f.Error.Code != "install_failed" || *f.Error.ExitCode != 3 || !strings.Contains(f.Error.Output, "broken") {
				t.Errorf("the failure is %+v", f)
			}
			if y.active(e.ID) != changed.ID {
				t.Errorf("a failed build took the place of the active one: %s", y.active(e.ID))
			}
			y.has(failed, true)
		})
	}
}

// has wants a build's disk to be kept, or not.
func (y *yard) has(b errand.Build, want bool) {
	y.t.Helper()
	has, err := y.driver.HasSnapshot(y.t.Context(), machine.SnapshotKey(b.Snapshot))
	if err != nil || has != want {
		y.t.Errorf("the disk %q of %s is kept: %t, %v", b.Snapshot, b.ID, has, err)
	}
}

// TestDraftsWait for a person, and so do builds of other refs.
func TestDraftsWait(t *testing.T) {
	y := newYard(t, oci.Runc, map[string]string{"package.json": "1"})
	e, first := y.create("web", `{"install": "true"}`)
	y.ends(first, errand.BuildSucceeded)
	y.git("-C", y.tree, "checkout", "-q", "-b", "other")
	y.git("-C", y.tree, "push", "-q", y.url, "other")
	draft := y.ask(e.ID, build.Request{Ref: "other", Force: true})
	if got := y.ends(draft, errand.BuildSucceeded); !got.Draft || got.Commits[0].Branch != "other" || y.active(e.ID) != first.ID {
		t.Errorf("a build of another branch is %+v and %s is active", got, y.active(e.ID))
	}
	if err := y.builds.Activate(t.Context(), caller, e.ID, draft.ID); err != nil || y.active(e.ID) != draft.ID {
		t.Errorf("activating gave %v and %s", err, y.active(e.ID))
	}
	if err := y.builds.Deactivate(t.Context(), caller, e.ID, first.ID); errand.AsError(err) == nil {
		t.Error("a build that is not active was deactivated")
	}
	if err := y.builds.Deactivate(t.Context(), caller, e.ID, draft.ID); err != nil || y.active(e.ID) != "" {
		t.Errorf("deactivating gave %v and %q", err, y.active(e.ID))
	}
	unknown := y.ends(y.ask(e.ID, build.Request{Ref: "nowhere"}), errand.BuildFailed)
	if unknown.Failure.Type != errand.FailureTerminal || unknown.Failure.Error.Code != "invalid_branch_name" {
		t.Errorf("a build of an unknown ref failed with %+v", unknown.Failure)
	}
}

// TestBuildOfDeleted starts no agent on a build whose environment was deleted.
func TestBuildOfDeleted(t *testing.T) {
	y := newYard(t, oci.Runc, nil)
	e, err := y.builds.Create(t.Context(), caller, build.NewEnvironment{Name: "web", Owner: errand.OwnerPersonal, Repositories: []errand.Repository{{URL: y.url}}, JSON: `{"install": "true"}`})
	if err != nil {
		t.Fatal(err)
	}
	b := y.ends(y.latest(e.ID), errand.BuildSucceeded)
	choice := build.Choice{Settings: errand.Settings{Build: b.ID}}
	if got, err := y.builds.Choose(t.Context(), caller, choice); err != nil || got.Settings.Environment != e.ID {
		t.Errorf("chosen: %+v, %v", got, err)
	}
	other := errand.Caller{Key: "other", Name: "Bob", Email: "bob@example.com"}
	if _, err := y.builds.Choose(t.Context(), other, choice); errand.AsError(err) == nil || errand.AsError(err).Code != "build_not_found" {
		t.Errorf("another person's build: %v", err)
	}
	if err := y.builds.Delete(t.Context(), caller, e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := y.builds.Choose(t.Context(), caller, choice); errand.AsError(err) == nil || errand.AsError(err).Code != "environment_not_found" {
		t.Errorf("of an environment that was deleted: %v", err)
	}
}

// TestCancel ends a build in the middle of its install.
func TestCancel(t *testing.T) {
	y := newYard(t, oci.Runc, nil)
	e, b := y.create("web", `{"install": "echo begun; sleep 300"}`)
	y.until(b, "output", func(e errand.Event) bool { return e.Kind == errand.EventPhaseOutput })
	waiting := y.ask(e.ID, build.Request{Force: true})
	for _, one := range []errand.Build{waiting, b} {
		if err := y.builds.Cancel(t.Context(), caller, e.ID, one.ID); err != nil {
			t.Fatal(err)
		}
	}
	y.ends(waiting, errand.BuildCancelled)
	y.ends(b, errand.BuildCancelled)
	if held, err := y.driver.List(t.Context()); err != nil || len(held) > 0 {
		t.Errorf("a cancelled build left %v, %v", held, err)
	}
}

// TestBuildGoesOn ends the process in the middle of an install, and again; the
// next one joins it.
func TestBuildGoesOn(t *testing.T) {
	for _, engine := range []string{oci.Runc, oci.GVisor} {
		t.Run(engine, func(t *testing.T) {
			y := newYard(t, engine, nil)
			_, b := y.create("web", `{"install": "echo ran >> /opt/ran; for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done; cat /opt/ran"}`)
			for n := range 2 {
				y.until(b, "a line", func(e errand.Event) bool {
					return e.Kind == errand.EventPhaseOutput && strings.Contains(string(e.Data), "line "+string(rune('1'+2*n)))
				})
				y.stop()
				y.run()
			}
			y.ends(b, errand.BuildSucceeded)
			if got, want := y.printed(b), "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nran\n"; got != want {
				t.Errorf("install printed %q, want %q", got, want)
			}
		})
	}
}

// TestSchedule builds when the default branch has moved, and skips what is new
// but decides nothing.
func TestSchedule(t *testing.T) {
	y := newYard(t, oci.Runc, map[string]string{"package.json": "1"})
	e, first := y.create("web", `{"install": "true"}`)
	y.ends(first, errand.BuildSucceeded)
	due := func() errand.Build {
		t.Helper()
		if err := y.builds.Due(t.Context()); err != nil {
			t.Fatal(err)
		}
		return y.latest(e.ID)
	}
	if b := due(); b.ID != first.ID {
		t.Errorf("nothing has moved, and there is the build %+v", b)
	}
	y.push(map[string]string{"README": "more"})
	skipped := y.ends(due(), errand.BuildSkipped)
	if skipped.Trigger != errand.TriggerRecurring || skipped.Snapshot == "" || y.active(e.ID) != first.ID {
		t.Errorf("a build of nothing new is %+v, and %s is active", skipped, y.active(e.ID))
	}
	if b := due(); b.ID != skipped.ID {
		t.Errorf("nothing has moved since the skipped build, and there is %+v", b)
	}
	y.push(map[string]string{"package.json": "2"})
	second := y.ends(due(), errand.BuildSucceeded)
	if second.ID == first.ID || y.active(e.ID) != second.ID {
		t.Errorf("after a change %s is active, want %s", y.active(e.ID), second.ID)
	}
}
