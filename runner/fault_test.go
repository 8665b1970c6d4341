package runner_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
)

// TestFaults goes through what people and the world get wrong. Each ends in an
// error that names what to do, and none hurts the agent that works beside it.
func TestFaults(t *testing.T) {
	h := build(t, script(
		talk("fine", command("sleep 1; echo well"), says("done")),
		talk("limited", &scripted.Turn{Text: "done", Faults: []scripted.Fault{{Times: 2, Status: 429, Headers: map[string]string{"Retry-After": "0"}}}}),
		talk("shaky", &scripted.Turn{Text: "a longer answer that can be cut somewhere in its middle", Faults: []scripted.Fault{
			{Times: 1, Status: 500}, {Times: 1, Cut: &scripted.Cut{Events: 4}}, {Times: 1, Garbage: "<html>what</html>"}, {Times: 1, Error: "overloaded_error"}}}),
		talk("denied", &scripted.Turn{Text: "never", Faults: []scripted.Fault{{Status: 401, Message: "invalid x-api-key"}}}),
		talk("loud git", command(`printf '#!/bin/sh\nexec head -c 50000000 /dev/zero >&2\n' > /tmp/git && chmod +x /tmp/git && mv /tmp/git $(command -v git)`), says("done")),
		talk("strange tool", &scripted.Turn{Calls: []scripted.Call{{Name: "launch_rocket", Args: []byte(`{"when":"now"}`)}}},
			&scripted.Turn{Expect: scripted.Pat("launch_rocket.*(?s).*run_terminal_cmd"), Text: "then not"}),
	), runner.Defaults{Runs: 3, InstallLimit: 2 * time.Second})
	fine, fineRun := h.start(ask("fine", repository(t, nil)))

	environment := func(text string) string {
		return repository(t, map[string]string{".cursor/environment.json": text, "README": "x"})
	}
	at := func(repo, ref string) runner.StartRequest {
		r := ask("fine", repo)
		r.Repositories[0].Ref = ref
		return r
	}
	for _, c := range []struct {
		name    string
		request runner.StartRequest
		code    string
		message string // a part of it
		output  string // a part of it
	}{
		{"missing repository", ask("fine", "/nowhere/at/all.git"), "repository_access", "/nowhere/at/all.git", ""},
		{"bad ref", at(repository(t, nil), "no-such-branch"), "invalid_branch_name", "no-such-branch", ""},
		{"branch that is there", func() runner.StartRequest {
			r := ask("fine", repository(t, nil))
			r.Branch = "main"
			return r
		}(), "invalid_branch_name", "main", ""},
		{"broken environment file", ask("fine", environment(`{"install": [1, {`)), "", ".cursor/environment.json", ""},
		{"install fails", ask("fine", environment(`{"install": "echo first; echo broken pipe dream >&2; exit 7"}`)), "install_failed", "7", "broken pipe dream"},
		{"install hangs", ask("fine", environment(`{"install": "echo going to sleep; sleep 600"}`)), "install_timeout", "", "going to sleep"},
		{"git that floods us", ask("loud git", repository(t, nil)), "output_too_large", "printed more than 8 MiB", ""},
		{"denied by the provider", ask("denied", ""), "", "ANTHROPIC_API_KEY", ""},
		{"image that is not there", func() runner.StartRequest {
			r := ask("fine", "")
			r.Settings.Image = "127.0.0.1:1/no/image:latest"
			return r
		}(), "", "127.0.0.1:1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			agent, run := h.start(c.request)
			d := h.ends(agent, run, errand.RunFailed)
			if d.Error == nil || c.code != "" && d.Error.Code != c.code {
				t.Fatalf("the error is %+v, want code %s", d.Error, c.code)
			}
			if !strings.Contains(d.Error.Message, c.message) || !strings.Contains(d.Error.Output, c.output) {
				t.Errorf("the error says %q with output %q; want %q and %q", d.Error.Message, d.Error.Output, c.message, c.output)
			}
			if c.name == "install fails" && (d.Error.ExitCode == nil || *d.Error.ExitCode != 7) {
				t.Errorf("the exit code is %v", d.Error.ExitCode)
			}
			got, err := h.runner.OneRun(t.Context(), caller, agent, run)
			if err != nil || got.Status != errand.RunFailed || got.Error == nil {
				t.Errorf("the run's row is %+v, %v", got, err)
			}
		})
	}
	for _, name := range []string{"limited", "shaky", "strange tool"} {
		t.Run(name, func(t *testing.T) {
			agent, run := h.start(ask(name, ""))
			h.ends(agent, run, errand.RunFinished)
		})
	}
	t.Run("unknown model", func(t *testing.T) {
		r := ask("fine", "")
		r.Settings.Model.ID = "gpt-99"
		_, _, err := h.runner.Start(t.Context(), caller, r)
		if e := errand.AsError(err); e == nil || e.Kind != errand.Invalid || !strings.Contains(e.Message, "Model 'gpt-99' is not available") {
			t.Errorf("an unknown model gave %v", err)
		}
	})
	t.Run("refused at once", func(t *testing.T) {
		branch, memory := ask("fine", repository(t, nil)), ask("fine", "")
		branch.Branch = "bad..name"
		memory.Settings.Limits.Memory = 1 << 10
		for name, request := range map[string]runner.StartRequest{"branch": branch, "memory": memory} {
			if _, _, err := h.runner.Start(t.Context(), caller, request); errand.KindOf(err) != errand.Invalid {
				t.Errorf("a bad %s gave %v", name, err)
			}
		}
	})
	t.Run("credential in the URL", func(t *testing.T) {
		_, _, err := h.runner.Start(t.Context(), caller, ask("fine", "https://ada:hunter2hunter2@example.com/r.git"))
		if e := errand.AsError(err); e == nil || e.Kind != errand.Invalid || !strings.Contains(e.Message, "ERRAND_GIT_CREDENTIALS") || strings.Contains(e.Message, "hunter2") {
			t.Errorf("a credential in the URL gave %v", err)
		}
	})
	h.ends(fine, fineRun, errand.RunFinished)
}

