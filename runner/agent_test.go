package runner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/runner"
)

// TestIdleMachineSleepsAndWakes stops the machine of an agent that nobody uses,
// wakes it for a person and for a run, and wants its files, its start and its
// terminals there again.
func TestIdleMachineSleepsAndWakes(t *testing.T) {
	h := build(t, script(talk("first", command("echo kept > /workspace/kept; touch /tmp/also"), says("done")),
		talk("second", says("done"))), runner.Defaults{Idle: 300 * time.Millisecond})
	repo := repository(t, map[string]string{".cursor/environment.json": `{"start": "date +%N >> /var/tmp/started", "terminals": [{"name": "clock", "command": "while :; do date; sleep 1; done"}]}`})
	agent, run := h.start(ask("first", repo))
	h.ends(agent, run, errand.RunFinished)
	slept := func(after errand.Seq) errand.Event {
		return h.until(agent, "sleep", func(e errand.Event) bool {
			return e.Seq > after && e.Kind == errand.EventMachine && read[errand.MachineData](t, e).What == "stopped"
		})
	}
	first := slept(0)
	if out, exit := h.exec(agent, "cat /workspace/kept /tmp/also && wc -l < /var/tmp/started && tmux -S /run/errand/tmux list-sessions"); exit.Code != 0 || !strings.Contains(out, "kept\n2\n") || !strings.Contains(out, "clock") {
		t.Errorf("after waking, the machine has %q (exit code %d)", out, exit.Code)
	}
	again := slept(first.Seq)
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "second"}})
	if err != nil {
		t.Fatal(err)
	}
	h.end(agent, follow.ID)
	woken := h.until(agent, "waking", func(e errand.Event) bool {
		return e.Seq > again.Seq && e.Kind == errand.EventMachine && read[errand.MachineData](t, e).What == "woken"
	})
	if woken.Run != follow.ID {
		t.Errorf("the machine was woken for run %q, want %s", woken.Run, follow.ID)
	}
}

// TestBusyAgent queues, rejects, interrupts and cancels.
func TestBusyAgent(t *testing.T) {
	h := build(t, script(&scripted.Conversation{
		Match: scripted.Pat("long"), Turns: []*scripted.Turn{command("sleep 300 & echo $! > /workspace/pid; wait"), says("never")},
		FollowUps: []*scripted.FollowUp{{Match: scripted.Pat("quick"), Turns: []*scripted.Turn{says("quick it was")}}},
	}), runner.Defaults{})
	agent, run := h.start(ask("long", ""))
	h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
	h.exec(agent, "until [ -s /workspace/pid ]; do sleep 0.05; done")

	send := func(whenBusy string) (errand.Run, error) {
		return h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "quick"}, WhenBusy: whenBusy})
	}
	for _, whenBusy := range []string{"", "reject"} {
		if _, err := send(whenBusy); errand.AsError(err) == nil || errand.AsError(err).Code != "agent_busy" {
			t.Errorf("whenBusy %q gave %v, want agent_busy", whenBusy, err)
		}
	}
	if _, err := send("sometime"); errand.KindOf(err) != errand.Invalid {
		t.Errorf("an unknown whenBusy gave %v", err)
	}
	queued, err := send("queue")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.runner.OneRun(t.Context(), caller, agent, queued.ID); err != nil || got.Status != errand.RunQueued {
		t.Errorf("the queued run is %s, %v", got.Status, err)
	}
	interrupting, err := send("interrupt")
	if err != nil {
		t.Fatal(err)
	}
	h.ends(agent, run, errand.RunCancelled)
	h.ends(agent, queued.ID, errand.RunCancelled)
	if d := h.ends(agent, interrupting.ID, errand.RunFinished); d.Result != "quick it was" {
		t.Errorf("the result is %q", d.Result)
	}
	if out, _ := h.exec(agent, "read pid </workspace/pid && ! kill -0 $pid && echo $pid is gone"); !strings.Contains(out, " is gone\n") {
		t.Errorf("the cancelled run's command goes on: %s", out)
	}
	if err := h.runner.Cancel(t.Context(), caller, agent, run); errand.AsError(err) == nil || errand.AsError(err).Code != "run_not_cancellable" {
		t.Errorf("cancelling an ended run gave %v", err)
	}
	if got, err := h.runner.Agent(t.Context(), caller, agent); err != nil || got.Status != errand.AgentIdle {
		t.Errorf("the agent is %s, %v", got.Status, err)
	}
}

// TestCancelledInstall cancels a run whose install hangs: it is ended, and the
// next run begins it anew.
func TestCancelledInstall(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	agent, run := h.start(ask("go", repository(t, map[string]string{
		".errand/environment.json": `{"install": "echo begun; if [ ! -e /var/tmp/again ]; then touch /var/tmp/again; sleep 300; fi"}`})))
	h.until(agent, "the install", func(e errand.Event) bool { return e.Kind == errand.EventPhaseOutput })
	if err := h.runner.Cancel(t.Context(), caller, agent, run); err != nil {
		t.Fatal(err)
	}
	h.ends(agent, run, errand.RunCancelled)
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "again"}})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(agent, follow.ID, errand.RunFinished)
}

