package setup

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/errand-dev/errand"
)

// TestPart wants the machines that are made beside a proof to have the draft's
// base and nothing that runs by itself.
func TestPart(t *testing.T) {
	s := errand.Setup{Draft: `{"image": "img", "user": "u", "env": {"A": "b"}, "install": "i", "start": "s", "terminals": [{"name": "t", "command": "c"}], "ports": [80]}`}
	for install, want := range map[bool]string{false: "", true: "i"} {
		text, err := part(s, install)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if got["image"] != "img" || got["user"] != "u" || got["env"] == nil {
			t.Errorf("the base is lost: %s", text)
		}
		if i, _ := got["install"].(string); i != want || got["start"] != nil || got["terminals"] != nil || got["ports"] != nil {
			t.Errorf("with install %v it is %s", install, text)
		}
	}
	if _, err := part(errand.Setup{Draft: "{"}, false); errand.KindOf(err) != errand.Invalid {
		t.Errorf("a draft that cannot be read gives %v", err)
	}
}

// TestFailure wants each failed step to say what to do, with its output.
func TestFailure(t *testing.T) {
	code := 3
	for phase, want := range map[errand.Phase]struct{ code, says string }{
		errand.PhaseAgain:     {"install_not_repeatable", "mkdir -p"},
		errand.PhaseVerify:    {"verify_failed", "verify command"},
		errand.PhaseStart:     {"start_failed", "prove it again"},
		errand.PhaseTerminals: {"terminal_failed", "prove it again"},
	} {
		e := failure(errand.ProofStep{Phase: phase, Command: "make it\nmore", Note: "ended with exit code 3", Output: "no", ExitCode: &code})
		if e.Code != want.code || !strings.Contains(e.Message, want.says) || !strings.Contains(e.Message, "make it…") || e.Output != "no" || e.ExitCode != &code || e.Kind != errand.Invalid {
			t.Errorf("%s failed as %+v", phase, e)
		}
	}
}

// TestNotInstalled tells a draft's fault from the host's.
func TestNotInstalled(t *testing.T) {
	code := 7
	failed, err := notInstalled(&errand.Error{Kind: errand.Invalid, Code: "install_failed", Output: "boom", ExitCode: &code}, "npm ci")
	if err != nil || failed == nil || !strings.Contains(failed.Message, "exit code 7") || failed.Output != "boom" {
		t.Errorf("an install that failed is %+v, %v", failed, err)
	}
	failed, err = notInstalled(&errand.Error{Kind: errand.Unavailable, Code: "machine_failed"}, "npm ci")
	if failed != nil || errand.AsError(err).Code != "machine_failed" {
		t.Errorf("a host that failed is %+v, %v", failed, err)
	}
}

// TestCarryOthers wants events that are not for people who set up passed over,
// whatever they hold: a connection's error is a word, a phase's is an object.
func TestCarryOthers(t *testing.T) {
	data, err := json.Marshal(errand.Connection{Error: "refused"})
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{phases: []errand.Phase{errand.PhaseInstall}}
	if err := r.carry(t.Context(), errand.Event{Seq: 14, Kind: errand.EventConnection, Data: data}); err != nil || r.after != 14 {
		t.Errorf("a connection that failed gives %v, and the next to carry is after %d", err, r.after)
	}
}

// TestTail wants the end of a text, in whole characters.
func TestTail(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{{"short", 10, "short"}, {"0123456789", 4, "6789"}, {"ä€ö", 4, "ö"}, {"€€", 3, "€"}, {"", 0, ""}} {
		if got := tail(c.text, c.most); got != c.want || !utf8.ValidString(got) {
			t.Errorf("the last %d bytes of %q are %q, want %q", c.most, c.text, got, c.want)
		}
	}
}

// TestEvidence wants a commit to claim what was proved of its draft, no more.
func TestEvidence(t *testing.T) {
	s := errand.Setup{Draft: "{}", Verify: "make check", Proof: &errand.Proof{Draft: "{}", Verify: "make check", OK: true, Steps: []errand.ProofStep{
		{Phase: errand.PhaseInstall, Command: "make deps"}, {Phase: errand.PhaseVerify, Command: "make check"},
	}}}
	if got := evidence(s); !strings.Contains(got, "second time") || !strings.Contains(got, "Verified by: make check") {
		t.Errorf("the commit says %q", got)
	}
	s.Draft = `{"start": "x"}`
	if got := evidence(s); got != "" {
		t.Errorf("a draft that was changed since is said to be %q", got)
	}
}

// TestPrompts wants a model to be told the draft, where it goes and, after a
// proof that failed, what that showed.
func TestPrompts(t *testing.T) {
	s := errand.Setup{Draft: `{"install": "npm ci"}`, Verify: "npm test", Proposal: &errand.Proposal{Path: ".cursor/environment.json"}}
	first := prompt(s)
	for _, want := range []string{s.Draft, ".cursor/environment.json", "npm test", verifyFile} {
		if !strings.Contains(first, want) {
			t.Errorf("the prompt lacks %q", want)
		}
	}
	if again(s) != first {
		t.Error("without a failure the model is told of one")
	}
	s.Error = &errand.Error{Message: "install ended with exit code 7", Output: strings.Repeat("x", 20<<10) + "the cause"}
	if text := again(s); !strings.Contains(text, "exit code 7") || !strings.Contains(text, "the cause") || !strings.Contains(text, s.Draft) || len(text) > 12<<10 {
		t.Errorf("after a failure the model is told %.200q… (%d bytes)", text, len(text))
	}
}

// TestTries bounds how often a model is sent before people are asked.
func TestTries(t *testing.T) {
	var s errand.Setup
	for round := range 2 {
		try(&s, true)
		n := 1
		for s.Tries < s.LastTry {
			try(&s, false)
			n++
		}
		if n != maxTries {
			t.Errorf("in round %d the model is sent %d times, want %d", round, n, maxTries)
		}
	}
}

// TestStrays tells answers that have no effect.
func TestStrays(t *testing.T) {
	questions := []errand.Question{{ID: "a", Choices: []string{"yes", "no"}}}
	if got := strays(questions, map[string]string{"a": "no"}); len(got) != 0 {
		t.Errorf("an answer is said to have no effect: %q", got)
	}
	got := strays(questions, map[string]string{"a": "maybe", "b": "yes"})
	if len(got) != 2 || !strings.Contains(got[0], "yes, no") || !strings.Contains(got[1], "There is: a.") {
		t.Errorf("strays are %q", got)
	}
}
