package runner_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	builds "github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/runner"
)

// request is a turn that asks for a build, after an answer that fits expect.
func request(expect string, args map[string]any) *scripted.Turn {
	data, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	return &scripted.Turn{Expect: scripted.Pat(expect), Calls: []scripted.Call{{Name: "request_build", Args: data}}}
}

func hears(expect string) *scripted.Turn {
	return &scripted.Turn{Expect: scripted.Pat(expect), Text: "done"}
}

// stored keeps an environment for a repository and waits for its first build.
func (h *house) stored(repo, text string) (errand.Environment, errand.Build) {
	h.t.Helper()
	e, err := h.runner.Builds.Create(h.t.Context(), caller, builds.NewEnvironment{Name: filepath.Dir(repo), JSON: text, Repositories: []errand.Repository{{URL: repo}}})
	if err != nil {
		h.t.Fatal(err)
	}
	return e, h.buildEnds(e.ID)
}

// asked gives the builds of an environment that agents asked for, newest first.
func (h *house) asked(id errand.EnvironmentID) (asked []errand.Build) {
	h.t.Helper()
	all, err := h.store.Builds(h.t.Context(), id, 100, "")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, b := range all {
		if b.Trigger == errand.TriggerAgent {
			asked = append(asked, b)
		}
	}
	return asked
}

// finds starts an agent and wants its machine to have been installed before,
// with this in /opt/tool.
func (h *house) finds(repo, tool string) {
	h.t.Helper()
	agent, run := h.start(ask("look", repo))
	h.ends(agent, run, errand.RunFinished)
	if d := h.phase(agent, run, errand.PhaseInstall); !d.Cached {
		h.t.Errorf("install was %+v", d)
	}
	if out, _ := h.exec(agent, "cat /opt/tool"); out != tool+"\n" {
		h.t.Errorf("the machine has %q, want %q", out, tool)
	}
}

// TestAgentAsksForABuild lets an agent propose another install: what it asked
// for is built, is nobody's before a person activates it, and everybody's then.
func TestAgentAsksForABuild(t *testing.T) {
	const text = `{"install": "echo two > /opt/tool"}`
	h := build(t, script(talk("look", says("done")), talk("ask",
		request("", map[string]any{}),
		request(`echo one > /opt/tool`, map[string]any{"why": "tool two is missing", "environment": text}),
		hears("succeeded. It is a draft"))), runner.Defaults{})
	repo := repository(t, nil)
	e, first := h.stored(repo, `{"install": "echo one > /opt/tool"}`)
	agent, run := h.start(ask("ask", repo))
	h.ends(agent, run, errand.RunFinished)

	asked := h.asked(e.ID)
	if len(asked) != 1 {
		t.Fatalf("there are %d builds asked for\n%s", len(asked), h.story(agent))
	}
	draft := asked[0]
	if !draft.Draft || draft.Status != errand.BuildSucceeded || draft.Agent != agent || draft.Run != run || draft.Caller != caller || h.active(e.ID) != first.ID {
		t.Errorf("the build is %+v, and %s is active", draft, h.active(e.ID))
	}
	told := 0
	for _, event := range h.events(agent) {
		if event.Kind == errand.EventBuildQueued && event.Run == run && read[errand.BuildQueuedData](t, event).Build.ID == draft.ID {
			told++
		}
	}
	log, err := h.journal.All(t.Context(), draft.ID)
	if err != nil || told != 1 || len(log) == 0 || log[0].Kind != errand.EventBuildQueued || read[errand.BuildQueuedData](t, log[0]).Build.Run != run {
		t.Errorf("the agent's journal tells %d times of the build, whose own is %+v, %v", told, log, err)
	}
	proposal, err := h.store.Version(t.Context(), e.ID, draft.Version)
	if err != nil || proposal.Kind != errand.VersionProposed || proposal.Source != errand.SourceAgentRun || proposal.JSON != text || proposal.Description != "tool two is missing" {
		t.Errorf("the proposal is %+v, %v", proposal, err)
	}
	if d, err := h.runner.Builds.Diff(t.Context(), caller, e.ID, proposal.ID, ""); err != nil || !strings.Contains(d, `+`+text) {
		t.Errorf("it differs by %q, %v", d, err)
	}
	h.finds(repo, "one")

	if err := h.runner.Builds.Activate(t.Context(), caller, e.ID, draft.ID); err != nil {
		t.Fatal(err)
	}
	now, err := h.runner.Builds.Environment(t.Context(), caller, e.ID)
	if err != nil || now.Active != draft.ID || now.JSON != text || now.Version == proposal.ID {
		t.Errorf("the environment is %+v, %v", now, err)
	}
	h.finds(repo, "two")
	if d, err := h.runner.Builds.Diff(t.Context(), caller, e.ID, now.Version, ""); err != nil || !strings.Contains(d, `-{"install": "echo one`) || !strings.Contains(d, "+"+text) {
		t.Errorf("the activation changed %q, %v", d, err)
	}
}