// TestArchiveAndDelete puts agents away and removes them, under way or not.
func TestArchiveAndDelete(t *testing.T) {
	h := build(t, script(talk("long", command("sleep 300"), says("never"))), runner.Defaults{})
	agent, run := h.start(ask("long", ""))
	h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
	if err := h.runner.Archive(t.Context(), caller, agent); err != nil {
		t.Fatal(err)
	}
	h.ends(agent, run, errand.RunCancelled)
	_, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "long"}})
	if e := errand.AsError(err); e == nil || e.Code != "agent_archived" {
		t.Errorf("a follow-up to an archived agent gave %v", err)
	}
	if err := h.runner.Unarchive(t.Context(), caller, agent); err != nil {
		t.Fatal(err)
	}
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "long"}})
	if err != nil {
		t.Fatal(err)
	}
	h.until(agent, "the second run", func(e errand.Event) bool {
		return e.Run == follow.ID && e.Kind == errand.EventRunStatus
	})
	if err := h.runner.Delete(t.Context(), caller, agent); err != nil {
		t.Fatal(err)
	}
	if _, err := h.runner.Agent(t.Context(), caller, agent); errand.KindOf(err) != errand.NotFound {
		t.Errorf("a deleted agent gave %v", err)
	}
	var told []error
	for _, err := range h.runner.Follow(t.Context(), caller, agent, 0) {
		told = append(told, err)
	}
	if len(told) != 1 || errand.KindOf(told[0]) != errand.NotFound {
		t.Errorf("the journal of a deleted agent gave %v", told)
	}
}

// TestVariablesReachTheMachineAndNothingElse gives an agent a secret and looks
// for it everywhere it must not be.
func TestVariablesReachTheMachineAndNothingElse(t *testing.T) {
	const value = "correct-horse-battery"
	h := build(t, script(talk("use it", command(`test ${#TOKEN} = 21 && echo "it is $TOKEN, $(printf %s "$TOKEN" | base64)"`),
		&scripted.Turn{Expect: scripted.Pat(`it is \[REDACTED\], \[REDACTED\]`), Text: "used"})), runner.Defaults{})
	request := ask("use it", "")
	request.EnvVars = map[string]string{"TOKEN": value}
	agent, run := h.start(request)
	h.ends(agent, run, errand.RunFinished)
	for _, e := range h.events(agent) {
		if strings.Contains(string(e.Data), value) {
			t.Errorf("event %d (%s) holds the secret", e.Seq, e.Kind)
		}
	}
	if strings.Contains(h.log.String(), value) {
		t.Error("the log holds the secret")
	}
	if found := grep(t, h.dir, value); len(found) > 0 {
		t.Errorf("the secret stands on disk in %v", found)
	}
}

// TestSameRequestTwice sends requests again with their idempotency keys.
func TestSameRequestTwice(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	request := ask("once", "")
	request.IdempotencyKey = "k1"
	a, r := h.start(request)
	b, s := h.start(request)
	if a != b || r != s {
		t.Errorf("the same request gave %s/%s and %s/%s", a, r, b, s)
	}
	h.ends(a, r, errand.RunFinished)
	other := ask("twice", "")
	other.IdempotencyKey = "k1"
	if _, _, err := h.runner.Start(t.Context(), caller, other); errand.AsError(err) == nil || errand.AsError(err).Code != "idempotency_key_reused" {
		t.Errorf("another prompt with the same key gave %v", err)
	}
	chosen := ask("mine", "")
	chosen.ID = errand.NewAgentID()
	first, run := h.start(chosen)
	if first != chosen.ID {
		t.Errorf("the agent is %s, want the chosen %s", first, chosen.ID)
	}
	h.ends(first, run, errand.RunFinished)
	if _, _, err := h.runner.Start(t.Context(), caller, chosen); errand.AsError(err) == nil || errand.AsError(err).Code != "agent_id_conflict" {
		t.Errorf("the same id again gave %v", err)
	}
}

// TestSameFirstFollowUpTwice repeats the first prompt of an agent that was made
// without one.
func TestSameFirstFollowUpTwice(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	agent, err := h.runner.Make(t.Context(), caller, runner.StartRequest{Name: "visited"})
	if err != nil {
		t.Fatal(err)
	}
	f := runner.FollowUp{Prompt: errand.Prompt{Text: "go"}, IdempotencyKey: "k1"}
	first, err := h.runner.FollowUp(t.Context(), caller, agent.ID, f)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.runner.FollowUp(t.Context(), caller, agent.ID, f); err != nil || again.ID != first.ID {
		t.Errorf("sent again, %s gives %s, %v", first.ID, again.ID, err)
	}
	f.Prompt.Text = "stop"
	if _, err := h.runner.FollowUp(t.Context(), caller, agent.ID, f); errand.AsError(err) == nil || errand.AsError(err).Code != "idempotency_key_reused" {
		t.Errorf("another prompt with the same key gave %v", err)
	}
	h.ends(agent.ID, first.ID, errand.RunFinished)
}

// TestStraysAreSwept makes a machine that no agent has and starts a server over
// it.
func TestStraysAreSwept(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	agent, run := h.start(ask("stay", ""))
	h.ends(agent, run, errand.RunFinished)
	if _, err := h.driver.Create(t.Context(), "m-stray", machine.Spec{Engine: "runc"}); err != nil {
		t.Fatal(err)
	}
	h.restart()
	await(t, "the stray to be gone", func() bool {
		held, err := h.driver.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(held) == 1
	})
	if out, exit := h.exec(agent, "curl -fsS https://registry.npmjs.org/is-number/latest | grep -q is-number && echo alive"); exit.Code != 0 || !strings.Contains(out, "alive") {
		t.Errorf("the agent's own machine says %q", out)
	}
	found := false
	for _, e := range h.events(agent) {
		if e.Kind == errand.EventMachine {
			found = found || read[errand.MachineData](t, e).What == "found"
		}
	}
	if !found {
		t.Errorf("the machine was not found by its handle\n%s", h.story(agent))
	}
}
