package setup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/setup"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

var caller = errand.Caller{Key: "test", Name: "Ada Lovelace", Email: "ada@example.com"}

// yard is Setups with what they stand on: always a real store, journal and git,
// and, where a test asks for them, machines.
type yard struct {
	t       *testing.T
	store   *store.Store
	journal *journal.Journal
	driver  *oci.Driver // nil without machines
	runner  *runner.Runner
	setups  *setup.Setups
	options runner.Options
	limits  setup.Options // what a test asks for beyond the parts
	stop    func()
}

// newYard makes a yard without machines. Nothing is worked on until run.
func newYard(t *testing.T) *yard {
	t.Helper()
	// Not t.TempDir: its name is long, and machines' sockets live below.
	dir, err := os.MkdirTemp("", "s-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // root in a machine is nobody here, who must get through
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	y := &yard{t: t, stop: func() {}}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if y.store, err = store.Open(t.Context(), filepath.Join(dir, "errand.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.store.Close() })
	redactor := &secret.Redactor{}
	y.journal = journal.New(y.store, redactor)
	mirrors, err := git.New(git.Options{Dir: filepath.Join(dir, "git"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mirrors.Close() })
	y.options = runner.Options{
		Dir: dir, Store: y.store, Journal: y.journal, Redactor: redactor, Vault: vault.Open(y.store, filepath.Join(dir, "kek"), "", nil),
		Mirrors: mirrors, Gate: egress.New(egress.Options{Log: log}), Log: log, Models: &runner.Models{Catalog: llm.NewCatalog()},
	}
	y.open()
	t.Cleanup(func() { y.stop() })
	return y
}

// withMachines makes a yard that has them, under runc, and works. At the end of
// the test every setup is deleted and no machine may be left.
func withMachines(t *testing.T, d runner.Defaults, limits setup.Options) *yard {
	t.Helper()
	guesttest.Root(t)
	if testing.Short() {
		t.Skip("needs machines")
	}
	y := newYard(t)
	images, err := image.Open(image.Options{Dir: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { images.Close() })
	runc, err := exec.LookPath("runc")
	if err != nil {
		guesttest.Lacking(t, "runc is not installed")
	}
	y.driver, err = oci.New(oci.Options{
		Dir: filepath.Join(y.options.Dir, "machines"), RunDir: filepath.Join(y.options.Dir, "run"), Images: images,
		Guest: guesttest.Program(t, "errand-guest"), Runc: runc, DefaultEngine: oci.Runc, Log: y.options.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	y.options.Driver, y.options.Images, y.options.Defaults, y.limits = y.driver, images, d, limits
	t.Cleanup(y.clear)
	y.open()
	y.run()
	return y
}

// images is where all tests of the package keep the host's image, which takes
// seconds to make.
var images string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "setup-images-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
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

// open gives the yard a new process' parts, on the rows that are there.
func (y *yard) open() {
	y.t.Helper()
	var err error
	if y.runner, err = runner.Open(y.options); err != nil {
		y.t.Fatal(err)
	}
	o := y.limits
	o.Store, o.Journal, o.Redactor, o.Runner, o.Mirrors, o.Log = y.store, y.journal, y.options.Redactor, y.runner, y.options.Mirrors, y.options.Log
	y.setups = setup.New(o)
}

// run starts what open gave: the setups, and the runner where there are machines.
func (y *yard) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	begin := func(run func(context.Context) error) {
		work.Go(func() {
			if err := run(ctx); err != nil {
				y.t.Error(err)
			}
		})
	}
	if y.driver != nil {
		begin(y.runner.Run)
	}
	begin(y.setups.Run)
	y.stop = sync.OnceFunc(func() {
		cancel()
		work.Wait()
	})
}

// restart ends the process and starts another on its rows.
func (y *yard) restart() {
	y.t.Helper()
	y.stop()
	y.open()
	y.run()
}

func (y *yard) clear() {
	ctx := context.Background()
	all, _, err := y.store.Setups(ctx, 100, "")
	if err != nil {
		y.t.Error(err)
	}
	for _, s := range all {
		if err := y.setups.Delete(ctx, caller, s.ID); err != nil {
			y.t.Errorf("deleting %s: %v", s.ID, err)
		}
	}
	agents, _, err := y.runner.Agents(ctx, caller, runner.AgentQuery{Limit: 100, IncludeArchived: true})
	if err != nil || len(agents) > 0 {
		y.t.Errorf("setups left the agents %v, %v", agents, err)
	}
	y.stop()
	held, err := y.driver.List(ctx)
	if err != nil || len(held) > 0 {
		y.t.Errorf("the driver still holds %v, %v", held, err)
	}
	if err := y.driver.Close(); err != nil {
		y.t.Error(err)
	}
}

// repository makes a bare remote with one commit of files.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	tree, bare := filepath.Join(dir, "tree"), filepath.Join(dir, "shop.git")
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

// node is a repository of which a draft is proposed whole.
var node = map[string]string{
	"package.json":      `{"name": "shop", "scripts": {"dev": "node server.js --port 4010", "test": "node test.js"}}` + "\n",
	"package-lock.json": `{"name": "shop", "lockfileVersion": 3, "packages": {}}` + "\n",
}

// row is a setup that stands as a test wants it, as an earlier process left it.
func (y *yard) row(s errand.Setup) errand.Setup {
	y.t.Helper()
	s.ID, s.Caller = errand.NewSetupID(), caller
	if s.Mode == "" {
		s.Mode = errand.SetupPropose
	}
	if err := y.store.Write(y.t.Context(), func(t *store.Tx) error { return t.InsertSetup(s) }); err != nil {
		y.t.Fatal(err)
	}
	return y.now(s.ID)
}

func (y *yard) now(id errand.SetupID) errand.Setup {
	y.t.Helper()
	s, err := y.store.Setup(y.t.Context(), id)
	if err != nil {
		y.t.Fatal(err)
	}
	return s
}

// create makes a setup.
func (y *yard) create(r setup.Request) errand.Setup {
	y.t.Helper()
	s, err := y.setups.Create(y.t.Context(), caller, r)
	if err != nil {
		y.t.Fatal(err)
	}
	return s
}

// waits follows a setup until it waits for people.
func (y *yard) waits(id errand.SetupID) errand.Setup {
	y.t.Helper()
	s := y.now(id)
	if !s.Status.Busy() {
		return s
	}
	y.until(id, "the setup waits for people", func(e errand.Event) bool {
		if e.Kind == errand.EventSetupChanged && !read[errand.SetupChanged](y.t, e).Status.Busy() {
			s = y.now(id)
		}
		return !s.Status.Busy()
	})
	return s
}

// until follows a setup's journal to the first event that f takes.
func (y *yard) until(id errand.SetupID, what string, f func(errand.Event) bool) {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), 2*time.Minute)
	defer cancel()
	for e, err := range y.setups.Follow(ctx, caller, id, 0) {
		if err != nil {
			y.t.Fatal(err)
		}
		if f(e) {
			return
		}
	}
	y.t.Fatalf("waited in vain until %s\n%s", what, y.story(id))
}

func (y *yard) events(id errand.SetupID) []errand.Event {
	y.t.Helper()
	all, err := y.journal.All(context.Background(), id)
	if err != nil {
		y.t.Fatal(err)
	}
	return all
}

// story is a setup's journal in short.
func (y *yard) story(id errand.SetupID) string {
	var b strings.Builder
	for _, e := range y.events(id) {
		text := string(e.Data)
		fmt.Fprintf(&b, "%4d %-14s %s\n", e.Seq, e.Kind, text[:min(len(text), 300)])
	}
	return b.String()
}

func read[T any](t *testing.T, e errand.Event) (d T) {
	t.Helper()
	if err := json.Unmarshal(e.Data, &d); err != nil {
		t.Fatalf("event %d (%s): %v", e.Seq, e.Kind, err)
	}
	return d
}
