package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm/scripted"
)

// desk is a person's own clone.
type desk struct {
	*testing.T
	in  *installation
	dir string
}

func newDesk(t *testing.T, in *installation, bare string) *desk {
	t.Helper()
	d := &desk{T: t, in: in, dir: filepath.Join(t.TempDir(), "clone")}
	git(t, filepath.Dir(d.dir), "clone", "-q", bare, d.dir)
	return d
}

// run runs errand in the clone and gives what it printed and its exit code.
func (d *desk) run(args ...string) (out string, code int) {
	d.Helper()
	cmd := d.in.command(args...)
	cmd.Dir = d.dir
	cmd.Env = append(cmd.Env, "GIT_CONFIG_GLOBAL=/dev/null")
	text, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		d.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func (d *desk) must(args ...string) string {
	d.Helper()
	out, code := d.run(args...)
	if code != 0 {
		d.Fatalf("errand %q ended with %d: %s", args, code, out)
	}
	return out
}

// refused wants a command to fail with a code, and to say something.
func (d *desk) refused(code int, says string, args ...string) {
	d.Helper()
	if out, got := d.run(args...); got != code || !strings.Contains(out, says) {
		d.Errorf("errand %q ended with %d and said %q; it should be %d and say %q", args, got, out, code, says)
	}
}

func (d *desk) git(args ...string) string { d.Helper(); return git(d.T, d.dir, args...) }

func (d *desk) write(name, text string) {
	d.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
		d.Fatal(err)
	}
}

// holds wants the clone's files and git's status of it.
func (d *desk) holds(status string, files map[string]string) {
	d.Helper()
	if got := d.git("status", "--short"); got != status {
		d.Errorf("git status says %q, not %q", got, status)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(d.dir, name)); err != nil || string(got) != want {
			d.Errorf("%s is %q (%v), not %q", name, got, err, want)
		}
	}
}

// in the machine of agent a shell says, without the end of its line.
func (d *desk) there(agent, script string) string {
	d.Helper()
	return strings.TrimSuffix(d.must("exec", agent, "--", "sh", "-ec", script), "\n")
}

// TestPullAndPush hands the same files back and forth between a person's clone and
// a machine of each engine.
func TestPullAndPush(t *testing.T) {
	t.Parallel()
	in := install(t, here())
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			bare := remote(t, map[string]string{"README": "hello\n", "a": "1\n", "b": "1\n", "gone": "x\n", ".gitignore": "secret\n"})
			made := in.agent("Be there", bare, engine)
			in.finished(made.Agent.ID, made.Run.ID)
			d := newDesk(t, in, bare)
			d.handToAndFro(made.Agent.ID, made.Agent.Branch)
			d.handRefusals(made.Agent.ID, made.Agent.Branch)
		})
	}
}

func (d *desk) handToAndFro(id, branch string) {
	d.Helper()
	d.there(id, "echo 2 >a; git commit -qam two; echo 2 >b; echo new >n; rm gone; echo s >secret")
	if out := d.must("pull", id); !strings.Contains(out, branch+" is new") {
		d.Errorf("pull says %q", out)
	}
	head := d.there(id, "git rev-parse HEAD")
	if got := d.git("rev-parse", branch); got != head || d.git("branch", "--show-current") != "main" {
		d.Errorf("the branch is at %s, the agent's at %s", got, head)
	}
	d.holds("", map[string]string{"a": "1\n"})

	// Uncommitted work comes as the person's own changes; ignored files do not.
	d.must("pull", "--uncommitted", id)
	changes := "M b\n D gone\n?? n"
	d.holds(changes, map[string]string{"a": "2\n", "b": "2\n", "n": "new\n"})
	if _, err := os.Stat(filepath.Join(d.dir, "secret")); err == nil {
		d.Error("an ignored file came along")
	}
	if out := d.must("pull", "-u", id); !strings.Contains(out, "Nothing uncommitted") {
		d.Errorf("a second pull says %q", out)
	}
	// What goes on there goes on here, since here nothing else was done to it.
	d.there(id, "echo 3 >b; git add n")
	d.must("pull", "-u", id)
	d.holds(changes, map[string]string{"b": "3\n"})
	if got := d.there(id, "git status --short; ls -A .git/errand"); !strings.HasPrefix(got, " M b\n D gone\nA  n\n") || strings.Contains(got, "index.") {
		d.Errorf("the agent's tree is %q", got)
	}

	// Back: the person commits what was the agent's, changed further.
	d.write("b", "4\n")
	d.git("add", "-A")
	d.git("commit", "-qm", "theirs and mine")
	d.there(id, "git restore --staged n")
	d.must("push", id)
	if got := d.there(id, "git rev-parse HEAD; git status --short; cat b; git for-each-ref refs/errand/incoming"); got != d.git("rev-parse", "HEAD")+"\n4" {
		d.Errorf("after a push the machine has %q", got)
	}
	d.write("b", "5\n")
	d.write("m", "mine\n")
	if out := d.must("push", "-u", id); !strings.Contains(out, "  b\n  m\n") {
		d.Errorf("push -u says %q", out)
	}
	if got := d.there(id, "git status --short; cat b m"); got != " M b\n?? m\n5\nmine" {
		d.Errorf("after a push of uncommitted work the machine has %q", got)
	}
	d.holds("M b\n?? m", nil)
}

