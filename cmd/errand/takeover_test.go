package main_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/llm/scripted"
)

// takeoverScript is a model that runs a command which ends when it is let, would
// then make another call, and says done once it has heard of the person.
func takeoverScript() *scripted.Script {
	return &scripted.Script{Conversations: []*scripted.Conversation{{
		Match: scripted.Pat(`(?i)mend`),
		Turns: []*scripted.Turn{
			{Text: "I run the tests.", Calls: []scripted.Call{
				{Name: "run_terminal_cmd", Args: []byte(`{"command":"echo begun > /tmp/begun; until [ -e /tmp/go ]; do sleep 0.05; done; echo survived >> /tmp/survived; cat /tmp/survived"}`)},
				{Name: "run_terminal_cmd", Args: []byte(`{"command":"git reset -q --hard && git clean -qfd"}`)},
			}},
			{Expect: scripted.Pat(`(?s)survived.*Not carried out: a person took over`), Text: "I go on from there."},
		},
	}}}
}

// as prepares the errand command for a person with a key of their own.
func (in *installation) as(key string, args ...string) *exec.Cmd {
	cmd := in.command(args...)
	cmd.Env = append(cmd.Env, "ERRAND_API_KEY="+key)
	return cmd
}

// person makes a key for somebody.
func (in *installation) person(name, email string) string {
	in.t.Helper()
	out, err := in.command("key", "create", strings.ToLower(name), "--person", name, "--email", email).Output()
	if err != nil {
		in.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// said runs a command that must succeed and gives what it printed.
func (in *installation) said(cmd *exec.Cmd) string {
	in.t.Helper()
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		in.t.Fatalf("%v: %v\n%s%s", cmd.Args[1:], err, out, exit.Stderr)
	}
	if err != nil {
		in.t.Fatal(err)
	}
	return string(out)
}

func wants(t *testing.T, what, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q:\n%s", what, want, text)
		}
	}
}

// TestHandover is the hand-over from end to end, by the commands that people have:
// two people, a call under way, edits, a commit, a shared terminal, and the agent
// that goes on with all of it.
func TestHandover(t *testing.T) {
	t.Parallel()
	in := install(t, takeoverScript())
	ada, grace := in.person("Ada", "ada@example.com"), in.person("Grace", "grace@example.com")
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			repo := remote(t, map[string]string{"greet.sh": "echo helo\n"})
			made := in.agent("Mend the greeting", repo, engine)
			id := made.Agent.ID
			in.await(id, errand.EventToolCalled)
			in.said(in.command("exec", id, "--", "sh", "-c", "until [ -e /tmp/begun ]; do sleep 0.05; done"))

			wants(t, "takeover", in.said(in.as(ada, "takeover", id)), "is yours until")
			refused := in.as(grace, "takeover", id)
			out, err := refused.CombinedOutput()
			if refused.ProcessState.ExitCode() != 6 {
				t.Errorf("the second person's takeover ended with %v", err)
			}
			wants(t, "the refusal", string(out), "Ada has had agent "+id+" in hand since", "errand takeover --force "+id)
			wants(t, "ls", in.said(in.as(grace, "ls")), "taken over")
			wants(t, "show", in.said(in.as(grace, "show", id)), "taken over by Ada", "running")

			in.shareDesk(t, id, ada, grace)
			in.said(in.as(ada, "exec", id, "--", "sh", "-c", "sed -i s/helo/hello/ greet.sh && git commit -qam 'Mend the greeting' && echo more > NEW && touch /tmp/go"))
			in.await(id, errand.EventToolEnded)

			var done api.HandedBack
			if err := json.Unmarshal([]byte(in.said(in.as(ada, "handback", id, "--json", "-m", "It was a typo."))), &done); err != nil {
				t.Fatal(err)
			}
			wants(t, "the summary", done.Summary, "Ada took this machine over", "It was a typo.", "Mend the greeting", "modified greet.sh, +1 -1", "added NEW",
				"-echo helo\n+echo hello\n", "in terminal desk: echo from''-ada", "by Ada: sh -c sed -i")
			if d := in.finished(id, made.Run.ID); d.Result != "I go on from there." {
				t.Errorf("the result is %q", d.Result)
			}
			wants(t, "logs", in.said(in.as(grace, "logs", "-v", id)), "taken over by Ada", "Ada ran sh -c sed -i", "handed back by Ada", "It was a typo.")
			if got := git(t, repo, "show", made.Agent.Branch+":greet.sh"); got != "echo hello" {
				t.Errorf("the branch has %q", got)
			}
			if got := git(t, repo, "show", made.Agent.Branch+":NEW"); got != "more" {
				t.Errorf("the branch has NEW as %q: the call that was not made was", got)
			}
			if out, err := in.as(ada, "handback", id).CombinedOutput(); err == nil || !strings.Contains(string(out), "Nobody has agent "+id+" in hand") {
				t.Errorf("handing back again gave %v %s", err, out)
			}
		})
	}
}

