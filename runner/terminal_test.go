package runner_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
)

// TestTerminals looks at the terminals and ports of an agent's machine while the
// run goes on: a command that crashed is told with what it showed, without the
// secret in it, also by a server that was not there when it did.
func TestTerminals(t *testing.T) {
	h := build(t, script(talk("wait", command("sleep 300"), says("done"))), runner.Defaults{})
	repo := repository(t, map[string]string{".errand/environment.json": `{
		"terminals": [{"name": "web", "command": "[ -e /tmp/crashed ] && exec cat; touch /tmp/crashed; echo with $TOKEN; exit 9"}],
		"ports": [{"name": "web", "port": 3000}]
	}`})
	request := ask("wait", repo)
	request.EnvVars = map[string]string{"TOKEN": "correct-horse-battery"}
	agent, _ := h.start(request)
	h.until(agent, "a command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
	h.restart()
	var state guest.TerminalState
	await(t, "the terminal to be started again", func() bool {
		all, err := h.runner.Terminals(t.Context(), caller, agent)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(all, func(s guest.TerminalState) bool {
			return s.Name == "web" && s.Running && s.Tended != nil && s.Tended.Restarts == 1
		})
		if at >= 0 {
			state = all[at]
		}
		return at >= 0
	})
	if state.ExitCode != 9 || state.Tended.Last != "with [REDACTED]" {
		t.Errorf("got %+v, %+v", state, state.Tended)
	}
	if shown, err := h.runner.History(t.Context(), caller, agent, "web", 100); err != nil || strings.Contains(shown.Text, "correct-horse") || !strings.Contains(shown.Text, "with [REDACTED]") {
		t.Errorf("it has shown %q, %v", shown.Text, err)
	}
	if _, err := h.runner.History(t.Context(), caller, agent, "gone", 100); errand.KindOf(err) != errand.NotFound {
		t.Errorf("what is not there has shown: %v", err)
	}
	ports, err := h.runner.Ports(t.Context(), caller, agent)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]file.Port{{Name: "web", Port: 3000}}, ports); diff != "" {
		t.Error(diff)
	}
}

// TestTerminalsWithoutKey starts a server that cannot open the secrets of a
// machine which runs: it tells nothing of its terminals until it can.
func TestTerminalsWithoutKey(t *testing.T) {
	h := build(t, script(&scripted.Conversation{
		Match: scripted.Pat("."), Turns: []*scripted.Turn{says("done")},
		FollowUps: []*scripted.FollowUp{{Match: scripted.Pat("."), Turns: []*scripted.Turn{says("done")}}},
	}), runner.Defaults{})
	request := ask("go", repository(t, map[string]string{".errand/environment.json": `{"terminals": [{"name": "web", "command": "echo $TOKEN; exec cat"}]}`}))
	request.EnvVars = map[string]string{"TOKEN": "correct-horse-battery"}
	agent, run := h.start(request)
	h.ends(agent, run, errand.RunFinished)
	key := filepath.Join(h.dir, "key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	h.restart()
	h.until(agent, "the machine", func(e errand.Event) bool {
		return e.Kind == errand.EventMachine && read[errand.MachineData](t, e).What == "found"
	})
	if all, err := h.runner.Terminals(t.Context(), caller, agent); errand.KindOf(err) != errand.Unavailable {
		t.Errorf("without the key it tells %+v, %v", all, err)
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	follow, err := h.runner.FollowUp(t.Context(), caller, agent, runner.FollowUp{Prompt: errand.Prompt{Text: "go on"}})
	if err != nil {
		t.Fatal(err)
	}
	h.ends(agent, follow.ID, errand.RunFinished)
	if all, err := h.runner.Terminals(t.Context(), caller, agent); err != nil || len(all) == 0 {
		t.Errorf("with the key it tells %+v, %v", all, err)
	}
}
