package runner_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	builds "github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/store"
)

// project is a repository with an environment file whose install depends on a
// manifest.
var project = map[string]string{
	".cursor/environment.json": `{"install": "cp package.json /opt/installed; date +%N >> /opt/times"}`,
	"package.json":             "1\n",
}

// change commits a file to a branch of a bare repository.
func change(t *testing.T, bare, branch, name, text string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	script := `git clone -q "$1" "$2" && cd "$2" && (git checkout -q "$3" 2>/dev/null || git checkout -q -b "$3") &&
		mkdir -p "$(dirname "$4")" && printf %s "$5" > "$4" && git add -A && git -c user.name=Ada -c user.email=ada@example.com commit -qm change && git push -q origin "$3"`
	if out, err := exec.Command("sh", "-c", script, "sh", bare, dir, branch, name, text).CombinedOutput(); err != nil {
		t.Fatalf("changing %s: %v\n%s", name, err, out)
	}
}

// row gives an agent's row.
func (h *house) row(id errand.AgentID) errand.Agent {
	h.t.Helper()
	a, err := h.store.Agent(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

// built gives a build's row.
func (h *house) built(id errand.BuildID) errand.Build {
	h.t.Helper()
	b, err := h.store.Build(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

// phase gives how a phase of a run ended.
func (h *house) phase(agent errand.AgentID, run errand.RunID, phase errand.Phase) (ended errand.PhaseEnded) {
	h.t.Helper()
	for _, e := range h.events(agent) {
		if e.Run == run && e.Kind == errand.EventPhaseEnded {
			if d := read[errand.PhaseEnded](h.t, e); d.Phase == phase {
				ended = d
			}
		}
	}
	return ended
}

// TestRepositoryFileBecomesAnEnvironment starts agents on a repository whose
// file nobody registered: the first one's install becomes a build, which the
// others start on.
func TestRepositoryFileBecomesAnEnvironment(t *testing.T) {
	h := build(t, script(talk("go", says("done"))), runner.Defaults{})
	repo := repository(t, project)
	first, run := h.start(ask("go", repo))
	h.ends(first, run, errand.RunFinished)
	a := h.row(first)
	e, err := h.store.Environment(t.Context(), a.Environment)
	if err != nil || e.RepositoryFile == nil || e.RepositoryFile.Path != ".cursor/environment.json" || e.Active != a.Build || a.Build == "" {
		t.Fatalf("the agent's environment is %+v, its build %q, %v\n%s", e, a.Build, err, h.story(first))
	}
	versions, err := h.store.Versions(t.Context(), e.ID, 10, "")
	if err != nil || len(versions) != 1 || versions[0].Kind != errand.VersionBackfilled || versions[0].Source != errand.SourceRepositoryFile {
		t.Errorf("its history is %+v, %v", versions, err)
	}
	b := h.built(a.Build)
	if b.Status != errand.BuildSucceeded || b.Draft || b.Agent != first || b.Run != run || b.Trigger != errand.TriggerConfigChange || b.Snapshot == "" || b.Commits[0].Commit != a.Base {
		t.Errorf("the build is %+v", b)
	}
	if r, err := h.store.Run(t.Context(), first, run); err != nil || r.Build != b.ID {
		t.Errorf("the run is on build %q, %v", r.Build, err)
	}

	second, run2 := h.start(ask("go", repo))
	h.ends(second, run2, errand.RunFinished)
	if got := h.row(second); got.Build != b.ID || got.Environment != e.ID {
		t.Errorf("the second agent is on %q of %q, want %s", got.Build, got.Environment, b.ID)
	}
	if d := h.phase(second, run2, errand.PhaseInstall); !d.Cached || !strings.Contains(d.Note, string(b.ID)) {
		t.Errorf("its install was %+v", d)
	}

	change(t, repo, "main", "package.json", "2\n")
	third, run3 := h.start(ask("go", repo))
	h.ends(third, run3, errand.RunFinished)
	if d := h.phase(third, run3, errand.PhaseInstall); d.Cached || d.Note != "package.json changed since "+string(b.ID) {
		t.Errorf("after a change install was %+v", d)
	}
	if out, _ := h.exec(third, "cat /opt/installed; wc -l < /opt/times"); out != "2\n2\n" {
		t.Errorf("install on top of the build's disk left %q", out)
	}
	if got := h.row(third).Build; got == b.ID || h.active(e.ID) != got {
		t.Errorf("the third agent is on %s, and %s is active", got, h.active(e.ID))
	}

	change(t, repo, "main", ".cursor/environment.json", `{"install": "false"}`)
	fourth, run4 := h.start(ask("go", repo))
	h.ends(fourth, run4, errand.RunFailed)
	failed := h.built(h.row(fourth).Build)
	if failed.Status != errand.BuildFailed || failed.Failure.Type != errand.FailureInstall || h.active(e.ID) == failed.ID {
		t.Errorf("a failed install is the build %+v, and %s is active", failed, h.active(e.ID))
	}
	if versions, err = h.store.Versions(t.Context(), e.ID, 10, ""); err != nil || len(versions) != 2 || versions[0].Kind != errand.VersionChanged {
		t.Errorf("after the file changed the history is %+v, %v", versions, err)
	}
}

func (h *house) active(id errand.EnvironmentID) errand.BuildID {
	h.t.Helper()
	e, err := h.store.Environment(h.t.Context(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return e.Active
}

// TestOtherBranch starts an agent on a branch with another manifest: it works
// on the default branch's disk and is told how to install.
func TestOtherBranch(t *testing.T) {
	h := build(t, script(talk("go", says("done"))), runner.Defaults{})
	repo := repository(t, project)
	first, run := h.start(ask("go", repo))
	h.ends(first, run, errand.RunFinished)
	change(t, repo, "feature", "package.json", "9\n")
	request := ask("go", repo)
	request.Repositories[0].Ref = "feature"
	second, run2 := h.start(request)
	h.ends(second, run2, errand.RunFinished)
	active := h.row(first).Build
	if got := h.row(second).Build; got != active {
		t.Errorf("the agent is on build %s, want %s", got, active)
	}
	if d := h.phase(second, run2, errand.PhaseInstall); !d.Cached || !strings.Contains(d.Note, "package.json changed since "+string(active)) {
		t.Errorf("install was %+v", d)
	}
	if out, _ := h.exec(second, "cat /opt/installed /workspace/package.json"); out != "1\n9\n" {
		t.Errorf("the machine has %q", out)
	}
	if !strings.Contains(h.told(), "install again in /workspace: cp package.json") {
		t.Error("the model was not told how to install")
	}
}

// told gives all that the model was asked.
func (h *house) told() string {
	var all strings.Builder
	for _, r := range h.model.Requests() {
		all.WriteString(string(r.Body))
	}
	return all.String()
}

// TestStoredEnvironment starts agents on what is stored: for the repository, by
// name, and on a given build.
func TestStoredEnvironment(t *testing.T) {
	h := build(t, script(talk("go", says("done"))), runner.Defaults{})
	repo := repository(t, map[string]string{"package.json": "1\n"})
	keep := func(name string, owner errand.Owner, text string) (errand.Environment, errand.Build) {
		t.Helper()
		e, err := h.runner.Builds.Create(t.Context(), caller, builds.NewEnvironment{Name: name, Owner: owner, JSON: text, Repositories: []errand.Repository{{URL: repo}}})
		if err != nil {
			t.Fatal(err)
		}
		return e, h.buildEnds(e.ID)
	}
	team, teams := keep("team", errand.OwnerTeam, `{"install": "echo team > /opt/whose", "start": "echo started > /opt/started"}`)
	check := func(request runner.StartRequest, e errand.Environment, b errand.Build, whose string) {
		t.Helper()
		agent, run := h.start(request)
		h.ends(agent, run, errand.RunFinished)
		if got := h.row(agent); got.Environment != e.ID || got.Build != b.ID {
			t.Errorf("%s: the agent is on %s of %s\n%s", whose, got.Build, got.Environment, h.story(agent))
		}
		if d := h.phase(agent, run, errand.PhaseInstall); !d.Cached {
			t.Errorf("%s: install was %+v", whose, d)
		}
		if out, _ := h.exec(agent, "cat /opt/whose"); out != whose+"\n" {
			t.Errorf("%s: the machine is of %q", whose, out)
		}
	}
	check(ask("go", repo), team, teams, "team")
	mine, mines := keep("mine", errand.OwnerPersonal, `{"install": "echo mine > /opt/whose"}`)
	check(ask("go", repo), mine, mines, "mine")
	named := ask("go", "")
	named.Environment = "team"
	check(named, team, teams, "team")
	given := ask("go", "")
	given.Settings.Build = mines.ID
	check(given, mine, mines, "mine")

	text := `{"install": "echo half > /opt/whose; exit 1"}`
	if _, err := h.runner.Builds.Edit(t.Context(), caller, mine.ID, builds.EditEnvironment{JSON: &text}); err != nil {
		t.Fatal(err)
	}
	failed := h.buildEnds(mine.ID)
	if failed.Status != errand.BuildFailed {
		t.Fatalf("the build is %+v", failed)
	}
	given.Settings.Build = failed.ID
	check(given, mine, failed, "half")
	unknown := ask("go", "")
	unknown.Environment = "nothing"
	if _, _, err := h.runner.Start(t.Context(), caller, unknown); errand.KindOf(err) != errand.NotFound {
		t.Errorf("an unknown environment gave %v", err)
	}
	stranger := errand.Caller{Key: "other", Email: "grace@example.com"}
	if _, _, err := h.runner.Start(t.Context(), stranger, given); errand.KindOf(err) != errand.NotFound {
		t.Errorf("another person's build gave %v", err)
	}
}

// buildEnds waits for the newest build of an environment to end.
func (h *house) buildEnds(id errand.EnvironmentID) errand.Build {
	h.t.Helper()
	all, err := h.store.Builds(h.t.Context(), id, 1, "")
	if err != nil || len(all) == 0 {
		h.t.Fatalf("no build: %v", err)
	}
	deadline := time.AfterFunc(2*time.Minute, func() { panic("the build does not end") })
	defer deadline.Stop()
	for e, err := range h.runner.Builds.Follow(h.t.Context(), all[0], 0) {
		if err != nil {
			h.t.Fatal(err)
		}
		if builds.Ends(all[0], e) {
			break
		}
	}
	return h.built(all[0].ID)
}

// TestMachineChoosesNoDisk lets a machine write the key of another disk into its
// own notes: neither is its agent on that disk, nor is any other.
func TestMachineChoosesNoDisk(t *testing.T) {
	h := build(t, script(talk("go", says("done"))), runner.Defaults{})
	other, run := h.start(ask("go", repository(t, project)))
	h.ends(other, run, errand.RunFinished)
	key := h.built(h.row(other).Build).Snapshot
	repo := repository(t, map[string]string{".cursor/environment.json": `{"start": "true"}`})
	agent, run := h.start(ask("go", repo))
	h.ends(agent, run, errand.RunFinished)
	if _, exit := h.exec(agent, `sed -i 's/{/{"key":"`+key+`",/' /var/lib/errand/environment.json && grep -q `+key+` /var/lib/errand/environment.json`); exit.Code != 0 {
		t.Fatalf("writing the machine's notes ended with %d", exit.Code)
	}
	h.restart()
	h.exec(agent, "true")
	if a := h.row(agent); a.Build != "" || h.active(a.Environment) != "" {
		t.Errorf("the agent is on build %q, and %q is active\n%s", a.Build, h.active(a.Environment), h.story(agent))
	}

	// A build that an earlier server was talked into is no disk for others.
	e, err := h.store.Environment(t.Context(), h.row(agent).Environment)
	if err != nil {
		t.Fatal(err)
	}
	e.Active = errand.NewBuildID(time.Now())
	if err := h.store.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.InsertBuild(errand.Build{ID: e.Active, Environment: e.ID, Version: e.Version, Status: errand.BuildSucceeded, Snapshot: key, CreatedAt: tx.Now()}), tx.UpdateEnvironment(e))
	}); err != nil {
		t.Fatal(err)
	}
	next, run := h.start(ask("go", repo))
	h.ends(next, run, errand.RunFinished)
	if out, _ := h.exec(next, "cat /opt/installed 2>/dev/null"); out != "" {
		t.Errorf("another agent stands on a disk that a machine chose, with %q\n%s", out, h.story(next))
	}
}

// TestVariablesStayOutOfBuilds installs with an agent's own variables: the disk
// is for no other agent.
func TestVariablesStayOutOfBuilds(t *testing.T) {
	h := build(t, script(talk("go", says("done"))), runner.Defaults{})
	repo := repository(t, map[string]string{".cursor/environment.json": `{"install": "echo \"<$TOKEN>\" > /opt/token"}`})
	request := ask("go", repo)
	request.EnvVars = map[string]string{"TOKEN": "correct-horse-battery"}
	first, run := h.start(request)
	h.ends(first, run, errand.RunFinished)
	own := h.built(h.row(first).Build)
	if !own.Draft || h.active(own.Environment) != "" {
		t.Errorf("the build is %+v, and %q is active", own, h.active(own.Environment))
	}
	if err := h.runner.Builds.Activate(t.Context(), caller, own.Environment, own.ID); err == nil {
		t.Error("a disk with an agent's variables was activated")
	}
	second, run2 := h.start(ask("go", repo))
	h.ends(second, run2, errand.RunFinished)
	if out, _ := h.exec(second, "cat /opt/token"); out != "<>\n" {
		t.Errorf("another agent's machine has %q", out)
	}
	given := ask("go", "")
	given.Settings.Build = own.ID
	if _, _, err := h.runner.Start(t.Context(), caller, given); err == nil {
		t.Error("an agent was started on a disk with another's variables")
	}
}
