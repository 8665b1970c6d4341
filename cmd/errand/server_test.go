package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/llm/scripted"
)

// installation is a data directory with a server that can be killed and started
// again, and the scripted model that its agents speak with.
type installation struct {
	t       *testing.T
	data    string
	model   *httptest.Server
	process *exec.Cmd
	exited  chan error
	log     *os.File
	client  *client.Client
}

// install makes an installation and starts its server. At the end of the test
// every agent is deleted, and nothing of it may be left on the host.
//
// Installations do not know of each other, so tests run beside each other, except
// those that hold the product to a bound on time or kill it at some moment: these
// have the processors for themselves.
func install(t *testing.T, script *scripted.Script, flags ...string) *installation {
	t.Helper()
	guesttest.Root(t)
	model := httptest.NewServer(scripted.New(script))
	t.Cleanup(model.Close)
	// Not t.TempDir: its name is long, and machines' sockets live below.
	data, err := os.MkdirTemp("", "errand-test-")
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	in := &installation{t: t, data: data, model: model, log: log}
	t.Cleanup(func() { in.remove() })
	hostImage(t, data)
	in.start(flags...)
	return in
}

// start starts the server and waits until it answers.
func (in *installation) start(flags ...string) {
	in.t.Helper()
	url := filepath.Join(in.data, "url")
	if err := os.Remove(url); err != nil && !errors.Is(err, fs.ErrNotExist) {
		in.t.Fatal(err)
	}
	in.process = exec.Command(guesttest.Program(in.t, "errand"), append([]string{"serve", "--data", in.data, "--listen", "127.0.0.1:0"}, flags...)...)
	in.process.Env = append(os.Environ(), "ANTHROPIC_API_KEY=any", "ANTHROPIC_BASE_URL="+in.model.URL, "OPENAI_API_KEY=")
	in.process.Stdout, in.process.Stderr = in.log, in.log
	if err := in.process.Start(); err != nil {
		in.t.Fatal(err)
	}
	in.exited = make(chan error, 1)
	go func(p *exec.Cmd, exited chan error) { exited <- p.Wait() }(in.process, in.exited)
	deadline := time.Now().Add(30 * time.Second)
	for {
		if in.connect(url) {
			return
		}
		select {
		case err := <-in.exited:
			in.exited <- err
			in.t.Fatalf("the server ended: %v\n%s", err, in.logged())
		case <-time.After(10 * time.Millisecond): // no event tells that another process listens
		}
		if time.Now().After(deadline) {
			in.t.Fatalf("the server does not answer\n%s", in.logged())
		}
	}
}

func (in *installation) connect(url string) bool {
	address, err := os.ReadFile(url)
	if err != nil {
		return false
	}
	key, err := os.ReadFile(filepath.Join(in.data, "key"))
	if err != nil {
		return false
	}
	c, err := client.New(client.Options{URL: strings.TrimSpace(string(address)), Key: strings.TrimSpace(string(key))})
	if err != nil {
		in.t.Fatal(err)
	}
	in.client = c
	_, err = in.client.Me(in.t.Context())
	return err == nil
}

// kill ends the server as nothing can prepare for.
func (in *installation) kill() {
	if err := in.process.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		in.t.Fatal(err)
	}
	<-in.exited
}

func (in *installation) logged() string {
	b, err := os.ReadFile(in.log.Name())
	if err != nil {
		return err.Error()
	}
	if len(b) > 6000 {
		b = b[len(b)-6000:]
	}
	return string(b)
}

// remove deletes all agents, stops the server and looks for what it left.
func (in *installation) remove() {
	ctx := context.Background()
	if in.t.Failed() {
		in.t.Logf("the server's log ends with:\n%s", in.logged())
	}
	for a, err := range in.client.AllAgents(ctx, client.AgentQuery{IncludeArchived: true}) {
		if err != nil {
			in.t.Error(err)
			break
		}
		if err := in.client.Delete(ctx, errand.AgentID(a.ID)); err != nil {
			in.t.Errorf("deleting %s: %v", a.ID, err)
		}
	}
	if err := in.process.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		in.t.Error(err)
	}
	select {
	case <-in.exited:
	case <-time.After(60 * time.Second):
		in.t.Error("the server does not end when it is told to")
		in.kill()
	}
	for _, left := range left(in.t, in.data) {
		in.t.Errorf("left behind: %s", left)
	}
	if err := os.RemoveAll(in.data); err != nil {
		in.t.Error(err)
	}
}