// TestMachineKilledFromOutside ends a machine's processes while a command runs
// in it. The run goes on in the same disk's next life, the model is told that
// nobody knows how the command ended, and it is not run again.
func TestMachineKilledFromOutside(t *testing.T) {
	h := build(t, script(talk("work",
		command("echo once >> /workspace/log; echo begun; sleep 300"),
		&scripted.Turn{Expect: scripted.Pat("restarted"), Calls: command("cat /workspace/log").Calls},
		&scripted.Turn{Expect: scripted.Pat("once"), Text: "still here"},
	)), runner.Defaults{})
	request := ask("work", "")
	request.Settings.Engine = "gvisor"
	agent, run := h.start(request)
	h.until(agent, "the first command", func(e errand.Event) bool { return e.Kind == errand.EventToolCalled })
	if err := awaitFile(t.Context(), h, agent); err != nil {
		t.Fatal(err)
	}
	killMachine(t, agent)
	if d := h.ends(agent, run, errand.RunFinished); d.Result != "still here" {
		t.Errorf("the result is %q", d.Result)
	}
	calls := 0
	for _, e := range h.events(agent) {
		if e.Kind == errand.EventToolEnded && strings.Contains(string(e.Data), "restarted") {
			calls++
		}
	}
	if calls != 1 {
		t.Errorf("%d tool calls say that the machine was restarted, want 1\n%s", calls, h.story(agent))
	}
}

// awaitFile waits until the command of the test has begun in the machine.
func awaitFile(ctx context.Context, h *house, agent errand.AgentID) error {
	_, err := h.runner.Exec(ctx, caller, agent, runner.ExecRequest{
		Args: []string{"sh", "-c", "until [ -s /workspace/log ]; do sleep 0.05; done"}, Limit: time.Minute,
	}, nil)
	return err
}

// killMachine ends the processes that are the agent's machine on the host, as
// want of memory would.
func killMachine(t *testing.T, agent errand.AgentID) {
	t.Helper()
	id := "m-" + strings.ReplaceAll(strings.TrimPrefix(string(agent), "bc-"), "-", "")
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, name := range lines {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.HasPrefix(b, []byte("runsc-sandbox")) || !bytes.Contains(b, []byte(id)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed == 0 {
		t.Fatalf("no process of machine %s was found", id)
	}
}

// TestFullMachine fills a machine's disk. Its own command fails; the host and
// the agent beside it do not notice, and the run goes on.
func TestFullMachine(t *testing.T) {
	h := build(t, script(
		talk("fill", command("dd if=/dev/zero of=/workspace/big bs=1M count=2000 2>&1; echo status $?; rm /workspace/big"),
			&scripted.Turn{Expect: scripted.Pat("No space left on device"), Calls: command("echo room > /workspace/again && cat /workspace/again").Calls},
			&scripted.Turn{Expect: scripted.Pat("room"), Text: "done"}),
		talk("beside", command("dd if=/dev/zero of=/workspace/big bs=1M count=300 2>&1 && rm /workspace/big"), &scripted.Turn{Expect: scripted.Pat("status 0"), Text: "done"}),
	), runner.Defaults{})
	full := ask("fill", "")
	full.Settings.Limits.Disk = 256 << 20
	agent, run := h.start(full)
	other, otherRun := h.start(ask("beside", ""))
	h.ends(agent, run, errand.RunFinished)
	h.ends(other, otherRun, errand.RunFinished)
}