// TestProposalIsTooLate activates what an agent proposed after a person changed
// the environment: the person's change is not undone by it.
func TestProposalIsTooLate(t *testing.T) {
	h := build(t, script(talk("ask", request("", map[string]any{"why": "two", "environment": `{"start": "echo two"}`}), hears("succeeded"))), runner.Defaults{})
	repo := repository(t, nil)
	e, _ := h.stored(repo, `{"start": "echo one"}`)
	agent, run := h.start(ask("ask", repo))
	h.ends(agent, run, errand.RunFinished)
	text := `{"start": "echo three"}`
	if _, err := h.runner.Builds.Edit(t.Context(), caller, e.ID, builds.EditEnvironment{JSON: &text}); err != nil {
		t.Fatal(err)
	}
	draft := h.asked(e.ID)[0]
	err := h.runner.Builds.Activate(t.Context(), caller, e.ID, draft.ID)
	if errand.KindOf(err) != errand.Conflict || !strings.Contains(err.Error(), "was changed since agent "+string(agent)) {
		t.Errorf("activating gave %v", err)
	}
	if now, err := h.runner.Builds.Environment(t.Context(), caller, e.ID); err != nil || now.JSON != text || now.Active == draft.ID {
		t.Errorf("the environment is %+v, %v", now, err)
	}
	restored, err := h.runner.Builds.Restore(t.Context(), caller, e.ID, draft.Version)
	if err != nil || restored.JSON != `{"start": "echo two"}` {
		t.Errorf("restoring gave %+v, %v", restored, err)
	}
}

// TestAgentMayNotBuild asks for what the environment does not let agents ask.
func TestAgentMayNotBuild(t *testing.T) {
	cases := []struct{ name, text, proposed, says string }{
		{"forbidden", `{"agentCanUpdateSnapshot": false}`, "", "agentCanUpdateSnapshot is false"},
		{"a base of its own", `{"image": "host"}`, "", "on an image or a Dockerfile of its own"},
		{"other base", `{}`, `{"image": "host"}`, "not what the machine stands on"},
		{"other snapshot", `{}`, `{"snapshot": "somebody's"}`, "not what the machine stands on"},
		{"no file", `{}`, `{"install": [}`, `environment.json:1:`},
	}
	var talks []*scripted.Conversation
	for _, c := range cases {
		args := map[string]any{"why": "something is missing"}
		if c.proposed != "" {
			args["environment"] = c.proposed
		}
		talks = append(talks, talk(c.name, request("", args), hears(c.says)))
	}
	h := build(t, script(talks...), runner.Defaults{})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			repo := repository(t, nil)
			e, _ := h.stored(repo, c.text)
			agent, run := h.start(ask(c.name, repo))
			h.ends(agent, run, errand.RunFinished)
			if asked := h.asked(e.ID); len(asked) > 0 {
				t.Errorf("there is the build %+v", asked)
			}
		})
	}
}

