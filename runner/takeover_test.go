package runner_test

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/terminal"
)

var other = errand.Caller{Key: "other", Name: "Grace Hopper", Email: "grace@example.com"}

// takeover takes an agent over and wants it ready.
func (h *house) takeover(agent errand.AgentID) errand.Takeover {
	h.t.Helper()
	a, err := h.runner.Takeover(h.t.Context(), caller, agent, runner.TakeoverRequest{})
	if err != nil {
		h.t.Fatal(err)
	}
	if a.Takeover == nil || a.Takeover.From == nil || a.Takeover.From.Problem != "" {
		h.t.Fatalf("the agent is taken over as %+v\n%s", a.Takeover, h.story(agent))
	}
	return *a.Takeover
}

func (h *house) handback(agent errand.AgentID, note string) errand.TakeoverEnded {
	h.t.Helper()
	ended, err := h.runner.Handback(h.t.Context(), caller, agent, runner.HandbackRequest{Note: note})
	if err != nil {
		h.t.Fatal(err)
	}
	return ended
}

// count gives how many events of a kind the agent's journal has.
func (h *house) count(agent errand.AgentID, kind errand.EventKind) (n int) {
	for _, e := range h.events(agent) {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// heard gives what the model was sent last, as text.
func (h *house) heard() string {
	h.t.Helper()
	all := h.model.Requests()
	return texts(h.t, all[len(all)-1].Body)
}

// texts gives all the texts in a request, each on lines of its own.
func texts(t *testing.T, body json.RawMessage) string {
	t.Helper()
	var request struct {
		Messages []struct {
			Role    string `json:"role"`
			Content []struct {
				Type    string          `json:"type"`
				Text    string          `json:"text"`
				Content json.RawMessage `json:"content"`
			} `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, m := range request.Messages {
		for _, c := range m.Content {
			b.WriteString(m.Role + " " + c.Type + ": " + c.Text + string(c.Content) + "\n")
		}
	}
	return b.String()
}

// desk types lines into a shared terminal, each once the one before has shown what
// it ends with, and leaves it.
func (h *house) desk(agent errand.AgentID, name string, lines ...[2]string) {
	h.t.Helper()
	s, ended := newScreen(h.t), make(chan error, 1)
	typed, keys := io.Pipe()
	ctx, cancel := context.WithCancel(h.t.Context())
	go func() {
		ended <- h.runner.Attach(ctx, caller, agent, terminal.View{Name: name, Size: guest.Size{Cols: 100, Rows: 20}}, terminal.Streams{In: typed, Out: s.show})
	}()
	defer func() {
		cancel()
		typed.Close()
		<-ended
	}()
	for _, line := range lines {
		if _, err := keys.Write([]byte(line[0] + "\r")); err != nil {
			h.t.Fatal(err)
		}
		s.until(line[1])
	}
}

// TestTakeover is the whole of it, on each engine: a call under way ends and is
// kept, nothing new begins, and what the person changed, committed and typed is
// what the model is told, once.
func TestTakeover(t *testing.T) {
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			long := command("echo begun > /workspace/log; until [ -e /tmp/go ]; do sleep 0.05; done; echo survived")
			long.Calls = append(long.Calls, command("echo never > /workspace/never").Calls...)
			h := build(t, script(talk("work", long, &scripted.Turn{Expect: scripted.Pat("survived"), Text: "done"})), runner.Defaults{})
			request := ask("work", repository(t, map[string]string{"greet.sh": "echo helo\n", "old": "x\n"}))
			request.Settings.Engine = engine
			agent, run := h.start(request)
			if err := func() error {
				h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
				return awaitFile(t.Context(), h, agent)
			}(); err != nil {
				t.Fatal(err)
			}

			h.takeover(agent)
			h.exec(agent, "touch /tmp/go")
			result := read[errand.ToolEnded](t, h.until(agent, "the call's result", func(e errand.Event) bool { return e.Kind == errand.EventToolEnded }))
			if !strings.Contains(result.Output, "survived") {
				t.Errorf("the call under way ended with %q", result.Output)
			}
			if out, exit := h.exec(agent, "cd /workspace && sed -i s/helo/hello/ greet.sh && git commit -qam 'Mend the greeting' && echo more >> greet.sh && rm old && echo new > NEW"); exit.Code != 0 {
				t.Fatalf("editing: %s", out)
			}
			h.desk(agent, "desk", [2]string{"echo rea''dy", "ready"}, [2]string{"x=$((6*7))", "x="}, [2]string{"echo ans''wer-$x", "answer-42"})
			h.desk(agent, "plain", [2]string{"exec sh -c 'echo st''arted; exec sh'", "started"}, [2]string{"echo in''-sh", "in-sh"})
			if _, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "later"}}); errand.AsError(err) == nil || errand.AsError(err).Code != "agent_busy" {
				t.Errorf("a follow-up to a paused agent gave %v", err)
			}
			if now, err := h.runner.OneRun(t.Context(), caller, agent, run); err != nil || now.Status != errand.RunRunning {
				t.Errorf("the paused run is %s, %v", now.Status, err)
			}
			if n := len(h.model.Requests()); n != 1 {
				t.Errorf("the model was asked %d times while the agent was taken over", n)
			}

			ended := h.handback(agent, "The greeting had a typo.")
			if d := h.ends(agent, run, errand.RunFinished); d.Result != "done" {
				t.Errorf("the result is %q", d.Result)
			}
			told := h.heard()
			if n := strings.Count(told, ended.Summary); n != 1 {
				t.Errorf("the model was told the summary %d times:\n%s\n--- summary:\n%s", n, told, ended.Summary)
			}
			for _, want := range []string{
				"Ada Lovelace took this machine over", "The greeting had a typo.", "Mend the greeting", "modified greet.sh, +2 -1", "deleted old", "added NEW",
				"-echo helo\n+echo hello\n", "in terminal desk: x=$((6*7))\n", "Terminal plain showed meanwhile:", "in-sh\n", "by Ada Lovelace: bash -c touch /tmp/go",
			} {
				if !strings.Contains(ended.Summary, want) {
					t.Errorf("the summary does not say %q:\n%s", want, ended.Summary)
				}
			}
			for _, not := range []string{"began before", "never"} {
				if strings.Contains(ended.Summary, not) {
					t.Errorf("the summary says %q:\n%s", not, ended.Summary)
				}
			}
			if !strings.Contains(told, "Not carried out: a person took over") {
				t.Errorf("the model is not told of the call that was not made:\n%s", told)
			}
			if out, _ := h.exec(agent, "ls /workspace/never 2>&1; git -C /workspace status --short; git -C /workspace log --format=%s -n 2"); !strings.Contains(out, "No such file") || !strings.Contains(out, "Mend the greeting") {
				t.Errorf("in the end the machine has:\n%s", out)
			}
			if a, err := h.runner.Agent(t.Context(), caller, agent); err != nil || a.Takeover != nil || a.Takeovers != 1 {
				t.Errorf("the agent is %+v, %v", a, err)
			}
		})
	}
}

// TestTakeoverOfAnIdleAgent holds what is queued, over a restart of the server.
func TestTakeoverOfAnIdleAgent(t *testing.T) {
	h := build(t, script(&scripted.Conversation{Match: scripted.Pat("first"), Turns: []*scripted.Turn{says("done")},
		FollowUps: []*scripted.FollowUp{{Match: scripted.Pat("second"), Turns: []*scripted.Turn{says("done too")}}}}), runner.Defaults{Idle: 200 * time.Millisecond})
	const value = "correct-horse-battery"
	request := ask("first", "")
	request.EnvVars = map[string]string{"TOKEN": value}
	agent, run := h.start(request)
	h.ends(agent, run, errand.RunFinished)
	h.takeover(agent)
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "second"}})
	if err != nil {
		t.Fatal(err)
	}
	h.exec(agent, "echo $TOKEN > /workspace/mine")
	h.desk(agent, "desk", [2]string{"echo " + value + " | wc -c", "22"})
	h.restart()
	// The queue is looked at when a run of another agent ends.
	another, its := h.start(ask("first", ""))
	h.ends(another, its, errand.RunFinished)
	if now, err := h.runner.OneRun(t.Context(), caller, agent, follow.ID); err != nil || now.Status != errand.RunQueued {
		t.Errorf("the follow-up is %s, %v", now.Status, err)
	}
	h.runner.StopIdle(t.Context())
	ended := h.handback(agent, "")
	if !strings.Contains(ended.Summary, "added mine") {
		t.Errorf("without a repository the summary is\n%s", ended.Summary)
	}
	h.ends(agent, follow.ID, errand.RunFinished)
	if told := h.heard(); strings.Count(told, ended.Summary) != 1 || strings.Contains(told, value) {
		t.Errorf("the model was told\n%s", told)
	}
	if !strings.Contains(ended.Summary, "+[REDACTED]") || !strings.Contains(ended.Summary, "echo [REDACTED] | wc -c") {
		t.Errorf("a secret that the person printed is told as\n%s", ended.Summary)
	}
	for _, e := range h.events(agent) {
		if strings.Contains(string(e.Data), value) {
			t.Errorf("the journal tells the secret: %s", e.Data)
		}
		if e.Kind == errand.EventMachine && read[errand.MachineData](t, e).What == "stopped" {
			t.Error("the machine slept while the agent was taken over")
		}
	}
}

// TestTwoPeople: one has the agent, the other is told who and since when, and takes
// it by force. Both are told of in the end.
func TestTwoPeople(t *testing.T) {
	h := build(t, script(talk(".", says("done"))), runner.Defaults{})
	agent, run := h.start(ask("go", ""))
	h.ends(agent, run, errand.RunFinished)
	if _, err := h.runner.Handback(t.Context(), caller, agent, runner.HandbackRequest{}); errand.AsError(err) == nil || errand.AsError(err).Code != "agent_not_taken_over" {
		t.Errorf("handing back what nobody has gave %v", err)
	}
	first := h.takeover(agent)
	_, err := h.runner.Takeover(t.Context(), other, agent, runner.TakeoverRequest{})
	if e := errand.AsError(err); e == nil || e.Code != "agent_taken_over" || !strings.Contains(e.Message, "Ada Lovelace") || !strings.Contains(e.Message, first.Since.Format(time.RFC3339)) {
		t.Errorf("taking over what another has gave %v", err)
	}
	if _, err := h.runner.Handback(t.Context(), other, agent, runner.HandbackRequest{}); errand.KindOf(err) != errand.Conflict {
		t.Errorf("handing back what another has gave %v", err)
	}
	again := h.takeover(agent)
	if !again.Until.After(first.Until) || again.Number != first.Number {
		t.Errorf("taken over again until %s, before until %s", again.Until, first.Until)
	}
	a, err := h.runner.Takeover(t.Context(), other, agent, runner.TakeoverRequest{Force: true})
	if err != nil || a.Takeover.By != other || a.Takeover.Number != first.Number {
		t.Errorf("by force it is %+v, %v", a.Takeover, err)
	}
	started := read[errand.TakeoverStarted](t, h.until(agent, "the second person", func(e errand.Event) bool {
		return e.Kind == errand.EventTakeoverStarted && read[errand.TakeoverStarted](t, e).Caller == other
	}))
	if started.From == nil || *started.From != caller {
		t.Errorf("the journal says it was taken from %v", started.From)
	}
	if _, err := h.runner.Handback(t.Context(), caller, agent, runner.HandbackRequest{}); errand.KindOf(err) != errand.Conflict {
		t.Errorf("the first one handing back gave %v", err)
	}
	ended, err := h.runner.Handback(t.Context(), caller, agent, runner.HandbackRequest{Force: true, Note: "I did it"})
	if err != nil || !strings.Contains(ended.Summary, "Ada Lovelace handed it back") || ended.Holder != other {
		t.Errorf("handed back by force: %v\n%s", err, ended.Summary)
	}
}

// TestForgottenTakeover ends by its rule, after two reminders, and says so.
func TestForgottenTakeover(t *testing.T) {
	h := build(t, script(talk("wait", command("echo begun > /workspace/log; sleep 0.5"), says("done"))), runner.Defaults{Takeover: 4 * time.Second})
	agent, run := h.start(ask("wait", ""))
	h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
	h.takeover(agent)
	d := read[errand.TakeoverEnded](t, h.until(agent, "the end of the take-over", func(e errand.Event) bool { return e.Kind == errand.EventTakeoverEnded }))
	if d.Ending.Why != errand.EndingLimit || !strings.Contains(d.Summary, "handed back by itself") {
		t.Errorf("it ended with %+v\n%s", d.Ending, d.Summary)
	}
	if n := h.count(agent, errand.EventTakeoverReminded); n != 2 {
		t.Errorf("there were %d reminders, want 2", n)
	}
	h.ends(agent, run, errand.RunFinished)
	if told := h.heard(); strings.Count(told, d.Summary) != 1 {
		t.Errorf("the model was told\n%s", told)
	}
}

// TestEndsOfATakeover: cancelling the run under way, putting the agent away and
// removing it end what a person has in hand; interrupting does not.
func TestEndsOfATakeover(t *testing.T) {
	h := build(t, script(&scripted.Conversation{Match: scripted.Pat("long"), Turns: []*scripted.Turn{command("echo begun > /workspace/log; sleep 300"), says("never")},
		FollowUps: []*scripted.FollowUp{{Match: scripted.Pat("quick"), Turns: []*scripted.Turn{says("quick it was")}}}}), runner.Defaults{})
	begin := func() (errand.AgentID, errand.RunID) {
		agent, run := h.start(ask("long", ""))
		h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
		h.takeover(agent)
		return agent, run
	}
	why := func(agent errand.AgentID) string {
		return read[errand.TakeoverEnded](t, h.until(agent, "the end of the take-over", func(e errand.Event) bool { return e.Kind == errand.EventTakeoverEnded })).Ending.Why
	}

	agent, run := begin()
	if err := h.runner.Cancel(t.Context(), caller, agent, run); err != nil {
		t.Fatal(err)
	}
	h.ends(agent, run, errand.RunCancelled)
	if got := why(agent); got != errand.EndingCancel {
		t.Errorf("cancelling ended the take-over as %q", got)
	}

	agent, run = begin()
	if err := h.runner.Archive(t.Context(), caller, agent); err != nil {
		t.Fatal(err)
	}
	h.ends(agent, run, errand.RunCancelled)
	if got := why(agent); got != errand.EndingArchive {
		t.Errorf("putting away ended the take-over as %q", got)
	}

	agent, _ = begin()
	if err := h.runner.Delete(t.Context(), caller, agent); err != nil {
		t.Fatal(err)
	}

	agent, run = begin()
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "quick"}, WhenBusy: "interrupt"})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(agent, run, errand.RunCancelled)
	if a, err := h.runner.Agent(t.Context(), caller, agent); err != nil || a.Takeover == nil {
		t.Errorf("interrupting ended the take-over: %v", err)
	}
	h.handback(agent, "")
	h.ends(agent, follow.ID, errand.RunFinished)
}

// TestCancelOfAPausedRun ends a run that waits for a person's hand-back, which no
// part of the server works on just then.
func TestCancelOfAPausedRun(t *testing.T) {
	h := build(t, script(talk("go", command("echo begun > /workspace/log; sleep 0.3"), says("never"))), runner.Defaults{})
	for _, restart := range []bool{false, true} {
		agent, run := h.start(ask("go", ""))
		h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
		h.takeover(agent)
		h.until(agent, "its result", func(e errand.Event) bool { return e.Kind == errand.EventToolEnded })
		if restart {
			h.restart()
		}
		if err := h.runner.Cancel(t.Context(), caller, agent, run); err != nil {
			t.Fatal(err)
		}
		h.ends(agent, run, errand.RunCancelled)
		h.until(agent, "the end of the take-over", func(e errand.Event) bool { return e.Kind == errand.EventTakeoverEnded })
	}
}

// TestTakeoverWhileTheModelAnswers: the answer is kept and paid for once, what it
// would have done is not, and the next request knows what the person did.
func TestTakeoverWhileTheModelAnswers(t *testing.T) {
	slow := command("echo never > /workspace/never")
	slow.Text, slow.Delay = "I will now do something.", scripted.Duration(1500*time.Millisecond)
	h := build(t, script(talk("go", slow, says("done"))), runner.Defaults{})
	agent, run := h.start(ask("go", ""))
	h.until(agent, "a request", func(e errand.Event) bool { return e.Kind == errand.EventTurnStarted })
	h.takeover(agent)
	ended := h.handback(agent, "Quickly.") // before the answer is there
	h.ends(agent, run, errand.RunFinished)
	if n := len(h.model.Requests()); n != 2 {
		t.Errorf("the model was asked %d times, want 2", n)
	}
	if n := h.count(agent, errand.EventToolCalled); n != 0 {
		t.Errorf("%d calls were made that did not know of the person\n%s", n, h.story(agent))
	}
	if told := h.heard(); strings.Count(told, ended.Summary) != 1 || !strings.Contains(told, "Not carried out") {
		t.Errorf("the model was told\n%s", told)
	}
	now, err := h.runner.OneRun(t.Context(), caller, agent, run)
	if err != nil {
		t.Fatal(err)
	}
	var used errand.Usage
	for _, e := range h.events(agent) {
		if e.Kind == errand.EventTurnEnded {
			used = used.Add(read[errand.TurnEnded](t, e).Usage)
		}
	}
	if now.Usage != used || used.Total() == 0 {
		t.Errorf("the run used %+v, its turns %+v", now.Usage, used)
	}
}