// shareDesk has two people in one terminal, who see that it is taken over, each
// other, and what is typed.
func (in *installation) shareDesk(t *testing.T, id, ada, grace string) {
	t.Helper()
	first, left := in.sit(in.as(ada, "attach", id, "desk"))
	first.expect("taken over by Ada until")
	second, leftToo := in.sit(in.as(grace, "attach", id, "desk"))
	second.expect("here: Ada, Grace")
	first.expect("here: Ada, Grace")
	first.types("echo from''-ada\n")
	second.expect("from-ada")
	wants(t, "show", in.said(in.as(grace, "show", id)), "Ada (typing in desk)", "Grace (in desk)")
	// One after the other: what is typed into one tmux session within a millisecond
	// is taken for pasted, and its keys for text.
	first.types("\x02d")
	if code := left(); code != 0 {
		t.Errorf("leaving the terminal ended with %d", code)
	}
	second.types("\x02d")
	if code := leftToo(); code != 0 {
		t.Errorf("leaving the terminal ended with %d", code)
	}
	if got := in.said(in.as(grace, "show", id)); strings.Contains(got, "in desk") {
		t.Errorf("after they have left, show says\n%s", got)
	}
}

// TestKillHandover kills the server between each two steps of a take-over, which
// goes on as if nothing had been: the call's result once, the summary once.
func TestKillHandover(t *testing.T) {
	in := install(t, takeoverScript())
	again := func() {
		in.kill()
		in.start()
	}
	for _, engine := range []string{"gvisor", "runc"} {
		repo := remote(t, map[string]string{"greet.sh": "echo helo\n"})
		made := in.agent("Mend the greeting", repo, engine)
		id := made.Agent.ID
		in.await(id, errand.EventToolCalled)
		in.said(in.command("exec", id, "--", "sh", "-c", "until [ -e /tmp/begun ]; do sleep 0.05; done"))

		// Asked for, and killed as soon as it is decided.
		ask := in.command("takeover", id)
		if err := ask.Start(); err != nil {
			t.Fatal(err)
		}
		in.await(id, errand.EventTakeoverStarted)
		again()
		_ = ask.Wait() // its server is gone
		in.await(id, errand.EventTakeoverReady)
		again()
		in.said(in.command("exec", id, "--", "sh", "-c", "echo mine > MINE; touch /tmp/go"))
		in.await(id, errand.EventToolEnded)
		again()
		if a, err := in.client.Agent(t.Context(), errand.AgentID(id)); err != nil || a.Takeover == nil || !a.Takeover.Ready {
			t.Fatalf("after three kills the agent is %+v, %v", a.Takeover, err)
		}

		// Handed back, and killed as soon as that is decided.
		back := in.command("handback", id, "-m", "Once and for all.")
		if err := back.Start(); err != nil {
			t.Fatal(err)
		}
		in.await(id, errand.EventTakeoverEnding)
		again()
		_ = back.Wait() // likewise
		in.await(id, errand.EventTakeoverEnded)
		again()
		if d := in.finished(id, made.Run.ID); d.Result != "I go on from there." {
			t.Errorf("the result is %q", d.Result)
		}
		count := map[errand.EventKind]int{}
		summary := ""
		for _, e := range in.events(id) {
			count[e.Kind]++
			if e.Kind == errand.EventTakeoverEnded {
				summary = data[errand.TakeoverEnded](t, e).Summary
			}
			if e.Kind == errand.EventToolEnded && !strings.Contains(data[errand.ToolEnded](t, e).Output, "survived") {
				t.Errorf("a call ended with %s", e.Data)
			}
		}
		for kind, want := range map[errand.EventKind]int{
			errand.EventTakeoverStarted: 1, errand.EventTakeoverReady: 1, errand.EventTakeoverEnding: 1, errand.EventTakeoverEnded: 1, errand.EventToolEnded: 1,
		} {
			if count[kind] != want {
				t.Errorf("%s: %d events %s, want %d\n%s", engine, count[kind], kind, want, in.story(id))
			}
		}
		wants(t, "the summary", summary, "Once and for all.", "added MINE")
		if n := in.heard(t, id, summary); n != 1 {
			t.Errorf("the model was told the summary %d times", n)
		}
	}
}

// heard counts how often the last request of an agent's to the model says a text.
func (in *installation) heard(t *testing.T, agent, text string) (n int) {
	t.Helper()
	resp, err := http.Get(in.model.URL + "/requests")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var all struct{ Requests []scripted.Record }
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	var last any
	for _, r := range all.Requests {
		if !strings.Contains(string(r.Body), agent) {
			continue
		}
		if err := json.Unmarshal(r.Body, &last); err != nil {
			t.Fatal(err)
		}
	}
	var look func(any)
	look = func(v any) {
		switch v := v.(type) {
		case string:
			n += strings.Count(v, text)
		case []any:
			for _, one := range v {
				look(one)
			}
		case map[string]any:
			for _, one := range v {
				look(one)
			}
		}
	}
	look(last)
	return n
}

// TestForgottenHandover: a take-over that is forgotten over a restart of the server
// ends by the new one's rule.
func TestForgottenHandover(t *testing.T) {
	t.Parallel()
	in := install(t, takeoverScript(), "--takeover-limit", "10s")
	made := in.agent("Mend the greeting", "", "runc")
	in.await(made.Agent.ID, errand.EventToolCalled)
	in.said(in.command("takeover", made.Agent.ID))
	in.said(in.command("exec", made.Agent.ID, "--", "touch", "/tmp/go"))
	in.kill()
	in.start("--takeover-limit", "10s")
	in.finished(made.Agent.ID, made.Run.ID)
	e := in.await(made.Agent.ID, errand.EventTakeoverEnded)
	if d := data[errand.TakeoverEnded](t, e); d.Ending.Why != errand.EndingLimit || e.Time.Sub(d.Since) < 10*time.Second {
		t.Errorf("it ended after %s: %+v", e.Time.Sub(d.Since), d.Ending)
	}
	wants(t, "logs", in.said(in.command("logs", made.Agent.ID)), "it is handed back by itself in", "handed back by itself: its time was over")
}