// left finds mounts and processes that belong to a data directory.
func left(t *testing.T, data string) (found []string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, data) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		b, err := os.ReadFile(p)
		if err == nil && bytes.Contains(b, []byte(data)) {
			found = append(found, "process "+string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// git runs git in dir.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// remote makes a bare repository with one commit of files.
func remote(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	tree, bare := filepath.Join(dir, "tree"), filepath.Join(dir, "origin.git")
	git(t, dir, "init", "-q", "-b", "main", tree)
	for name, text := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(t, tree, "add", "-A")
	git(t, tree, "commit", "-q", "-m", "Begin")
	git(t, dir, "clone", "-q", "--bare", tree, bare)
	return bare
}

// agent starts an agent.
func (in *installation) agent(prompt, repo, engine string) api.CreatedAgent {
	in.t.Helper()
	req := api.CreateAgent{Prompt: api.Prompt{Text: prompt}, Engine: engine}
	if repo != "" {
		req.Repos = []api.Repo{{URL: repo}}
	}
	created, err := in.client.CreateAgent(in.t.Context(), req, "")
	if err != nil {
		in.t.Fatal(err)
	}
	return created
}

// until follows an agent's journal to the first event that f takes.
func (in *installation) until(agent, what string, f func(errand.Event) bool) errand.Event {
	in.t.Helper()
	ctx, cancel := context.WithTimeout(in.t.Context(), 4*time.Minute)
	defer cancel()
	for e, err := range in.client.Follow(ctx, errand.AgentID(agent), 0) {
		if err != nil {
			in.t.Fatalf("waiting for %s of %s: %v\n%s", what, agent, err, in.logged())
		}
		if f(e) {
			return e
		}
	}
	in.t.Fatalf("the journal of %s ended before %s\n%s", agent, what, in.logged())
	panic("unreachable")
}

// await follows an agent to the first event of a kind.
func (in *installation) await(agent string, kind errand.EventKind) errand.Event {
	in.t.Helper()
	return in.until(agent, string(kind), func(e errand.Event) bool { return e.Kind == kind })
}

// ended follows an agent until the run has ended and gives its last status.
func (in *installation) ended(agent, run string) (d errand.RunStatusData) {
	in.t.Helper()
	in.until(agent, "the end of run "+run, func(e errand.Event) bool {
		if e.Kind != errand.EventRunStatus || string(e.Run) != run {
			return false
		}
		d = data[errand.RunStatusData](in.t, e)
		return d.Status.Ended()
	})
	return d
}

// slept waits until the agent's machine sleeps, after all that has happened so far.
func (in *installation) slept(agent string) {
	in.t.Helper()
	now, asleep := errand.Seq(len(in.events(agent))), false
	in.until(agent, "the sleep", func(e errand.Event) bool {
		if e.Kind == errand.EventMachine {
			asleep = data[errand.MachineData](in.t, e).What == "stopped"
		}
		return asleep && e.Seq >= now
	})
}

// finished wants the run to end well.
func (in *installation) finished(agent, run string) errand.RunStatusData {
	in.t.Helper()
	d := in.ended(agent, run)
	if d.Status != errand.RunFinished {
		in.t.Fatalf("run %s is %s: %v\n%s", run, d.Status, d.Error, in.story(agent))
	}
	return d
}

func data[T any](t *testing.T, e errand.Event) (d T) {
	t.Helper()
	if err := json.Unmarshal(e.Data, &d); err != nil {
		t.Fatalf("event %d (%s): %v", e.Seq, e.Kind, err)
	}
	return d
}

// events gives an agent's whole journal and checks its numbers.
func (in *installation) events(agent string) []errand.Event {
	in.t.Helper()
	var all []errand.Event
	for e, err := range in.client.AllEvents(in.t.Context(), errand.AgentID(agent), 0) {
		if err != nil {
			in.t.Fatal(err)
		}
		if e.Seq != errand.Seq(len(all)+1) {
			in.t.Fatalf("event %d follows event %d", e.Seq, len(all))
		}
		all = append(all, e)
	}
	return all
}

// story is the journal in short, for a test that fails.
func (in *installation) story(agent string) string {
	var b strings.Builder
	for _, e := range in.events(agent) {
		text := string(e.Data)
		if len(text) > 300 {
			text = text[:300] + "…"
		}
		fmt.Fprintf(&b, "%4d %s %-14s %s\n", e.Seq, e.Time.Format("05.000"), e.Kind, text)
	}
	return b.String()
}