// TestNothingToBuild offers no build to agents whose machine no environment is
// behind, and to those that only plan.
func TestNothingToBuild(t *testing.T) {
	h := build(t, script(talk("ask", says("done"))), runner.Defaults{})
	repo := repository(t, nil)
	agent, run := h.start(ask("ask", repo))
	h.ends(agent, run, errand.RunFinished)
	h.stored(repo, `{}`)
	plan := ask("ask", repo)
	plan.Mode = "plan"
	agent, run = h.start(plan)
	h.ends(agent, run, errand.RunFinished)
	if strings.Contains(h.told(), "request_build") {
		t.Error("the model was told of a build")
	}
	agent, run = h.start(ask("ask", repo))
	h.ends(agent, run, errand.RunFinished)
	if !strings.Contains(h.told(), "request_build") {
		t.Error("the model was not told of a build")
	}
}

// TestAskedBuildGoesOn ends the server while an agent waits for its build: the
// next one asks again by the same name, and joins the same build.
func TestAskedBuildGoesOn(t *testing.T) {
	h := build(t, script(talk("ask",
		request("", map[string]any{"why": "slow", "environment": `{"install": "echo ran >> /opt/ran; for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done; cat /opt/ran"}`}),
		hears("succeeded"))), runner.Defaults{})
	repo := repository(t, nil)
	e, _ := h.stored(repo, `{}`)
	agent, run := h.start(ask("ask", repo))
	queued := h.until(agent, "a build", func(e errand.Event) bool { return e.Kind == errand.EventBuildQueued })
	draft := read[errand.BuildQueuedData](t, queued).Build
	for event, err := range h.runner.Builds.Follow(t.Context(), draft, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Kind == errand.EventPhaseOutput {
			break
		}
	}
	h.restart()
	h.ends(agent, run, errand.RunFinished)
	asked := h.asked(e.ID)
	if len(asked) != 1 || asked[0].ID != draft.ID || asked[0].Status != errand.BuildSucceeded {
		t.Errorf("there are the builds %+v, want %s alone", asked, draft.ID)
	}
	printed := ""
	for event, err := range h.runner.Builds.Events(t.Context(), draft, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Kind == errand.EventPhaseOutput {
			printed += read[errand.PhaseOutput](t, event).Text
		}
	}
	if want := "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\nran\n"; printed != want {
		t.Errorf("install printed %q, want %q", printed, want)
	}
}

// TestAskedAtOwnBranch builds an environment that stands in the repository at
// what the agent made of it.
func TestAskedAtOwnBranch(t *testing.T) {
	own := map[string]any{"why": "tool two is missing", "own_branch": true}
	h := build(t, script(talk("look", says("done")), talk("ask",
		request("", map[string]any{"why": "no", "environment": `{}`}),
		request(`Change it there, on your branch`, own),
		&scripted.Turn{Expect: scripted.Pat("not pushed yet"), Calls: command(
			`cd /workspace && sed -i 's/one/two/' .cursor/environment.json && git commit -qam "Use two" && git push -q origin HEAD:refs/heads/$(git branch --show-current) && echo pushed`).Calls},
		request(`pushed`, own),
		hears("succeeded"))), runner.Defaults{})
	repo := repository(t, map[string]string{".cursor/environment.json": `{"install": "echo one > /opt/tool"}`})
	agent, run := h.start(ask("ask", repo))
	h.ends(agent, run, errand.RunFinished)
	a := h.row(agent)
	asked := h.asked(a.Environment)
	if len(asked) != 1 {
		t.Fatalf("there are %d builds asked for\n%s", len(asked), h.story(agent))
	}
	draft := asked[0]
	if !draft.Draft || draft.Ref != a.Branch || len(draft.Commits) != 1 || draft.Commits[0].Commit != a.Pushed || h.active(a.Environment) == draft.ID {
		t.Errorf("the build is %+v of the branch at %s, and %s is active", draft, a.Pushed, h.active(a.Environment))
	}
	h.finds(repo, "one")
	// Once the change is on the default branch, the build has what agents want.
	change(t, repo, "main", ".cursor/environment.json", `{"install": "echo two > /opt/tool"}`)
	if err := h.runner.Builds.Activate(t.Context(), caller, a.Environment, draft.ID); err != nil {
		t.Fatal(err)
	}
	h.finds(repo, "two")
}
