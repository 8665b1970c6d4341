package main_test

import (
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/llm/scripted"
)

const testEnvironment = `{
  // read by Errand and by others
  "install": "mkdir -p .cache && cp lock.txt .cache/installed && echo installed >&2",
  "terminals": [{"name": "clock", "command": "while true; do date; sleep 1; done"}],
}`

func pathScript() *scripted.Script {
	return &scripted.Script{Conversations: []*scripted.Conversation{{
		Match: scripted.Pat(`(?i)fix the greeting`),
		Turns: []*scripted.Turn{
			{Thinking: "Look first.", Text: "I will look at the test.", Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: []byte(`{"command":"sh test.sh; cat .cache/installed; git branch --show-current"}`)}}},
			{Expect: scripted.Pat(`(?s)want hello.*v1.*errand/`), Calls: []scripted.Call{{Name: "edit_file", Args: []byte(`{"path":"greet.sh","edits":[{"old":"echo helo","new":"echo hello"}]}`)}}},
			{Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: []byte(`{"command":"sh test.sh && git add -A && git commit -qm 'Mend the greeting' && git push origin HEAD:main; git push -q origin HEAD"}`)}}},
			{Expect: scripted.Pat(`errand/`), Calls: []scripted.Call{{Name: "finish", Args: []byte(`{"summary":"The greeting is mended."}`)}}},
		},
		FollowUps: []*scripted.FollowUp{{
			Match: scripted.Pat(`(?i)changelog`),
			Turns: []*scripted.Turn{
				{Calls: []scripted.Call{{Name: "write_file", Args: []byte(`{"path":"CHANGELOG.md","content":"Greets right.\n"}`)}}},
				{Text: "There is a changelog now."},
			},
		}},
	}}}
}

// TestPathFromPromptToBranch is the product's one path, on each engine: install,
// work, a push that is refused, a push that is not, a follow-up, and what people
// and the next agent find.
func TestPathFromPromptToBranch(t *testing.T) {
	in := install(t, pathScript())
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			repo := remote(t, map[string]string{
				"greet.sh": "echo helo\n", "lock.txt": "v1\n", ".gitignore": ".cache\n", ".cursor/environment.json": testEnvironment,
				"test.sh":   "[ \"$(sh greet.sh)\" = hello ] || { echo want hello; exit 1; }\n",
				"AGENTS.md": "Say please.\n",
			})
			before := git(t, repo, "rev-parse", "main")
			made := in.agent("Fix the greeting\nplease", repo, engine)
			d := in.finished(made.Agent.ID, made.Run.ID)
			if d.Result != "The greeting is mended." || d.Usage.Total() == 0 {
				t.Errorf("the run's end is %+v", d)
			}
			if got := git(t, repo, "rev-parse", "main"); got != before {
				t.Errorf("main was moved to %s", got)
			}
			branch := made.Agent.Branch
			if got := git(t, repo, "show", branch+":greet.sh"); got != "echo hello" {
				t.Errorf("the branch has %q", got)
			}
			message := git(t, repo, "log", "-1", "--format=%an%n%B", branch)
			if !strings.HasPrefix(message, "Errand\nMend the greeting") {
				t.Errorf("the commit says %q", message)
			}
			follow, err := in.client.CreateRun(t.Context(), errand.AgentID(made.Agent.ID), api.CreateRun{Prompt: api.Prompt{Text: "Add a changelog"}}, "")
			if err != nil {
				t.Fatal(err)
			}
			in.finished(made.Agent.ID, follow.Run.ID)
			if got := git(t, repo, "show", branch+":CHANGELOG.md"); got != "Greets right." {
				t.Errorf("after the follow-up the branch has %q", got)
			}
			second := in.agent("Fix the greeting again", repo, engine)
			in.finished(second.Agent.ID, second.Run.ID)
			in.checkPhases(t, made.Agent.ID, second.Agent.ID)
		})
	}
}

// checkPhases looks at what the journals say of the environment: the first agent
// installed and kept a snapshot, the second found it.
func (in *installation) checkPhases(t *testing.T, first, second string) {
	t.Helper()
	ended := func(agent string) map[errand.Phase]errand.PhaseEnded {
		all := map[errand.Phase]errand.PhaseEnded{}
		for _, e := range in.events(agent) {
			if e.Kind == errand.EventPhaseEnded {
				d := data[errand.PhaseEnded](t, e)
				if _, ok := all[d.Phase]; !ok {
					all[d.Phase] = d
				}
			}
		}
		return all
	}
	a, b := ended(first), ended(second)
	for _, phase := range []errand.Phase{errand.PhaseMirror, errand.PhaseMachine, errand.PhaseCheckout, errand.PhaseInstall, errand.PhaseSnapshot, errand.PhaseTerminals, errand.PhaseWork, errand.PhaseCommit, errand.PhasePush} {
		if _, ok := a[phase]; !ok {
			t.Errorf("the first agent's journal has no end of phase %s:\n%s", phase, in.story(first))
		}
	}
	if a[errand.PhaseInstall].Cached {
		t.Error("the first agent did not install")
	}
	if !b[errand.PhaseInstall].Cached {
		t.Errorf("the second agent installed again: %+v", b[errand.PhaseInstall])
	}
	if d := a[errand.PhaseSnapshot]; d.DurationMs > 1000 {
		t.Errorf("the snapshot took %d ms", d.DurationMs)
	}
	refused := false
	for _, e := range in.events(first) {
		if e.Kind == errand.EventPush {
			refused = refused || data[errand.PushData](t, e).Refused != ""
		}
	}
	if !refused {
		t.Error("the journal does not tell that the push to main was refused")
	}
}
