package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// TestBoot folds a journal with two runs: what made the machine ready, an
// install that was begun anew, and nothing of the work that follows.
func TestBoot(t *testing.T) {
	agent, first, second := errand.NewAgentID(), errand.NewRunID(), errand.NewRunID()
	at := time.Unix(1000, 0).UTC()
	var events []errand.Event
	tell := func(run errand.RunID, kind errand.EventKind, data any) {
		text, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, errand.Event{Agent: agent, Seq: errand.Seq(len(events) + 1), Run: run, Time: at, Kind: kind, Data: text})
		at = at.Add(time.Second)
	}
	code := 3
	tell(first, errand.EventEnvironment, errand.EnvironmentUsed{Environment: "env-1", Name: "web", Why: "it was asked for"})
	tell(first, errand.EventPhaseStarted, errand.PhaseStarted{Phase: errand.PhaseInstall, Command: "npm ci"})
	tell(first, errand.EventPhaseStarted, errand.PhaseStarted{Phase: errand.PhaseInstall, Command: "npm ci"})
	tell(first, errand.EventPhaseEnded, errand.PhaseEnded{Phase: errand.PhaseInstall, DurationMs: 500, Note: "package.json changed since bld-1",
		Error: &errand.Error{Kind: errand.Invalid, Code: "install_failed", Message: "No.", Output: "boom", ExitCode: &code}})
	tell(second, errand.EventPhaseStarted, errand.PhaseStarted{Phase: errand.PhaseTerminals})
	tell(second, errand.EventEnvironment, errand.EnvironmentUsed{Environment: "env-1", Name: "web", Build: "bld-2"})
	tell(second, errand.EventNotice, errand.Notice{Text: "odd"})
	tell(second, errand.EventPhaseEnded, errand.PhaseEnded{Phase: errand.PhaseTerminals, DurationMs: 100, Cached: true, Note: "there are no terminals"})
	tell(second, errand.EventPhaseStarted, errand.PhaseStarted{Phase: errand.PhaseWork})
	tell(second, errand.EventNotice, errand.Notice{Text: "of the work"})

	got, found := api.BootOf(events, "")
	want := api.Boot{
		AgentID: string(agent), RunID: string(second), EnvironmentID: "env-1", Environment: "web", Why: "it was asked for", BuildID: "bld-2", DurationMs: 100,
		Phases:  []api.BootPhase{{Phase: errand.PhaseTerminals, StartedAt: time.Unix(1004, 0).UTC(), DurationMs: 100, Ended: true, Cached: true, Note: "there are no terminals"}},
		Notices: []string{"odd"},
	}
	if d := cmp.Diff(want, got); d != "" || !found {
		t.Errorf("the latest run (-want +got):\n%s", d)
	}
	got, found = api.BootOf(events, first)
	if !found || len(got.Phases) != 2 || got.Phases[0].Ended || got.Phases[1].Error == nil || got.Phases[1].Error.Output != "boom" || got.DurationMs != 1500 {
		t.Errorf("the first run: %+v", got)
	}
	if _, found := api.BootOf(events, errand.NewRunID()); found {
		t.Error("a run that is not there was made ready")
	}
}