func (d *desk) handRefusals(id, branch string) {
	d.Helper()
	before := d.there(id, "git rev-parse HEAD; git status --short; cat b")
	// Both ends have changed b.
	d.there(id, "echo theirs >b")
	d.write("b", "mine\n")
	d.refused(6, "Your working tree has other changes in b", "pull", "-u", id)
	d.refused(6, "The agent's working tree has other changes in b", "push", "-u", id)
	d.holds("M b\n?? m", map[string]string{"b": "mine\n"})
	if got := d.there(id, "cat b; git for-each-ref refs/errand/incoming"); got != "theirs" {
		d.Errorf("a refused push left %q", got)
	}
	d.there(id, "echo 5 >b")
	if after := d.there(id, "git rev-parse HEAD; git status --short; cat b"); after != before {
		d.Errorf("the agent's tree was %q and is %q", before, after)
	}
	d.git("stash", "-uq")

	// Both have commits.
	d.there(id, "echo c >c; git add c; git commit -qm theirs")
	d.git("commit", "-q", "--allow-empty", "-m", "mine")
	d.refused(6, "at FETCH_HEAD", "pull", id)
	d.refused(6, "commits on "+branch+" that you lack", "push", id)
	d.must("pull", "--as", "theirs", id)
	if d.git("rev-parse", "theirs") != d.git("rev-parse", "FETCH_HEAD") {
		d.Error("--as makes another branch than what was fetched")
	}
	d.there(id, "git switch -qc elsewhere")
	d.refused(6, "is on elsewhere", "push", id)
	d.there(id, "git switch -q "+branch)

	d.refused(3, "no commit", "push", id, "nothing-of-the-kind")
	d.refused(3, "agent", "pull", "bc-00000000-0000-0000-0000-000000000000")
	other := &desk{T: d.T, in: d.in, dir: d.TempDir()}
	other.refused(1, "no repository", "pull", id)
	other.git("init", "-q")
	other.refused(1, "another repository", "pull", id)
	cmd := d.in.command("pull", id)
	cmd.Dir, cmd.Env = d.dir, append(cmd.Env, "ERRAND_API_KEY=wrong")
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 4 {
		d.Errorf("with a wrong key: %v %s", err, out)
	}
}

