package git

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/errand-dev/errand"
)

// TestMain keeps the settings of whoever runs the tests out of them.
func TestMain(m *testing.M) {
	os.Setenv("GIT_CONFIG_GLOBAL", "/dev/null")
	os.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	os.Unsetenv("GIT_SSH_COMMAND")
	runVictim()
	goleak.VerifyTestMain(m)
}

// author is the identity of every commit a test makes by itself.
var author = []string{
	"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com",
	"GIT_AUTHOR_DATE=2024-01-02T03:04:05Z", "GIT_COMMITTER_DATE=2024-01-02T03:04:05Z",
}

// git runs the real git in dir, as a person would, and fails the test when git
// does.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	out, err := tryGit(t, dir, author, args...)
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// tryGit gives what git printed on both streams.
func tryGit(t testing.TB, dir string, env []string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C", "GIT_TERMINAL_PROMPT=0"}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// newRemote makes a bare repository with branches main and other and the tag
// v1, and a clone of it in which a person works.
func newRemote(t testing.TB) (bare, clone string) {
	t.Helper()
	dir := t.TempDir()
	bare, clone = filepath.Join(dir, "remote.git"), filepath.Join(dir, "clone")
	git(t, dir, "init", "-q", "--bare", "-b", "main", bare)
	git(t, dir, "init", "-q", "-b", "main", clone)
	write(t, clone+"/README.md", "hello\n")
	write(t, clone+"/.gitignore", "node_modules/\n")
	write(t, clone+"/src/a.go", "package a\n")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "first")
	git(t, clone, "tag", "-a", "-m", "one", "v1")
	git(t, clone, "branch", "other")
	git(t, clone, "remote", "add", "origin", bare)
	git(t, clone, "push", "-q", "origin", "main", "other", "v1")
	return bare, clone
}

func newMirrors(t testing.TB, o Options) *Mirrors {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "git")
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func fetch(t testing.TB, m *Mirrors, url string) *Mirror {
	t.Helper()
	r, err := m.Fetch(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// machine is a directory in which a machine's part is played: its own /etc, its
// own home, the scripts run with the real sh.
type machine struct {
	t    testing.TB
	dir  string // the checkout
	etc  string
	home string

	path    string               // of programs; "" is the host's
	without string               // a program that is not there
	started func(program string) // is told of each program that a checkout runs; nil: nobody is
}

func newMachine(t testing.TB) *machine {
	root := t.TempDir()
	m := &machine{t: t, dir: root + "/workspace", etc: root + "/etc", home: root + "/home"}
	for _, d := range []string{m.etc, m.home} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) env() []string {
	return []string{"PATH=" + cmp.Or(m.path, os.Getenv("PATH")), "HOME=" + m.home, "GIT_CONFIG_SYSTEM=" + m.etc + "/gitconfig", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"}
}

func (m *machine) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = m.env()
	cmd.Dir = m.home
	if _, err := os.Stat(m.dir); err == nil {
		cmd.Dir = m.dir
	}
	return cmd
}

// git runs git in the checkout; out is both streams.
func (m *machine) git(args ...string) (out string, err error) {
	m.t.Helper()
	b, err := m.command("git", args...).CombinedOutput()
	return strings.TrimSpace(string(b)), err
}

func (m *machine) mustGit(args ...string) string {
	m.t.Helper()
	out, err := m.git(args...)
	if err != nil {
		m.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// sh runs a script and gives its standard output.
func (m *machine) sh(script string) (stdout, stderr string, err error) {
	m.t.Helper()
	cmd := m.command("sh", "-c", script)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func (m *machine) mustSh(script string) string {
	m.t.Helper()
	out, errs, err := m.sh(script)
	if err != nil {
		m.t.Fatalf("script: %v\n%s%s", err, out, errs)
	}
	return out
}

// checkout fills in where this machine is.
func (m *machine) checkout(r *Mirror, c Checkout) Checkout {
	c.URL, c.Mirror, c.Dir, c.etc = r.URL(), r.Dir(), m.dir, m.etc
	return c
}

// pushes collects what a broker recorded.
type pushes struct {
	mu  sync.Mutex
	all []errand.PushData
}

func (p *pushes) record(d errand.PushData) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, d)
}

func (p *pushes) take() []errand.PushData {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.all
	p.all = nil
	return all
}

// serveBroker serves one grant at a URL as a machine's git sees it.
func serveBroker(t testing.TB, m *Mirrors, g Grant) (url string, p *pushes) {
	t.Helper()
	if g.Agent == "" {
		g.Agent = errand.NewAgentID()
	}
	p = &pushes{}
	h, err := m.Broker(g, p.record)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/git/"+Name(g.URL)+"/", h)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL + "/git/" + Name(g.URL), p
}

// working gives a machine with a checkout of url on an own branch, whose origin
// is a broker.
func working(t testing.TB, m *Mirrors, g Grant) (*machine, *pushes) {
	t.Helper()
	r := fetch(t, m, g.URL)
	commit, base, err := r.Resolve(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	url, p := serveBroker(t, m, g)
	box := newMachine(t)
	if out := box.checkOut(r, box.checkout(r, Checkout{
		Commit: commit, Branch: g.Branch, BaseBranch: base, BrokerURL: url,
		Author: Person{"Errand", "errand@example.com"}, CoAuthor: Person{"Cara Caller", "cara@example.com"},
	})); out != "" {
		t.Errorf("checkout printed %q", out)
	}
	return box, p
}

func TestFromMirrorToRemote(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	const branch = "errand/fix-x-ab12"
	box, p := working(t, m, Grant{URL: bare, Branch: branch})

	if got := box.mustGit("status", "--porcelain", "--branch"); got != "## "+branch {
		t.Errorf("status %q", got)
	}
	write(t, box.dir+"/src/b.go", "package a\n")
	settled := ParseSettled(box.mustSh(SettleScript(Settle{Dir: box.dir, Branch: branch, Title: "Add b", CoAuthor: Person{"Cara Caller", "cara@example.com"}})))
	if settled.Commit == nil || settled.Commit.Files != 1 || settled.Commit.Title != "Add b" || settled.Branch != branch || settled.Head != settled.Commit.Commit {
		t.Fatalf("settled %+v", settled)
	}
	pushed := ParseSettled(box.mustSh(PushScript(box.dir, branch)))
	if pushed.Head != settled.Head {
		t.Errorf("pushed %q, want %q", pushed.Head, settled.Head)
	}
	if got := git(t, bare, "rev-parse", branch); got != settled.Head {
		t.Errorf("remote has %s, want %s", got, settled.Head)
	}
	if got, want := git(t, bare, "log", "-1", "--format=%an <%ae>%n%B", branch), "Errand <errand@example.com>\nAdd b\n\nCo-authored-by: Cara Caller <cara@example.com>"; got != want {
		t.Errorf("commit is\n%s\nwant\n%s", got, want)
	}
	all := p.take()
	if len(all) != 1 || all[0].Ref != "refs/heads/"+branch || all[0].New != settled.Head || all[0].Old != "" || all[0].Refused != "" || all[0].Repository != bare {
		t.Errorf("recorded %+v", all)
	}
	if got := box.mustGit("config", "remote.origin.url"); got != bare {
		t.Errorf("origin is %q", got)
	}
}
