package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/guest/guesttest"
)

// history makes a bare repository by fast-import: so many commits, each of
// which changes one of files.
func history(t testing.TB, commits, files int) string {
	t.Helper()
	bare := filepath.Join(t.TempDir(), "history.git")
	git(t, "/", "init", "-q", "--bare", "-b", "main", bare)
	var in bytes.Buffer
	for i := range commits {
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter A <a@example.com> %d +0000\ndata 1\nx\n", 1700000000+i)
		if i == 0 {
			for f := range files {
				fmt.Fprintf(&in, "M 100644 inline d%d/f%d\ndata <<E\nfile %d\nE\n", f%50, f, f)
			}
		}
		fmt.Fprintf(&in, "M 100644 inline d%d/f%d\ndata <<E\ncommit %d\nE\n", i%files%50, i%files, i)
	}
	cmd := exec.Command("git", "-C", bare, "fast-import", "--quiet")
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("fast-import: %v\n%s", err, out)
	}
	return bare
}

func resolve(t testing.TB, r *Mirror, ref string) string {
	t.Helper()
	id, _, err := r.Resolve(context.Background(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// mustStand says that the tree is at commit on branch ("" for none), clean but
// for what status lists, and whole.
func (m *machine) mustStand(branch, commit, status string) {
	m.t.Helper()
	if got := m.mustGit("rev-parse", "HEAD"); got != commit {
		m.t.Errorf("HEAD is %s, want %s", got, commit)
	}
	if got, _ := m.git("symbolic-ref", "-q", "--short", "HEAD"); got != branch {
		m.t.Errorf("on branch %q, want %q", got, branch)
	}
	if got := m.mustGit("status", "--porcelain"); got != status {
		m.t.Errorf("status\n%s\nwant\n%s", got, status)
	}
	m.mustGit("fsck", "--connectivity-only")
}

func TestCheckoutHasWhatACloneHas(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	git(t, clone, "tag", "light")
	git(t, clone, "push", "-q", "origin", "light")
	m := newMirrors(t, Options{})
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch})
	plain := filepath.Join(t.TempDir(), "plain")
	git(t, "/", "clone", "-q", bare, plain)
	mine := strings.ReplaceAll(box.mustGit("for-each-ref", "--format=%(refname) %(objectname) %(symref)"), "refs/heads/"+ownBranch+" "+resolve(t, fetch(t, m, bare), "main")+" \n", "")
	if diff := cmp.Diff(git(t, plain, "for-each-ref", "--format=%(refname) %(objectname) %(symref)"), mine); diff != "" {
		t.Errorf("refs (-clone +checkout)\n%s", diff)
	}
	for _, args := range [][]string{{"describe", "--tags", "--always"}, {"log", "--format=%H %D", "origin/main"}, {"ls-files", "-s"}, {"config", "remote.origin.url"}, {"config", "remote.origin.fetch"}, {"config", "branch.main.merge"}} {
		if args[0] == "log" {
			args[1] = "--format=%H"
		}
		if diff := cmp.Diff(git(t, plain, args...), box.mustGit(args...)); diff != "" {
			t.Errorf("git %v (-clone +checkout)\n%s", args, diff)
		}
	}
	if out := box.mustGit("push", "--dry-run"); !strings.Contains(out, ownBranch) {
		t.Errorf("a plain push goes to %s", out)
	}
}

func TestCheckoutAgainChangesNothing(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	box := newMachine(t)
	c := box.checkout(r, Checkout{Commit: resolve(t, r, ""), Branch: ownBranch, BaseBranch: "main", CoAuthor: Person{"Cara", "c@example.com"}, BrokerURL: "http://127.0.0.1:9/git/x"})
	box.checkOut(r, c)
	id := box.commit("mine.txt", "mine")
	write(t, box.dir+"/README.md", "dirty\n")
	write(t, box.dir+"/untracked", "u\n")
	write(t, box.dir+"/node_modules/x", "n\n")
	write(t, clone+"/later", "l")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "later")
	git(t, clone, "push", "-q", "origin", "main")
	c.Commit = resolve(t, fetch(t, m, bare), "")
	c.BrokerURL = "http://127.0.0.1:10/git/x"
	for range 2 {
		if out := box.checkOut(r, c); out != "" {
			t.Errorf("printed %q", out)
		}
		box.mustStand(ownBranch, id, "M README.md\n?? untracked")
	}
	if got := box.mustGit("remote", "get-url", "origin"); got != c.BrokerURL {
		t.Errorf("git goes to %q, want the new broker %q", got, c.BrokerURL)
	}
	// The agent stands elsewhere on purpose: it stays there.
	box.mustGit("stash", "-u", "-q")
	box.mustGit("checkout", "-q", "--detach", "HEAD~1")
	box.checkOut(r, c)
	box.mustStand("", box.mustGit("rev-parse", "HEAD"), "")
}

