package runner_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
)

// TestPushFromElsewhere has an agent commit on its branch and end its run on the
// base, then again detached on what was pushed: both times its branch is pushed.
// The third time it stands on work that is not on the branch, and that is told.
func TestPushFromElsewhere(t *testing.T) {
	const commit = `echo $RANDOM >> work && git add work && git commit -qm `
	h := build(t, script(&scripted.Conversation{
		Match: scripted.Pat("first"), Turns: []*scripted.Turn{command(commit + `"Work one" && git checkout -q --detach HEAD~1`), says("done")},
		FollowUps: []*scripted.FollowUp{
			{Match: scripted.Pat("second"), Turns: []*scripted.Turn{command(`git checkout -q - && ` + commit + `"Work two" && git checkout -q --detach HEAD~1`), says("done")}},
			{Match: scripted.Pat("third"), Turns: []*scripted.Turn{command(`git checkout -q --detach HEAD~1 && ` + commit + `"Work aside"`), says("done")}},
		},
	}), runner.Defaults{})
	repo := repository(t, nil)
	agent, run := h.start(ask("first", repo))
	h.ends(agent, run, errand.RunFinished)
	pushed := func(want ...string) {
		t.Helper()
		at := h.row(agent)
		got := strings.Split(gitIn(t, repo, "log", "--format=%s", at.Branch), "\n")
		if !slices.Equal(got, want) || at.Pushed != gitIn(t, repo, "rev-parse", at.Branch) {
			t.Errorf("the remote has %q, want %q; pushed is %s\n%s", got, want, at.Pushed, h.story(agent))
		}
	}
	pushed("Work one", "Begin")
	for _, prompt := range []string{"second", "third"} {
		follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: prompt}})
		if err != nil {
			t.Fatal(err)
		}
		h.ends(agent, follow.ID, errand.RunFinished)
		pushed("Work two", "Work one", "Begin")
	}
	if !slices.ContainsFunc(h.events(agent), func(e errand.Event) bool {
		return e.Kind == errand.EventNotice && strings.Contains(read[errand.Notice](t, e).Text, "was not pushed")
	}) {
		t.Errorf("nobody is told of the commit that was not pushed\n%s", h.story(agent))
	}
}

// TestClippedSecret cuts output where a secret stands: no part of it is left.
func TestClippedSecret(t *testing.T) {
	const value = "hunter2-is-a-long-value"
	r := bare(t, newShelf())
	r.Redactor.Add(value)
	if got := r.ClipTail("x" + value + strings.Repeat("y", 16<<10-5)); strings.Contains(got, "lue") {
		t.Errorf("the output begins with %.50q", got)
	}
}
