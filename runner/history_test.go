package runner_test

import (
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/runner"
)

// TestCommitsOfASleepingAgent lists, page by page, what was pushed before the
// machine was stopped.
func TestCommitsOfASleepingAgent(t *testing.T) {
	h := build(t, script(talk("twice",
		command("for n in One Two; do echo $n >$n && git add -A && git commit -qm $n; done"), says("done"))),
		runner.Defaults{Idle: 300 * time.Millisecond})
	agent, run := h.start(ask("twice", repository(t, map[string]string{"README.md": "x\n"})))
	h.ends(agent, run, errand.RunFinished)
	h.until(agent, "sleep", func(e errand.Event) bool {
		return e.Kind == errand.EventMachine && read[errand.MachineData](t, e).What == "stopped"
	})
	var all []git.Commit
	for cursor := ""; ; {
		page, next, err := h.runner.Commits(t.Context(), caller, agent, 1, cursor)
		if err != nil || len(page) != 1 {
			t.Fatalf("the page after %q is %+v, %v", cursor, page, err)
		}
		all = append(all, page...)
		if cursor = next; cursor == "" {
			break
		}
	}
	a, err := h.runner.Agent(t.Context(), caller, agent)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Title != "Two" || all[1].Title != "One" || all[0].ID != a.Pushed {
		t.Errorf("the commits are %+v, pushed is %s", all, a.Pushed)
	}
	if _, _, err := h.runner.Commits(t.Context(), caller, agent, 1, "-1"); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a wrong cursor gave %v", err)
	}
}