// A build's disk stands at an older commit, with what install left there; the
// next agent's checkout goes on from it.
func TestCheckoutOnABuildsDisk(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		dirty     map[string]string // by install, in tracked and other files
		later     map[string]string // by the commit after the build; nil: none
		pack      bool              // install ran git pack-refs
		moveMain  bool              // install left a commit of its own on main
		status    string
		printed   string
		readme    string
		setAside  bool
		wantFetch bool
	}{
		{name: "same commit", readme: "hello\n"},
		{name: "same commit, changed file", dirty: map[string]string{"README.md": "by install\n"}, status: "M README.md", readme: "by install\n"},
		{name: "later commit", later: map[string]string{"README.md": "later\n"}, readme: "later\n"},
		{name: "later commit, other file changed", dirty: map[string]string{"src/a.go": "by install\n"}, later: map[string]string{"README.md": "later\n"}, status: "M src/a.go", readme: "later\n"},
		{name: "later commit, same file changed", dirty: map[string]string{"README.md": "by install\n"}, later: map[string]string{"README.md": "later\n"}, readme: "later\n", setAside: true, printed: "refs/errand/set-aside"},
		{name: "later commit brings an untracked file", dirty: map[string]string{"dist": "by install\n"}, later: map[string]string{"dist": "later\n"}, readme: "hello\n"},
		{name: "refs packed by install", pack: true, later: map[string]string{"README.md": "later\n"}, readme: "later\n"},
		{name: "main moved by install", moveMain: true, later: map[string]string{"README.md": "later\n"}, readme: "later\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bare, clone := newRemote(t)
			m := newMirrors(t, Options{})
			r := fetch(t, m, bare)
			box := newMachine(t)
			build := box.checkout(r, Checkout{Commit: resolve(t, r, "")})
			box.checkOut(r, build)
			box.mustStand("", build.Commit, "")
			for path, content := range tt.dirty {
				write(t, box.dir+"/"+path, content)
			}
			write(t, box.dir+"/node_modules/x/y", "n\n")
			if tt.moveMain {
				box.mustGit("update-ref", "refs/heads/main", box.mustGit("commit-tree", "-m", "own", "-p", "HEAD", "HEAD^{tree}"))
			}
			if tt.pack {
				box.mustGit("pack-refs", "--all")
			}
			for path, content := range tt.later {
				write(t, clone+"/"+path, content)
				git(t, clone, "add", "-f", ".")
			}
			if tt.later != nil {
				git(t, clone, "commit", "-q", "-m", "later")
				git(t, clone, "push", "-q", "origin", "main", "main:fresh")
				fetch(t, m, bare)
			}
			c := build
			c.Commit, c.Branch, c.BaseBranch = resolve(t, r, ""), ownBranch, "main"
			printed := box.checkOut(r, c)
			if tt.printed == "" && printed != "" || !strings.Contains(printed, tt.printed) {
				t.Errorf("printed %q", printed)
			}
			box.mustStand(ownBranch, c.Commit, tt.status)
			if got := read(t, box.dir+"/README.md"); got != tt.readme {
				t.Errorf("README.md is %q, want %q", got, tt.readme)
			}
			read(t, box.dir+"/node_modules/x/y")
			if got := box.mustGit("rev-parse", "origin/main"); got != c.Commit {
				t.Errorf("origin/main is %s, want %s", got, c.Commit)
			}
			if got := box.mustGit("config", "branch.main.merge"); got != "refs/heads/main" {
				t.Errorf("main follows %q", got)
			}
			if tt.later != nil {
				box.mustGit("rev-parse", "--verify", "origin/fresh")
			}
			if got := box.mustGit("rev-parse", "main"); (got == c.Commit) == tt.moveMain {
				t.Errorf("main is %s, base is %s", got, c.Commit)
			}
			if _, err := box.git("rev-parse", "--verify", "refs/errand/set-aside"); (err == nil) != tt.setAside {
				t.Errorf("set aside: %v", err)
			}
		})
	}
}