// TestPullWakes pulls from a machine that sleeps. A push to an agent at work is
// refused unless it is meant.
func TestPullWakes(t *testing.T) {
	t.Parallel()
	in := install(t, &scripted.Script{Conversations: []*scripted.Conversation{
		{Match: scripted.Pat("wait"), Turns: []*scripted.Turn{{Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: []byte(`{"command":"until [ -e go ]; do sleep 0.05; done"}`)}}}, {Text: "Went."}}},
		{Turns: []*scripted.Turn{{Text: "Here I am."}}, Repeat: true},
	}}, "--idle", "1s")
	bare := remote(t, map[string]string{"README": "hello\n"})
	made := in.agent("Be there", bare, "runc")
	in.finished(made.Agent.ID, made.Run.ID)
	d := newDesk(t, in, bare)
	d.there(made.Agent.ID, "echo work >work")
	in.slept(made.Agent.ID)
	d.must("pull", "-u", made.Agent.ID)
	d.holds("?? work", map[string]string{"work": "work\n"})

	busy := in.agent("wait", bare, "runc")
	in.await(busy.Agent.ID, errand.EventToolCalled)
	d.git("switch", "-qf", "main")
	d.must("pull", "-s", busy.Agent.ID)
	d.write("go", "go\n")
	d.refused(6, "--while-running", "push", "-u", busy.Agent.ID)
	d.must("push", "-u", "--while-running", busy.Agent.ID)
	in.finished(busy.Agent.ID, busy.Run.ID)
	if got := git(t, bare, "show", busy.Agent.Branch+":go"); got != "go" {
		t.Errorf("what was pushed into the run became %q", got)
	}
}

// TestRunFromHere starts agents from a tree with a commit that the remote lacks,
// and files that nobody has committed. Neither the tree nor the server keeps
// anything of how they came there.
func TestRunFromHere(t *testing.T) {
	t.Parallel()
	in := install(t, &scripted.Script{Conversations: []*scripted.Conversation{{Turns: []*scripted.Turn{
		{Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: []byte(`{"command":"cat a local dirty; ls -A; git log --format=%s; echo done >done"}`)}}},
		{Expect: scripted.Pat(`2\ncommitted\ndirty\n`), Text: "Done."},
	}}}})
	for _, engine := range []string{"gvisor", "runc"} {
		t.Run(engine, func(t *testing.T) {
			bare := remote(t, map[string]string{"a": "1\n", "b": "1\n", ".gitignore": "secret\n"})
			d := newDesk(t, in, bare)
			d.write("local", "committed\n")
			d.git("add", "local")
			d.git("commit", "-qm", "only here")
			d.write("a", "2\n")
			d.write("b", "staged\n")
			d.git("add", "b")
			d.write("dirty", "dirty\n")
			d.write("secret", "mine\n")
			status, head := d.git("status", "--short"), d.git("rev-parse", "HEAD")
			out := d.must("run", "--json", "--follow", "--from-here", "--engine", engine, "--env", "X=y", "go on")
			var made struct {
				Agent struct{ ID, Branch, Base string }
			}
			if err := json.Unmarshal([]byte(out), &made); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			files := strings.Fields(git(t, bare, "ls-tree", "--name-only", made.Agent.Branch))
			if want := []string{".gitignore", "a", "b", "dirty", "done", "local"}; !slices.Equal(files, want) {
				t.Errorf("the branch has %q", files)
			}
			if got := git(t, bare, "show", made.Agent.Branch+":b"); got != "staged" {
				t.Errorf("what was staged is %q", got)
			}
			if got := git(t, bare, "rev-parse", made.Agent.Branch+"~2"); got != head {
				t.Errorf("the branch stands on %s, not on %s", got, head)
			}
			if got := d.git("status", "--short"); got != status || d.git("for-each-ref") != d.git("for-each-ref", "refs/heads", "refs/remotes") {
				t.Errorf("here it is now %q, %s", got, d.git("for-each-ref"))
			}
			carried, err := filepath.Glob(filepath.Join(in.data, "*/carried/*"))
			if err != nil || len(carried) == 0 {
				t.Fatalf("nothing was ever carried, %v", err)
			}
			if left, err := filepath.Glob(filepath.Join(in.data, "*/carried/*/*")); err != nil || len(left) > 0 {
				t.Errorf("what was carried is still there: %q, %v", left, err)
			}
			d.fromHereRefusals()
		})
	}
}

func (d *desk) fromHereRefusals() {
	d.Helper()
	d.refused(2, "leave out --ref", "run", "--from-here", "--ref", "main", "x")
	d.refused(1, "no repository there", "run", "--from-here", "--repo", filepath.Join(d.dir, "nowhere"), "x")
	d.git("switch", "-q", "--detach") // no branch says which remote
	d.git("remote", "rename", "origin", "up")
	d.git("remote", "add", "down", "x")
	d.refused(1, "2 remotes", "run", "--from-here", "x")
}
