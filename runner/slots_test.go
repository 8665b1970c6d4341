package runner_test

import (
	"slices"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/runner"
)

// TestRunsAtOnce starts more agents than may run at once and reads from their
// journals how many did.
func TestRunsAtOnce(t *testing.T) {
	const slots, agents = 2, 5
	h := build(t, script(talk(".", command("sleep 0.3"), says("done"))), runner.Defaults{Runs: slots})
	type begun struct {
		agent errand.AgentID
		run   errand.RunID
	}
	var all []begun
	for range agents {
		a, r := h.start(ask("be busy", ""))
		all = append(all, begun{a, r})
	}
	type change struct {
		at    time.Time
		delta int
	}
	var changes []change
	for _, b := range all {
		h.ends(b.agent, b.run, errand.RunFinished)
		for _, e := range h.events(b.agent) {
			if e.Kind != errand.EventRunStatus {
				continue
			}
			switch read[errand.RunStatusData](t, e).Status {
			case errand.RunPreparing:
				changes = append(changes, change{e.Time, 1})
			case errand.RunFinished:
				changes = append(changes, change{e.Time, -1})
			}
		}
	}
	slices.SortFunc(changes, func(a, b change) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.delta - b.delta // within a millisecond one ends before the next begins
	})
	now, most := 0, 0
	for _, c := range changes {
		now += c.delta
		most = max(most, now)
	}
	if most != slots {
		t.Errorf("%d runs were under way at once, want %d", most, slots)
	}
}
