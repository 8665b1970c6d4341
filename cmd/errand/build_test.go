package main_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/llm/scripted"
)

// TestKillBuild kills the server while it builds, again and again. The build
// goes on, its install runs once, and agents start on it.
func TestKillBuild(t *testing.T) {
	for _, engine := range []string{"runc", "gvisor"} {
		t.Run(engine, func(t *testing.T) {
			in := install(t, &scripted.Script{Conversations: []*scripted.Conversation{{Match: scripted.Pat("go"), Turns: []*scripted.Turn{{Text: "done"}}}}}, "--engine", engine)
			repo := remote(t, map[string]string{"package.json": "1\n"})
			made, err := in.client.CreateEnvironment(t.Context(), api.CreateEnvironment{
				Name: "web", Repos: []api.RepoURL{{URL: repo}},
				EnvironmentJSON: `{"install": "echo ran >> /opt/ran; for i in 1 2 3 4 5 6 7 8 9; do echo line $i; sleep 0.3; done; cat /opt/ran"}`,
			})
			if err != nil {
				t.Fatal(err)
			}
			id := errand.EnvironmentID(made.ID)
			builds, err := in.client.Builds(t.Context(), id, 1, "")
			if err != nil {
				t.Fatal(err)
			}
			b := errand.BuildID(builds.Items[0].ID)
			in.reads(id, b, "phase.started") // in the middle of whatever it does first
			in.kill()
			in.start("--engine", engine)
			for _, line := range []string{"line 1", "line 4", "line 7"} {
				in.reads(id, b, line)
				in.kill()
				in.start("--engine", engine)
			}
			printed := in.reads(id, b, "")
			if got, want := printed, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nline 7\nline 8\nline 9\nran\n"; got != want {
				t.Errorf("install printed %q, want %q", got, want)
			}
			if one, err := in.client.Build(t.Context(), id, b); err != nil || one.Status != api.BuildSucceeded || !one.Active {
				t.Fatalf("the build is %+v, %v", one, err)
			}
			agent := in.agent("go", repo, engine)
			in.finished(agent.Agent.ID, agent.Run.ID)
			boot, err := in.client.Boot(t.Context(), errand.AgentID(agent.Agent.ID), "")
			if err != nil || boot.BuildID != string(b) {
				t.Errorf("the agent's machine stands on %q, %v; want %s", boot.BuildID, err, b)
			}
			if !slices.ContainsFunc(boot.Phases, func(p api.BootPhase) bool { return p.Phase == errand.PhaseInstall && p.Cached }) {
				t.Errorf("install ran again: %+v", boot.Phases)
			}
		})
	}
}

// reads follows a build's log until an event holds text, or to the build's end,
// and gives what install has printed.
func (in *installation) reads(environment errand.EnvironmentID, id errand.BuildID, text string) string {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 2*time.Minute)
	defer cancel()
	var printed strings.Builder
	for e, err := range in.client.FollowBuild(ctx, environment, id, 0) {
		if err != nil {
			in.t.Fatalf("following %s: %v\n%s", id, err, in.logged())
		}
		if e.Kind == errand.EventPhaseOutput {
			printed.WriteString(data[errand.PhaseOutput](in.t, e).Text)
		}
		if text != "" && (strings.Contains(string(e.Data), text) || string(e.Kind) == text) {
			break
		}
	}
	return printed.String()
}
