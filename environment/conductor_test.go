package environment_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/machine/oci"
)

// images is where all tests of the package keep the host's image, which takes
// seconds to make.
var images string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "environment-images-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	images = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// host is where machines are made in a test: a real driver, a real mirror of a
// real repository. All of it is gone when the test has ended.
type host struct {
	t       testing.TB
	engine  string
	driver  *oci.Driver
	remote  string // a clone with which the repository can be changed
	url     string
	mirrors *git.Mirrors
	builds  environment.Builds
}

func newHost(t testing.TB, engine string, files map[string]string) *host {
	t.Helper()
	guesttest.Root(t)
	if testing.Short() {
		t.Skip("needs machines")
	}
	h := &host{t: t, engine: engine}
	// Short, since paths of sockets are below it.
	run, err := os.MkdirTemp("", "e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(run); err != nil {
			t.Error(err)
		}
	})
	// Root in a machine is nobody here, who must get through to its disk.
	for _, dir := range []string{run, images} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	opts := oci.Options{Dir: t.TempDir(), RunDir: run, Guest: guesttest.Program(t, "errand-guest"), DefaultEngine: engine}
	if engine == oci.GVisor {
		opts.Runsc = guesttest.Program(t, "runsc")
	} else if _, err := exec.LookPath("runc"); err != nil {
		guesttest.Lacking(t, "runc is not installed")
	}
	store, err := image.Open(image.Options{Dir: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	opts.Images = store
	if h.driver, err = oci.New(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.clear)
	if h.mirrors, err = git.New(git.Options{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	h.remote = t.TempDir()
	h.url = filepath.Join(t.TempDir(), "remote.git")
	h.git("init", "-q", "-b", "main", ".")
	h.git("init", "-q", "--bare", "-b", "main", h.url)
	h.push(files)
	return h
}

// clear removes all machines and holds that nothing of them is left.
func (h *host) clear() {
	ctx := context.Background()
	handles, err := h.driver.List(ctx)
	if err != nil {
		h.t.Error(err)
	}
	for _, handle := range handles {
		m, err := h.driver.Open(ctx, handle)
		if err == nil {
			err = m.Destroy(ctx)
		}
		if err != nil && !errors.Is(err, machine.ErrNotFound) {
			h.t.Errorf("removing machine %s: %v", handle.ID, err)
		}
	}
	if err := h.driver.Close(); err != nil {
		h.t.Error(err)
	}
}

func (h *host) git(args ...string) string {
	h.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
	cmd.Dir = h.remote
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// push commits files to the repository.
func (h *host) push(files map[string]string) {
	h.t.Helper()
	for name, content := range files {
		path := filepath.Join(h.remote, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	h.git("add", "-A")
	h.git("commit", "-q", "--allow-empty", "-m", "change")
	h.git("push", "-q", h.url, "main")
}

// agent is one agent as a conductor would hold it: a machine, a journal.
type agent struct {
	*host
	id     machine.ID
	branch string
	commit string
	env    []string
	change func(*environment.Preparation)

	mu     sync.Mutex
	events []errand.Event
	run    errand.RunID
	line   *guest.Line
	opened int
	// onRecord may fail a record before (kept false) or after it was kept.
	onRecord func(n int, kept bool) error
	records  int
}

func (h *host) agent(name string) *agent {
	h.t.Helper()
	mirror, err := h.mirrors.Fetch(h.t.Context(), h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	commit, _, err := mirror.Resolve(h.t.Context(), "")
	if err != nil {
		h.t.Fatal(err)
	}
	a := &agent{host: h, id: machine.ID(name), branch: "errand/" + name, commit: commit, run: errand.NewRunID()}
	h.t.Cleanup(a.close)
	return a
}

// prepare is what the conductor does for a run.
func (a *agent) prepare(ctx context.Context) (*environment.Ready, error) {
	mirror, err := a.mirrors.Open(ctx, a.url)
	if err != nil {
		return nil, err
	}
	found, _, err := file.Find(func(path string) ([]byte, error) { return mirror.ReadFile(ctx, a.commit, path) })
	if err != nil {
		return nil, err
	}
	p := environment.Preparation{
		Driver: a.driver, Machine: a.id, Spec: machine.Spec{Engine: a.engine, Limits: errand.Limits{Memory: 1 << 30}},
		Environment: found, Mirror: mirror, Env: a.env, Keyed: keyed(a.env),
		Checkout: git.Checkout{URL: mirror.URL(), Commit: a.commit, Branch: a.branch, CoAuthor: git.Person{Name: "Bob", Email: "bob@example.com"}},
		Open:     a.open, Closed: a.close, Record: a.record,
		Resolve:  func(_ context.Context, image string) (string, error) { return image + "@1", nil },
		Progress: environment.ProgressOf(a.events, a.run), Builds: &a.builds,
	}
	if testing.Verbose() {
		p.Log = slog.New(slog.NewTextHandler(a.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if a.change != nil {
		a.change(&p)
	}
	ready, err := environment.Prepare(ctx, p)
	if e := new(errand.Error); errors.As(err, &e) && e.Output != "" {
		a.t.Logf("output of what failed:\n%s", e.Output)
	}
	return ready, err
}

func (a *agent) open(ctx context.Context, m machine.Machine) (*guest.Line, error) {
	a.close()
	line, err := guest.Open(ctx, m.Dial, guest.Options{Gone: func(err error) bool {
		return errors.Is(err, machine.ErrStopped) || errors.Is(err, machine.ErrNotFound)
	}})
	if err != nil {
		return nil, err
	}
	a.line = line
	a.opened++
	return line, a.record(ctx, errand.Fact{Kind: errand.EventMachine, Data: errand.MachineData{What: "found", Boot: line.Hello().Boot}})
}

func (a *agent) close() {
	if a.line != nil {
		a.line.Close()
		a.line = nil
	}
}

// record is the journal's append.
func (a *agent) record(ctx context.Context, facts ...errand.Fact) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	a.records++
	ours := facts[0].Kind == errand.EventMachine // the conductor's, not Prepare's
	if a.onRecord != nil && !ours {
		if err := a.onRecord(a.records, false); err != nil {
			return err
		}
	}
	for _, f := range facts {
		data, err := json.Marshal(f.Data)
		if err != nil {
			return err
		}
		a.events = append(a.events, errand.Event{Seq: errand.Seq(len(a.events) + 1), Run: a.run, Time: time.Now(), Kind: f.Kind, Data: data})
	}
	if a.onRecord != nil && !ours {
		return a.onRecord(a.records, true)
	}
	return nil
}

// told counts what Prepare has recorded.
func (a *agent) told() int {
	n := 0
	for _, e := range a.events {
		if e.Kind != errand.EventMachine {
			n++
		}
	}
	return n
}

// nextRun begins another run of the same agent.
func (a *agent) nextRun() {
	a.run = errand.NewRunID()
}

// story gives the run's phases in a short form, without times and without what
// was printed, which output gives.
func (a *agent) story() []string {
	var told []string
	for _, e := range a.events {
		if e.Run != a.run {
			continue
		}
		switch d := decode(a.t, e).(type) {
		case *errand.PhaseStarted:
			told = append(told, string(d.Phase))
		case *errand.PhaseEnded:
			how := "done"
			switch {
			case d.Error != nil:
				how = d.Error.Code
			case d.Cached:
				how = "cached"
			}
			told = append(told, string(d.Phase)+" "+how)
		case *errand.Notice:
			told = append(told, d.Level)
		}
	}
	return told
}

// output gives what the run's install printed, as the journal has it: first all
// of stdout, then all of stderr, whose order among each other is nobody's.
func (a *agent) output() string {
	var text, errs strings.Builder
	for _, e := range a.events {
		if d, ok := decode(a.t, e).(*errand.PhaseOutput); ok && e.Run == a.run {
			map[bool]*strings.Builder{false: &text, true: &errs}[d.Stderr].WriteString(d.Text)
		}
	}
	return text.String() + errs.String()
}

func decode(t testing.TB, e errand.Event) any {
	t.Helper()
	data, ok := map[errand.EventKind]any{
		errand.EventPhaseStarted: &errand.PhaseStarted{}, errand.EventPhaseOutput: &errand.PhaseOutput{},
		errand.EventPhaseEnded: &errand.PhaseEnded{}, errand.EventNotice: &errand.Notice{}, errand.EventMachine: &errand.MachineData{},
	}[e.Kind]
	if !ok {
		t.Fatalf("event of kind %s", e.Kind)
	}
	if err := json.Unmarshal(e.Data, data); err != nil {
		t.Fatal(err)
	}
	return data
}

// in runs a command in a ready machine and gives its output.
func in(t testing.TB, r *environment.Ready, script string) string {
	t.Helper()
	var out strings.Builder
	exit, err := r.Line.Run(t.Context(), guest.Command{ID: "test." + rand.Text(), Args: []string{"sh", "-c", script}, Dir: environment.Root},
		func(o guest.Output) { out.Write(o.Data) })
	if err != nil {
		t.Fatal(err)
	}
	if exit.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s", script, exit.Code, out.String())
	}
	return strings.TrimSpace(out.String())
}

// engines are the engines that tests of whole flows use.
var engines = []string{oci.Runc, oci.GVisor}

// whole is the story of a first run that finds nothing kept.
var whole = []string{
	"image", "image done", "machine", "machine done", "install", "install done", "snapshot", "snapshot done",
	"checkout", "checkout done", "start", "start cached", "terminals", "terminals cached",
}

// inOrder gives a story with some phases' ends replaced.
func replaced(story []string, pairs ...string) []string {
	story = slices.Clone(story)
	for i := 0; i < len(pairs); i += 2 {
		story[slices.Index(story, pairs[i])] = pairs[i+1]
	}
	return story
}

// keyed stands for variables as a conductor's digests do.
func keyed(env []string) []environment.KeyPart {
	if len(env) == 0 {
		return nil
	}
	sum := sha256.Sum256([]byte(strings.Join(env, "\x00")))
	return []environment.KeyPart{{Name: environment.VariablesPart, Value: hex.EncodeToString(sum[:])}}
}
