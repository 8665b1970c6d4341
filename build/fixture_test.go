package build_test

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
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine/oci"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/snapshot"
	"github.com/errand-dev/errand/store"
)

// images is where all tests of the package keep the host's image, which takes
// seconds to make.
var images string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "build-images-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // root in a machine is nobody here, who must get through
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

var caller = errand.Caller{Key: "test", Name: "Ada Lovelace", Email: "ada@example.com"}

// yard is Builds with all that they stand on, on real machines, and a repository
// that can be changed.
type yard struct {
	t       *testing.T
	store   *store.Store
	driver  *oci.Driver
	builds  *build.Builds
	options build.Options
	tree    string // a checkout of the repository
	url     string
	stop    func()
}

// newYard makes a yard whose builds run. At the end of the test no machine may
// be left.
func newYard(t *testing.T, engine string, files map[string]string) *yard {
	t.Helper()
	guesttest.Root(t)
	if testing.Short() {
		t.Skip("needs machines")
	}
	dir, err := os.MkdirTemp("", "b-") // short: paths of sockets are below it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	y := &yard{t: t}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if y.store, err = store.Open(t.Context(), filepath.Join(dir, "errand.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.store.Close() })
	kept, err := image.Open(image.Options{Dir: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	o := oci.Options{Dir: filepath.Join(dir, "machines"), RunDir: filepath.Join(dir, "run"), Images: kept, Guest: guesttest.Program(t, "errand-guest"), DefaultEngine: engine, Log: log}
	if engine == oci.GVisor {
		o.Runsc = guesttest.Program(t, "runsc")
	} else if o.Runc, err = exec.LookPath("runc"); err != nil {
		guesttest.Lacking(t, "runc is not installed")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if y.driver, err = oci.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(y.clear)
	mirrors, err := git.New(git.Options{Dir: filepath.Join(dir, "git"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mirrors.Close() })
	redactor := &secret.Redactor{}
	y.options = build.Options{
		Store: y.store, Journal: journal.New(y.store, redactor), Redactor: redactor, Driver: y.driver, Images: kept, Mirrors: mirrors,
		Snapshots: snapshot.New(snapshot.Options{Driver: y.driver, Store: y.store, Log: log}),
		Gate:      egress.New(egress.Options{Log: log}), Installs: &environment.Builds{}, Log: log, Engine: engine,
	}
	y.tree, y.url = filepath.Join(dir, "tree"), filepath.Join(dir, "app.git")
	y.git("init", "-q", "-b", "main", y.tree)
	y.git("init", "-q", "--bare", "-b", "main", y.url)
	y.push(files)
	y.run()
	return y
}

// run starts Builds on what is there.
func (y *yard) run() {
	y.builds = build.New(y.options)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func(b *build.Builds) {
		defer close(ended)
		b.Run(ctx)
	}(y.builds)
	y.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}

func (y *yard) clear() {
	y.stop()
	held, err := y.driver.List(context.Background())
	if err != nil || len(held) > 0 {
		y.t.Errorf("the driver still holds %v, %v", held, err)
	}
	if err := y.driver.Close(); err != nil {
		y.t.Error(err)
	}
}

func (y *yard) git(args ...string) string {
	y.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ann", "-c", "user.email=ann@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		y.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// push commits files to the repository's default branch and gives the commit.
func (y *yard) push(files map[string]string) string {
	y.t.Helper()
	for name, content := range files {
		path := filepath.Join(y.tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o755)); err != nil {
			y.t.Fatal(err)
		}
	}
	y.git("-C", y.tree, "add", "-A")
	y.git("-C", y.tree, "commit", "-q", "--allow-empty", "-m", "change")
	y.git("-C", y.tree, "push", "-q", y.url, "main")
	return y.git("-C", y.tree, "rev-parse", "HEAD")
}

// create stores an environment for the repository and gives it with its first
// build.
func (y *yard) create(name, text string) (errand.Environment, errand.Build) {
	y.t.Helper()
	e, err := y.builds.Create(y.t.Context(), caller, build.NewEnvironment{Name: name, Repositories: []errand.Repository{{URL: y.url}}, JSON: text})
	if err != nil {
		y.t.Fatal(err)
	}
	return e, y.latest(e.ID)
}

func (y *yard) latest(id errand.EnvironmentID) errand.Build {
	y.t.Helper()
	all, _, _, err := y.builds.List(y.t.Context(), caller, id, 1, "")
	if err != nil || len(all) == 0 {
		y.t.Fatalf("no build: %v", err)
	}
	return all[0]
}

func (y *yard) ask(id errand.EnvironmentID, r build.Request) errand.Build {
	y.t.Helper()
	b, err := y.builds.Ask(y.t.Context(), caller, id, r)
	if err != nil {
		y.t.Fatal(err)
	}
	return b
}

// until follows a build's log to the first event that f takes.
func (y *yard) until(b errand.Build, what string, f func(errand.Event) bool) errand.Event {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), 2*time.Minute)
	defer cancel()
	for e, err := range y.builds.Follow(ctx, b, 0) {
		if err != nil {
			y.t.Fatal(err)
		}
		if f(e) {
			return e
		}
	}
	y.t.Fatalf("waited in vain for %s\n%s", what, y.story(b))
	panic("unreachable")
}

// ends wants a build to end in a status and gives its row.
func (y *yard) ends(b errand.Build, status errand.BuildStatus) errand.Build {
	y.t.Helper()
	y.until(b, "the build's end", func(e errand.Event) bool { return build.Ends(b, e) })
	row, err := y.store.Build(y.t.Context(), b.ID)
	if err != nil {
		y.t.Fatal(err)
	}
	if row.Status != status {
		y.t.Fatalf("the build is %s (%+v), want %s\n%s", row.Status, row.Failure, status, y.story(b))
	}
	return row
}

// active gives an environment's active build.
func (y *yard) active(id errand.EnvironmentID) errand.BuildID {
	y.t.Helper()
	e, err := y.store.Environment(y.t.Context(), id)
	if err != nil {
		y.t.Fatal(err)
	}
	return e.Active
}

func (y *yard) story(b errand.Build) string {
	var text strings.Builder
	for e, err := range y.builds.Events(y.t.Context(), b, 0) {
		if err != nil {
			return err.Error()
		}
		data := string(e.Data)
		fmt.Fprintf(&text, "%4d %-14s %s\n", e.Seq, e.Kind, data[:min(len(data), 300)])
	}
	return text.String()
}

// printed gives what a build's install printed.
func (y *yard) printed(b errand.Build) string {
	var text strings.Builder
	for e, err := range y.builds.Events(y.t.Context(), b, 0) {
		if err != nil {
			y.t.Fatal(err)
		}
		if e.Kind == errand.EventPhaseOutput {
			text.WriteString(read[errand.PhaseOutput](y.t, e).Text)
		}
	}
	return text.String()
}

func read[T any](t *testing.T, e errand.Event) (d T) {
	t.Helper()
	if err := json.Unmarshal(e.Data, &d); err != nil {
		t.Fatalf("event %d (%s): %v", e.Seq, e.Kind, err)
	}
	return d
}