func TestCheckoutKilledAnywhere(t *testing.T) {
	t.Parallel()
	bare := history(t, 200, 200)
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	old, tip := resolve(t, r, git(t, bare, "rev-parse", "main~100")), resolve(t, r, "")
	rounds := 6
	if testing.Short() {
		rounds = 3
	}
	for _, start := range []string{"empty", "files", "build", "dirty build"} {
		t.Run(start, func(t *testing.T) {
			prepare := func() (*machine, Checkout, string) {
				box := newMachine(t)
				status := ""
				c := box.checkout(r, Checkout{Commit: old, BaseBranch: "main", CoAuthor: Person{"C", "c@example.com"}})
				switch start {
				case "files":
					write(t, box.dir+"/d1/f1", "in the way\n")
				case "build", "dirty build":
					box.checkOut(r, c)
					if start == "dirty build" {
						write(t, box.dir+"/d49/f199", "by install\n")
						status = "M d49/f199"
					}
				}
				c.Commit, c.Branch = tip, ownBranch
				return box, c, status
			}
			box, c, _ := prepare()
			began := time.Now()
			box.checkOut(r, c)
			whole := time.Since(began)
			for range rounds {
				box, c, status := prepare()
				for range 1 + rand.IntN(3) {
					ctx, kill := context.WithTimeout(t.Context(), rand.N(whole))
					_, err := r.Checkout(ctx, c, box)
					kill()
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
				}
				box.checkOut(r, c)
				if _, err := box.git("rev-parse", "--verify", "refs/errand/set-aside"); err == nil {
					status = "" // half of the new tree was there and counted as changed
				}
				box.mustStand(ownBranch, tip, status)
				if got := box.mustGit("rev-parse", "main", "origin/main"); got != tip+"\n"+tip {
					t.Errorf("main and origin/main are %s, want %s", got, tip)
				}
				id := box.commit("after", "x")
				if got := box.mustGit("log", "-1", "--format=%(trailers)", id); got != "Co-authored-by: C <c@example.com>" {
					t.Errorf("trailers %q", got)
				}
				if err := os.RemoveAll(filepath.Dir(box.dir)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// What was at the checkout's place before is taken over or kept.
func TestCheckoutOnSomebodysRepository(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	tip := resolve(t, r, "")
	t.Run("a clone with work in it", func(t *testing.T) {
		box := newMachine(t)
		git(t, "/", "clone", "-q", bare, box.dir)
		git(t, box.dir, "checkout", "-q", "-b", "own")
		write(t, box.dir+"/own", "own\n")
		git(t, box.dir, "add", ".")
		git(t, box.dir, "commit", "-q", "-m", "own")
		own := git(t, box.dir, "rev-parse", "HEAD")
		write(t, box.dir+"/.git/hooks/prepare-commit-msg", "#!/bin/sh\necho by their hook >>\"$1\"\n")
		if err := os.Chmod(box.dir+"/.git/hooks/prepare-commit-msg", 0o755); err != nil {
			t.Fatal(err)
		}
		c := box.checkout(r, Checkout{Commit: tip, Branch: ownBranch, BaseBranch: "main", CoAuthor: Person{"C", "c@example.com"}, BrokerURL: "http://127.0.0.1:9/x"})
		box.checkOut(r, c)
		box.mustStand(ownBranch, tip, "")
		if got := box.mustGit("rev-parse", "own"); got != own {
			t.Errorf("own branch is %s, want %s", got, own)
		}
		box.commit("x", "x")
		if got := box.mustGit("log", "-1", "--format=%B"); !strings.Contains(got, "by their hook") || strings.Count(got, "Co-authored-by") != 1 {
			t.Errorf("message %q", got)
		}
		if got := box.mustGit("config", "--local", "--get-all", "include.path"); got != "errand/config" {
			t.Errorf("includes %q", got)
		}
	})
	t.Run("current branch, behind", func(t *testing.T) {
		box := newMachine(t)
		git(t, "/", "clone", "-q", bare, box.dir)
		write(t, clone+"/ahead", "x")
		git(t, clone, "add", ".")
		git(t, clone, "commit", "-q", "-m", "ahead")
		git(t, clone, "push", "-q", "origin", "main")
		c := box.checkout(fetch(t, m, bare), Checkout{Commit: resolve(t, r, ""), Branch: "main", BaseBranch: "main"})
		box.checkOut(r, c)
		box.mustStand("main", c.Commit, "")
	})
	for name, make := range map[string]func(dir string){
		"a file":          func(dir string) { write(t, dir+"/.git", "gitdir: /nowhere\n") },
		"a dangling link": func(dir string) { _ = os.MkdirAll(dir, 0o755); _ = os.Symlink("/nowhere", dir+"/.git") },
		"rubbish":         func(dir string) { write(t, dir+"/.git/HEAD", "rubbish") },
		"an empty dir":    func(dir string) { _ = os.MkdirAll(dir+"/.git", 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			box := newMachine(t)
			make(box.dir)
			c := box.checkout(r, Checkout{Commit: tip, Branch: ownBranch})
			box.checkOut(r, c)
			box.mustGit("config", "core.excludesFile", "/dev/null")
			if got, _ := box.git("symbolic-ref", "--short", "HEAD"); got != ownBranch {
				t.Errorf("on %q", got)
			}
			if got := box.mustGit("status", "--porcelain"); got != "" {
				t.Errorf("a commit of everything would hold\n%s", got)
			}
		})
	}
}

// What another repository left at the checkout's place is no part of this one:
// it is kept beside, and what is committed here is this repository's alone.
func TestCheckoutOnAnotherRepository(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	otherBare := history(t, 3, 3)
	r := fetch(t, newMirrors(t, Options{}), bare)
	tip := resolve(t, r, "")
	// disk is a build's of the other repository, whose mirror is not in reach any
	// more: it is another machine's.
	disk := func(branch string) func(t *testing.T, box *machine) {
		return func(t *testing.T, box *machine) {
			theirs := Options{Dir: filepath.Join(t.TempDir(), "git")}
			other := fetch(t, newMirrors(t, theirs), otherBare)
			box.checkOut(other, box.checkout(other, Checkout{Commit: resolve(t, other, ""), Branch: branch, BaseBranch: "main"}))
			if err := os.RemoveAll(theirs.Dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, before := range map[string]func(t *testing.T, box *machine){
		"a build's disk":          disk(""),
		"an agent's disk":         disk("errand/theirs"),
		"of a branch of our name": disk(ownBranch),
		"a clone":                 func(t *testing.T, box *machine) { git(t, "/", "clone", "-q", otherBare, box.dir) },
	} {
		for _, branch := range []string{"", ownBranch} {
			t.Run(name+" for branch "+branch, func(t *testing.T) {
				box := newMachine(t)
				before(t, box)
				write(t, box.dir+"/node_modules/x", "n\n")
				write(t, box.dir+"/README.md", "changed\n")
				c := box.checkout(r, Checkout{Commit: tip, Branch: branch, BaseBranch: "main"})
				kept := box.dir + "-before-errand"
				if out := box.checkOut(r, c); !strings.Contains(out, kept) {
					t.Errorf("printed %q", out)
				}
				if out := box.checkOut(r, c); out != "" {
					t.Errorf("the second time it printed %q", out)
				}
				box.mustStand(branch, tip, "")
				for path, want := range map[string]string{"d0/f0": "commit 0\n", "node_modules/x": "n\n", "README.md": "changed\n"} {
					if got := read(t, kept+"/"+path); got != want {
						t.Errorf("%s was kept as %q, want %q", path, got, want)
					}
				}
				box.commit("mine", "mine")
				if got := box.mustGit("ls-files"); strings.Contains(got, "d0/f0") || !strings.Contains(got, "mine") {
					t.Errorf("committed are\n%s", got)
				}
				box.mustGit("fsck", "--connectivity-only")
				if got := box.mustGit("for-each-ref", "--format=%(refname)", "refs/heads"); strings.Contains(got, "theirs") {
					t.Errorf("branches\n%s", got)
				}
			})
		}
	}
	t.Run("twice", func(t *testing.T) {
		box := newMachine(t)
		write(t, box.dir+"-before-errand/here", "earlier\n")
		disk("")(t, box)
		box.checkOut(r, box.checkout(r, Checkout{Commit: tip, Branch: ownBranch}))
		box.mustStand(ownBranch, tip, "")
		read(t, box.dir+"-before-errand/here")
		read(t, box.dir+"-before-errand-2/d0/f0")
	})
}

// A repository under another address is still the same one where its history
// says so: what was installed there stays.
func TestCheckoutOnTheSameRepositoryOfAnotherAddress(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	moved := filepath.Join(t.TempDir(), "moved.git")
	git(t, "/", "clone", "-q", "--bare", bare, moved)
	first := git(t, clone, "rev-parse", "HEAD")
	write(t, clone+"/later", "x")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "later")
	git(t, clone, "push", "-q", "origin", "main")
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	tip := resolve(t, r, "")
	for name, make := range map[string]func(box *machine){
		"an older clone": func(box *machine) { git(t, "/", "clone", "-q", moved, box.dir) },
		"a shallow one":  func(box *machine) { git(t, "/", "clone", "-q", "--depth=1", "file://"+moved, box.dir) },
		"one with work in it": func(box *machine) {
			git(t, "/", "clone", "-q", moved, box.dir)
			git(t, box.dir, "commit", "-q", "--allow-empty", "-m", "own")
		},
		"a build's disk": func(box *machine) {
			dir := filepath.Join(t.TempDir(), "git")
			other := fetch(t, newMirrors(t, Options{Dir: dir}), moved)
			box.checkOut(other, box.checkout(other, Checkout{Commit: first}))
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			box := newMachine(t)
			make(box)
			write(t, box.dir+"/node_modules/x", "n\n")
			if out := box.checkOut(r, box.checkout(r, Checkout{Commit: tip, Branch: ownBranch})); out != "" {
				t.Errorf("printed %q", out)
			}
			box.mustStand(ownBranch, tip, "")
			read(t, box.dir+"/node_modules/x")
			box.commit("mine", "mine")
			if got := box.mustGit("config", "remote.origin.url"); got != bare {
				t.Errorf("origin is %s", got)
			}
		})
	}
}

// The cost of a checkout is that of its files, not of its history.
func TestCheckoutCostIsNotInTheHistory(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 20,000 commits")
	}
	m := newMirrors(t, Options{})
	cost := func(commits int) time.Duration {
		r := fetch(t, m, history(t, commits, 100))
		best := time.Hour
		for range 5 {
			box := newMachine(t)
			c := box.checkout(r, Checkout{Commit: resolve(t, r, ""), Branch: ownBranch, BaseBranch: "main"})
			began := childrenTime(t)
			box.checkOut(r, c)
			best = min(best, childrenTime(t)-began)
			if got := box.mustGit("rev-list", "--count", "HEAD"); got != fmt.Sprint(commits) {
				t.Errorf("%s commits", got)
			}
		}
		return best
	}
	short, long := cost(20), cost(20_000)
	t.Logf("20 commits %v, 20,000 commits %v", short, long)
	if long > 2*short+50*time.Millisecond {
		t.Errorf("a checkout of 20,000 commits took %v, of 20 commits %v", long, short)
	}
}

// childrenTime is the processor time of the programs that have ended: what other
// tests do beside this one does not count.
func childrenTime(t *testing.T) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func TestCheckoutForAUser(t *testing.T) {
	t.Parallel()
	guesttest.Root(t)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		guesttest.Lacking(t, "this test needs the user nobody: %v", err)
	}
	for _, name := range []string{"nobody", nobody.Uid, nobody.Uid + ":" + nobody.Gid} {
		t.Run(name, func(t *testing.T) {
			bare, _ := newRemote(t)
			m := newMirrors(t, Options{})
			r := fetch(t, m, bare)
			box := newMachine(t)
			// t.TempDir is closed to others.
			for d := filepath.Dir(box.dir); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
				_ = os.Chmod(d, 0o755)
			}
			for d := r.Dir(); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
				_ = os.Chmod(d, 0o755)
			}
			c := box.checkout(r, Checkout{Commit: resolve(t, r, ""), Branch: ownBranch, User: name})
			box.checkOut(r, c)
			box.checkOut(r, c)
			for _, f := range []string{"", "/.git/HEAD", "/src/a.go"} {
				info, err := os.Stat(box.dir + f)
				if err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid); got != nobody.Uid {
					t.Errorf("%s belongs to %s", f, got)
				}
			}
			box.mustStand(ownBranch, c.Commit, "") // also as root: safe.directory
		})
	}
}

// Names that a shell or git would take for something else stay names.
func TestCheckoutOfOddNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bare := filepath.Join(dir, `it's "odd" $(touch pwned) ü.git`)
	git(t, dir, "init", "-q", "--bare", "-b", "größe/日本", bare)
	clone := filepath.Join(dir, "clone")
	git(t, dir, "clone", "-q", bare, clone)
	for _, f := range []string{"Case", "case", "with space", "-dash", "ü", `back\slash`, "new\nline", "quote'\"", "deep/er/file", "*"} {
		write(t, filepath.Join(clone, f), f)
	}
	if err := os.Symlink("/etc/passwd", clone+"/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", clone+"/dangling"); err != nil {
		t.Fatal(err)
	}
	write(t, clone+"/.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
	write(t, clone+"/a.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("a", 64)+"\nsize 12345\n")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "odd")
	library, _ := newRemote(t)
	git(t, clone, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "sub")
	git(t, clone, "commit", "-q", "-m", "sub")
	git(t, clone, "push", "-q", "origin", "HEAD")
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	commit, branch, err := r.Resolve(context.Background(), "")
	if err != nil || branch != "größe/日本" {
		t.Fatalf("%q, %v", branch, err)
	}
	box := newMachine(t)
	// git-lfs is there and would ask the remote for the content.
	write(t, box.etc+"/gitconfig", "[filter \"lfs\"]\n\tsmudge = test -n \"$GIT_LFS_SKIP_SMUDGE\" && cat\n\tclean = cat\n\trequired = true\n")
	c := box.checkout(r, Checkout{Commit: commit, Branch: "errand/ü'x", BaseBranch: branch,
		Author: Person{"Zoë \"Z\" $(x)\nO'Hara", "z@example.com"}, CoAuthor: Person{"Bob <b> \n'B'", "b@example.com"}})
	if out := box.checkOut(r, c); out != "" {
		t.Errorf("printed %q", out)
	}
	box.mustStand("errand/ü'x", commit, "")
	write(t, box.dir+"/new", "x")
	box.mustGit("add", "new")
	box.mustGit("commit", "-q", "-m", "new")
	if got, want := box.mustGit("log", "-1", "--format=%an%n%(trailers)"), "Zoë \"Z\" $(x) O'Hara\nCo-authored-by: Bob b 'B <b@example.com>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, d := range []string{box.dir, box.home, dir} {
		if _, err := os.Stat(d + "/pwned"); err == nil {
			t.Error("a name was run as a command")
		}
	}
}

func TestCheckoutWithoutWhatItNeeds(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	box := newMachine(t)
	c := box.checkout(r, Checkout{Commit: resolve(t, r, ""), Branch: ownBranch})
	c.Mirror = "/nowhere"
	if _, err := r.Checkout(t.Context(), c, box); err == nil || !strings.Contains(err.Error(), "is not in the machine at /nowhere") {
		t.Errorf("without the mirror: %v", err)
	}
	c.Mirror, c.Commit = r.Dir(), strings.Repeat("1", 40)
	failed := new(CheckoutError)
	if _, err := r.Checkout(t.Context(), c, box); !errors.As(err, &failed) || failed.Output == "" {
		t.Errorf("of a commit that is not there: %v", err)
	}
	c.Commit = resolve(t, r, "")
	box = newMachine(t)
	c = box.checkout(r, c)
	box.without = "git"
	if _, err := r.Checkout(t.Context(), c, box); !errors.As(err, &failed) || failed.Code != 127 {
		t.Errorf("without git: %v", err)
	}
	box.without = ""
	box.checkOut(r, c)
	box.mustStand(ownBranch, c.Commit, "")
}

// Each program costs 8 to 20 ms under gVisor: these are all.
func TestCheckoutStartsFewPrograms(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	box := newMachine(t)
	shims, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	for _, name := range []string{"cat", "chmod", "chown", "cp", "git", "ln", "mkdir", "mv", "rm", "sed", "sh", "su", "touch"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(shims, name), fmt.Sprintf("#!/bin/sh\necho %s >>%s\nexec %s \"$@\"\n", name, log, path))
		if err := os.Chmod(filepath.Join(shims, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := box.checkout(r, Checkout{Commit: resolve(t, r, ""), BaseBranch: "main", CoAuthor: Person{"C", "c@example.com"}})
	started := func(c Checkout) []string {
		write(t, log, "")
		box.path = shims + ":" + os.Getenv("PATH")
		box.started = func(program string) {
			if path.IsAbs(program) { // is not found in box.path
				write(t, log, read(t, log)+path.Base(program)+"\n")
			}
		}
		box.checkOut(r, c)
		names := strings.Fields(read(t, log))
		slices.Sort(names)
		return names
	}
	if diff := cmp.Diff([]string{"git"}, started(c)); diff != "" {
		t.Errorf("in a fresh machine (-want +got):\n%s", diff)
	}
	c.Branch = "fix"
	if diff := cmp.Diff([]string{"git", "sh"}, started(c)); diff != "" {
		t.Errorf("a branch on a build's disk (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"sh"}, started(c)); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}
	box.mustStand("fix", c.Commit, "")
	// More than a shell should read.
	for i := range 40 {
		git(t, clone, "branch", fmt.Sprintf("feature/%d", i))
	}
	git(t, clone, "push", "-q", "--all", "origin")
	r = fetch(t, m, bare)
	box = newMachine(t)
	c = box.checkout(r, Checkout{Commit: c.Commit, BaseBranch: "main", Branch: "fix"})
	if diff := cmp.Diff([]string{"git"}, started(c)); diff != "" {
		t.Errorf("with many branches (-want +got):\n%s", diff)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	git(t, "/", "clone", "-q", bare, plain)
	const format = "--format=%(refname) %(objectname) %(*objectname)"
	if diff := cmp.Diff(git(t, plain, "for-each-ref", format, "refs/remotes", "refs/tags"), box.mustGit("for-each-ref", format, "refs/remotes", "refs/tags")); diff != "" {
		t.Errorf("many refs (-clone +checkout)\n%s", diff)
	}
}
