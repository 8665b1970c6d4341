package runner_test

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/store"
)

// TestRestartInOrder ends the server, as an update does, while a command runs.
// The command goes on and the next server takes its output.
func TestRestartInOrder(t *testing.T) {
	h := build(t, script(talk("work", command("echo begun > /workspace/log; until [ -e /workspace/go ]; do sleep 0.05; done; echo survived"),
		&scripted.Turn{Expect: scripted.Pat("survived"), Text: "done"})), runner.Defaults{})
	agent, run := h.start(ask("work", ""))
	h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
	if err := awaitFile(t.Context(), h, agent); err != nil {
		t.Fatal(err)
	}
	h.restart()
	if _, exit := h.exec(agent, "touch /workspace/go"); exit.Code != 0 {
		t.Errorf("touch ended with %d", exit.Code)
	}
	if d := h.ends(agent, run, errand.RunFinished); d.Result != "done" {
		t.Errorf("the result is %q", d.Result)
	}
}

// TestCancelRightAfterTheClaim drives runs that were cancelled between their
// claim and their drive: nothing may be done for them.
func TestCancelRightAfterTheClaim(t *testing.T) {
	h := build(t, script(talk(".", says("never"))), runner.Defaults{})
	h.stop() // so that only the test drives
	for _, status := range []errand.RunStatus{errand.RunQueued, errand.RunPreparing} {
		agent, id := h.start(ask("work", ""))
		var claimed errand.Run
		if err := h.store.Write(t.Context(), func(tx *store.Tx) (err error) {
			if claimed, err = tx.Run(t.Context(), agent, id); err != nil {
				return err
			}
			claimed.Status, claimed.StartedAt = status, tx.Now() // preparing: an earlier server was killed
			return tx.UpdateRun(claimed)
		}); err != nil {
			t.Fatal(err)
		}
		if err := h.runner.Cancel(t.Context(), caller, agent, id); err != nil {
			t.Fatal(err)
		}
		h.runner.Drive(t.Context(), claimed)
		h.ends(agent, id, errand.RunCancelled)
		for _, e := range h.events(agent) {
			if e.Kind == errand.EventPhaseStarted {
				t.Errorf("a cancelled run that was %s was worked on\n%s", status, h.story(agent))
				break
			}
		}
	}
	h.run()
}

// TestDeletedIDIsFreeAgain makes an agent under the id of one that was deleted:
// it is refused while the machine of the first is there, and never stands on it.
func TestDeletedIDIsFreeAgain(t *testing.T) {
	h := build(t, script(talk("first", command("touch /workspace/mine"), says("done")), talk("second", command("ls /workspace; echo end"),
		&scripted.Turn{Expect: scripted.Pat("end"), Text: "done"})), runner.Defaults{})
	request := ask("first", "")
	request.ID = errand.NewAgentID()
	agent, run := h.start(request)
	h.ends(agent, run, errand.RunFinished)
	if err := h.runner.Delete(t.Context(), caller, agent); err != nil {
		t.Fatal(err)
	}
	request.Prompt.Text = "second"
	var second errand.Run
	await(t, "the first one's machine to be gone", func() bool {
		var err error
		_, second, err = h.runner.Start(t.Context(), caller, request)
		if e := errand.AsError(err); e != nil && e.Code == "agent_id_conflict" {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
	h.ends(agent, second.ID, errand.RunFinished)
	for _, e := range h.events(agent) {
		if e.Kind == errand.EventToolEnded && strings.Contains(string(e.Data), "mine") {
			t.Errorf("the new agent has the deleted one's disk\n%s", h.story(agent))
		}
	}
}

// TestErrorsHideSecrets prints a secret and fails: neither the journal nor the
// run's row may tell it.
func TestErrorsHideSecrets(t *testing.T) {
	const value = "correct-horse-battery"
	h := build(t, script(talk(".", says("never"))), runner.Defaults{})
	request := ask("work", repository(t, map[string]string{".cursor/environment.json": `{"install": "echo it is $TOKEN; exit 7"}`}))
	request.EnvVars = map[string]string{"TOKEN": value}
	agent, run := h.start(request)
	h.ends(agent, run, errand.RunFailed)
	got, err := h.runner.OneRun(t.Context(), caller, agent, run)
	if err != nil || got.Error == nil || !strings.Contains(got.Error.Output, "it is [REDACTED]") {
		t.Errorf("the run's row is %+v (%+v), %v", got, got.Error, err)
	}
	if found := grep(t, h.dir, value); len(found) > 0 {
		t.Errorf("the secret stands on disk in %v", found)
	}
}

// TestPersonWakesADeadMachine ends an idle agent's machine from outside: who
// comes next finds it woken.
func TestPersonWakesADeadMachine(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	request := ask("work", "")
	request.Settings.Engine = "gvisor"
	agent, run := h.start(request)
	h.ends(agent, run, errand.RunFinished)
	killMachine(t, agent)
	// The first may come before the end is noticed.
	for range 2 {
		if _, err := h.runner.Exec(t.Context(), caller, agent, runner.ExecRequest{Args: []string{"true"}}, nil); err == nil {
			return
		}
	}
	t.Error("the machine was not woken")
}

// TestEndIsNotWrittenYet takes the end of a run back, as if the server had been
// killed before it was written. The next one settles again: what was committed
// and pushed is told once, as that run's.
func TestEndIsNotWrittenYet(t *testing.T) {
	h := build(t, script(&scripted.Conversation{
		Match: scripted.Pat("first"), Turns: []*scripted.Turn{command("echo new > /workspace/new; sleep 1"), says("done")},
		FollowUps: []*scripted.FollowUp{{Match: scripted.Pat("second"), Turns: []*scripted.Turn{says("done")}}},
	}), runner.Defaults{})
	agent, run := h.start(ask("first", repository(t, nil)))
	second, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "second"}, WhenBusy: "queue"})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(agent, run, errand.RunFinished)
	h.ends(agent, second.ID, errand.RunFinished)
	h.stop()
	if err := h.store.Write(t.Context(), func(tx *store.Tx) error {
		r, err := tx.Run(t.Context(), agent, run)
		if err != nil {
			return err
		}
		r.Status = errand.RunRunning
		return tx.UpdateRun(r)
	}); err != nil {
		t.Fatal(err)
	}
	before := errand.Seq(len(h.events(agent)))
	h.run()
	h.until(agent, "the end once more", func(e errand.Event) bool {
		return e.Seq > before && e.Run == run && e.Kind == errand.EventRunStatus && read[errand.RunStatusData](t, e).Status == errand.RunFinished
	})
	count := map[errand.EventKind]int{}
	for _, e := range h.events(agent) {
		if e.Kind != errand.EventCommit && e.Kind != errand.EventPush {
			continue
		}
		if count[e.Kind]++; e.Run != run {
			t.Errorf("a %s event is told as run %s's, want %s", e.Kind, e.Run, run)
		}
	}
	if count[errand.EventCommit] != 1 || count[errand.EventPush] != 1 {
		t.Errorf("told %v, want one of each\n%s", count, h.story(agent))
	}
}
