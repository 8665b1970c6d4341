package server_test

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/journal"
)

func TestRefs(t *testing.T) {
	in := install(t, nil)
	dir := filepath.Join(t.TempDir(), "app.git")
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("init", "-q", "-b", "trunk", dir)
	run("-C", dir, "commit", "-q", "--allow-empty", "-m", "Begin")
	for _, b := range []string{"feature/one", "feature/two"} {
		run("-C", dir, "branch", b)
	}
	run("-C", dir, "tag", "v1")
	list := func(part string, limit int, cursor string) (names string, next string) {
		t.Helper()
		refs, err := in.client.Refs(t.Context(), dir, part, limit, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range refs.Items {
			names += " " + r.Kind + ":" + r.Name
			if r.Default {
				names += "!"
			}
		}
		return names, refs.NextCursor
	}
	const all = " branch:trunk! branch:feature/one branch:feature/two tag:v1"
	for part, want := range map[string]string{"": all, "FEATURE": " branch:feature/one branch:feature/two", "nothing": ""} {
		if got, next := list(part, 0, ""); got != want || next != "" {
			t.Errorf("refs with %q are%s and more after %q, want%s", part, got, next, want)
		}
	}
	first, cursor := list("", 3, "")
	rest, end := list("", 3, cursor)
	if cursor == "" || end != "" || first+rest != all {
		t.Errorf("page by page they are%s, and%s", first, rest)
	}
	for query, status := range map[string]int{
		"url=" + url.QueryEscape(dir) + "&cursor=refs/heads/gone": 400,
		"url=" + url.QueryEscape(dir+"/nowhere"):                  404,
		"url=" + url.QueryEscape("https://me:pass@git.example/a"): 400,
		"url=nonsense": 400,
		"":             400,
	} {
		if a := in.ask("GET", "/v1/repositories/refs?"+query, "", nil); a.status != status || strings.Contains(string(a.body), "pass@") {
			t.Errorf("%s: %d %s, want %d", query, a.status, a.body, status)
		}
	}
}

func TestCommitsOfNothing(t *testing.T) {
	in := install(t, nil)
	id, _ := in.create("go")
	if a := in.ask("GET", "/v1/agents/"+string(id)+"/commits", "", nil); a.status != 404 || a.code(t) != "no_diff" {
		t.Errorf("commits before a checkout: %d %s", a.status, a.body)
	}
	if a := in.ask("GET", "/v1/agents/"+string(id)+"/commits?cursor=x", "", nil); a.status != 400 {
		t.Errorf("a wrong cursor: %d %s", a.status, a.body)
	}
	if _, err := in.journal.Decide(t.Context(), func(tx *journal.Tx) error {
		agent, err := tx.Agent(t.Context(), id)
		if err != nil {
			return err
		}
		agent.Base = strings.Repeat("a", 40)
		return tx.UpdateAgent(agent)
	}); err != nil {
		t.Fatal(err)
	}
	if commits, err := in.client.Commits(t.Context(), id, 1, ""); err != nil || commits.Items == nil || len(commits.Items) != 0 || commits.NextCursor != "" {
		t.Errorf("commits before a push: %+v, %v", commits, err)
	}
}

// TestStateOfAList: a follow-up that waits does not hide the run that it waits
// for, and one that was taken back is not what became of the agent.
func TestStateOfAList(t *testing.T) {
	in := install(t, nil)
	id, first := in.create("go")
	glance := func() api.Glance {
		t.Helper()
		a, err := in.runner.Glance(t.Context(), errand.Caller{}, id)
		if err != nil {
			t.Fatal(err)
		}
		return *api.FromGlance(a, "", in.runner.Cost).Glance
	}
	want := func(state errand.RunStatus, waiting int) {
		t.Helper()
		if g := glance(); g.State != state || g.Waiting != waiting {
			t.Errorf("the agent is %s with %d waiting, want %s with %d", g.State, g.Waiting, state, waiting)
		}
	}
	become := func(run errand.RunID, status errand.RunStatus) {
		t.Helper()
		if _, err := in.journal.Decide(t.Context(), func(tx *journal.Tx) error {
			now, err := tx.Run(t.Context(), id, run)
			if err != nil {
				return err
			}
			if now.Status = status; now.StartedAt.IsZero() {
				now.StartedAt = tx.Now()
			}
			now.Phase = errand.PhaseWork
			return tx.UpdateRun(now)
		}); err != nil {
			t.Fatal(err)
		}
	}
	want(errand.RunQueued, 0)
	become(first, errand.RunRunning)
	follow, err := in.client.CreateRun(t.Context(), id, api.CreateRun{Prompt: api.Prompt{Text: "more"}, WhenBusy: "queue"}, "")
	if err != nil {
		t.Fatal(err)
	}
	want(errand.RunRunning, 1)
	if g := glance(); g.Phase != errand.PhaseWork {
		t.Errorf("its phase is %q", g.Phase)
	}
	if a := in.ask("POST", "/v1/agents/"+string(id)+"/runs/"+follow.Run.ID+"/cancel", "", nil); a.status != 200 {
		t.Fatalf("cancelling: %d %s", a.status, a.body)
	}
	want(errand.RunRunning, 0)
	become(first, errand.RunFinished)
	want(errand.RunFinished, 0)
	if a, err := in.client.Agent(t.Context(), id); err != nil || a.Model == nil || a.Model.ID != "scripted" {
		t.Errorf("an agent on the default model has %+v, %v", a.Model, err)
	}
}
