package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/anthropic"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/machine/imagetest"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

func TestMain(m *testing.M) { os.Exit(imagetest.Main(m)) }

// house is a runner with all that it stands on, on real machines.
type house struct {
	t       *testing.T
	dir     string
	store   *store.Store
	journal *journal.Journal
	driver  *oci.Driver
	options runner.Options
	runner  *runner.Runner
	model   *scripted.Server
	log     *lockedText
	stop    func()
}

// lockedText keeps what a server logs, for a test that fails.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var caller = errand.Caller{Key: "test", Name: "Ada Lovelace", Email: "ada@example.com"}

// build makes a house and starts its runner. At the end of the test every agent
// is deleted and the driver must hold nothing.
func build(t *testing.T, script *scripted.Script, d runner.Defaults) *house {
	t.Helper()
	guesttest.Root(t)
	dir, err := os.MkdirTemp("", "errand-runner-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	h := &house{t: t, dir: dir, model: scripted.New(script), log: &lockedText{}}
	serving := httptest.NewServer(h.model)
	t.Cleanup(serving.Close)
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	redactor := &secret.Redactor{}
	if h.store, err = store.Open(t.Context(), filepath.Join(dir, "errand.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.store.Close() })
	h.journal = journal.New(h.store, redactor)
	imagetest.Host(t, filepath.Join(dir, "images"))
	images, err := image.Open(image.Options{Dir: filepath.Join(dir, "images"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	runc, _ := exec.LookPath("runc")
	h.driver, err = oci.New(oci.Options{
		Dir: filepath.Join(dir, "machines"), Images: images,
		Guest: guesttest.Program(t, "errand-guest"), Runsc: guesttest.Program(t, "runsc"), Runc: runc, DefaultEngine: "runc", Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.driver.Close(), images.Close()); err != nil {
			t.Error(err)
		}
	})
	mirrors, err := git.New(git.Options{Dir: filepath.Join(dir, "git"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mirrors.Close() })
	h.options = runner.Options{
		Dir: dir, Store: h.store, Journal: h.journal, Redactor: redactor, Vault: vault.Open(h.store, filepath.Join(dir, "key"), "", nil), Driver: h.driver, Images: images,
		Mirrors: mirrors, Gate: egress.New(egress.Options{Log: log}), Log: log, Defaults: d,
		Models: &runner.Models{Catalog: llm.NewCatalog(), Providers: map[string]runner.Provider{
			"anthropic": {New: func(e llm.Entry) llm.Model {
				return anthropic.New(anthropic.Options{Key: "a-key-for-tests", BaseURL: serving.URL, Model: e})
			}},
			"openai": {Missing: "OPENAI_API_KEY"},
		}},
	}
	h.run()
	t.Cleanup(h.clear)
	return h
}

// run starts a runner on what is there.
func (h *house) run() {
	var err error
	if h.runner, err = runner.Open(h.options); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func(r *runner.Runner) { ended <- r.Run(ctx) }(h.runner)
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
	})
}

// restart ends the runner in order and starts another, which knows only what is
// kept.
func (h *house) restart() {
	h.stop()
	h.options.Redactor = &secret.Redactor{}
	h.journal = journal.New(h.store, h.options.Redactor)
	h.options.Journal = h.journal
	h.run()
}

// grep gives the files below dir that hold text.
func grep(t *testing.T, dir, text string) []string {
	t.Helper()
	out, err := exec.Command("grep", "-rlaF", "--exclude=disk.img", text, dir).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		t.Fatalf("grep: %v", err)
	}
	return strings.Fields(string(out))
}

func (h *house) clear() {
	ctx := context.Background()
	if h.t.Failed() {
		text := h.log.String()
		h.t.Logf("the log ends with:\n%s", text[max(0, len(text)-5000):])
	}
	agents, _, err := h.runner.Agents(ctx, caller, runner.AgentQuery{Limit: 100, IncludeArchived: true})
	if err != nil {
		h.t.Error(err)
	}
	for _, a := range agents {
		if err := h.runner.Delete(ctx, caller, a.ID); err != nil {
			h.t.Error(err)
		}
	}
	h.stop()
	held, err := h.driver.List(ctx)
	if err != nil || len(held) > 0 {
		h.t.Errorf("the driver still holds %v, %v", held, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		h.t.Error(err)
	}
	if strings.Contains(string(mounts), h.dir) {
		h.t.Errorf("mounts are left below %s", h.dir)
	}
}

// start starts an agent that must be taken.
func (h *house) start(req runner.StartRequest) (errand.AgentID, errand.RunID) {
	h.t.Helper()
	a, r, err := h.runner.Start(h.t.Context(), caller, req)
	if err != nil {
		h.t.Fatal(err)
	}
	return a.ID, r.ID
}

// ask is the plainest request.
func ask(prompt, repo string) runner.StartRequest {
	req := runner.StartRequest{Prompt: errand.Prompt{Text: prompt}}
	if repo != "" {
		req.Repositories = []errand.Repository{{URL: repo}}
	}
	return req
}

// until follows an agent's journal to the first event that f takes.
func (h *house) until(agent errand.AgentID, what string, f func(errand.Event) bool) errand.Event {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Minute)
	defer cancel()
	for e, err := range h.runner.Follow(ctx, caller, agent, 0) {
		if err != nil {
			h.t.Fatal(err)
		}
		if f(e) {
			return e
		}
	}
	h.t.Fatalf("waited in vain for %s\n%s", what, h.story(agent))
	panic("unreachable")
}

// await waits for what no event tells of.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// end waits for the end of a run.
func (h *house) end(agent errand.AgentID, run errand.RunID) errand.RunStatusData {
	h.t.Helper()
	return read[errand.RunStatusData](h.t, h.until(agent, "the end of the run", func(e errand.Event) bool {
		return e.Run == run && e.Kind == errand.EventRunStatus && read[errand.RunStatusData](h.t, e).Status.Ended()
	}))
}

// ends wants a run to end in a status and gives how.
func (h *house) ends(agent errand.AgentID, run errand.RunID, status errand.RunStatus) errand.RunStatusData {
	h.t.Helper()
	d := h.end(agent, run)
	if d.Status != status {
		h.t.Fatalf("the run is %s (%v), want %s\n%s", d.Status, d.Error, status, h.story(agent))
	}
	return d
}

func read[T any](t *testing.T, e errand.Event) (d T) {
	t.Helper()
	if err := json.Unmarshal(e.Data, &d); err != nil {
		t.Fatalf("event %d (%s): %v", e.Seq, e.Kind, err)
	}
	return d
}

func (h *house) events(agent errand.AgentID) []errand.Event {
	h.t.Helper()
	all, err := h.journal.All(context.Background(), agent)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

func (h *house) story(agent errand.AgentID) string {
	var b strings.Builder
	for _, e := range h.events(agent) {
		text := string(e.Data)
		fmt.Fprintf(&b, "%4d %-14s %s\n", e.Seq, e.Kind, text[:min(len(text), 300)])
	}
	return b.String()
}

// repository makes a bare remote with one commit of files.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	tree, bare := filepath.Join(dir, "tree"), filepath.Join(dir, "origin.git")
	if files == nil {
		files = map[string]string{"README": "hello\n"}
	}
	for name, text := range files {
		path := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", tree}, {"-C", tree, "add", "-A"},
		{"-C", tree, "-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-qm", "Begin"},
		{"clone", "-q", "--bare", tree, bare},
	} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return bare
}

// command is a turn that runs one command.
func command(text string) *scripted.Turn {
	args, err := json.Marshal(map[string]string{"command": text})
	if err != nil {
		panic(err)
	}
	return &scripted.Turn{Calls: []scripted.Call{{Name: "run_terminal_cmd", Args: args}}}
}

func says(text string) *scripted.Turn { return &scripted.Turn{Text: text} }

// talk is a script of one conversation for every prompt that matches.
func talk(match string, turns ...*scripted.Turn) *scripted.Conversation {
	return &scripted.Conversation{Match: scripted.Pat(match), Turns: turns}
}

func script(all ...*scripted.Conversation) *scripted.Script {
	return &scripted.Script{Conversations: all}
}
