package git

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
)

func TestFetchFollowsTheRemote(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	ctx := context.Background()
	if _, err := m.Open(ctx, bare); errand.KindOf(err) != errand.NotFound {
		t.Errorf("Open before Fetch: %v", err)
	}
	refs := func(r *Mirror) string { return git(t, r.Dir(), "for-each-ref", "--format=%(objectname) %(refname)") }
	same := func() {
		t.Helper()
		r := fetch(t, m, bare)
		if diff := cmp.Diff(git(t, bare, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags"), refs(r)); diff != "" {
			t.Errorf("refs (-remote +mirror)\n%s", diff)
		}
		if loose, _ := filepath.Glob(r.Dir() + "/refs/heads/*"); len(loose) > 0 {
			t.Errorf("refs outside of packed-refs: %v", loose)
		}
	}
	same()
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "more")
	git(t, clone, "push", "-q", "origin", "main", "main:refs/pull/1/head")
	same()
	git(t, clone, "commit", "-q", "--amend", "--allow-empty", "-m", "rewritten")
	git(t, clone, "tag", "-f", "v1")
	git(t, clone, "push", "-q", "-f", "origin", "main", "v1")
	same()
	git(t, clone, "push", "-q", "origin", ":other", "main:other/below") // a file becomes a directory
	same()
	git(t, bare, "symbolic-ref", "HEAD", "refs/heads/other/below")
	if got, err := fetch(t, m, bare).DefaultBranch(ctx); got != "other/below" || err != nil {
		t.Errorf("default branch %q, %v", got, err)
	}
	if _, err := m.Open(ctx, bare); err != nil {
		t.Error(err)
	}
	other := newMirrors(t, Options{Dir: m.options.Dir})
	if _, err := other.Open(ctx, bare); err != nil {
		t.Errorf("a later process: %v", err)
	}
}

// When nothing is new there is one exchange, the listing of refs.
func TestFetchOfNothingNew(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	web := newHTTPRemote(t, filepath.Dir(bare))
	var requests atomic.Int32
	web.before(func(http.ResponseWriter, *http.Request) bool { requests.Add(1); return true })
	m := newMirrors(t, Options{})
	fetch(t, m, web.url("remote.git"))
	requests.Store(0)
	fetch(t, m, web.url("remote.git"))
	if n := requests.Load(); n != 2 { // capabilities, refs
		t.Errorf("%d requests for nothing new", n)
	}
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "more")
	git(t, clone, "push", "-q", "origin", "main")
	r := fetch(t, m, web.url("remote.git"))
	if got, want := resolve(t, r, ""), git(t, bare, "rev-parse", "main"); got != want {
		t.Errorf("at %s, want %s", got, want)
	}
}

// Many callers share the work, and each sees what was there when it asked.
func TestFetchAtOnce(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	var wg sync.WaitGroup
	var push sync.Mutex
	for i := range 20 {
		wg.Go(func() {
			push.Lock()
			git(t, clone, "commit", "-q", "--allow-empty", "-m", fmt.Sprint(i))
			want := git(t, clone, "rev-parse", "HEAD")
			git(t, clone, "push", "-q", "origin", "main")
			push.Unlock()
			r, err := m.Fetch(context.Background(), bare)
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, err := r.Resolve(context.Background(), want); err != nil {
				t.Errorf("what was pushed before is missing: %v", err)
			}
		})
	}
	wg.Wait()
}

func TestFetchEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	web := newHTTPRemote(t, filepath.Dir(bare))
	release := make(chan struct{})
	asked := make(chan struct{}, 10)
	web.before(func(http.ResponseWriter, *http.Request) bool { asked <- struct{}{}; <-release; return true })
	m := newMirrors(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	if _, err := m.Fetch(ctx, web.url("remote.git")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	fetch(t, m, web.url("remote.git"))
}

func TestFetchTakesTooLong(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	web := newHTTPRemote(t, filepath.Dir(bare))
	release := make(chan struct{})
	web.before(func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return false
	})
	defer close(release)
	m := newMirrors(t, Options{Timeout: 300 * time.Millisecond})
	_, err := m.Fetch(context.Background(), web.url("remote.git"))
	if e := errand.AsError(err); e == nil || e.Kind != errand.Unavailable || !strings.Contains(e.Message, "took longer than allowed") {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsUpdates(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	web := newHTTPRemote(t, filepath.Dir(bare))
	asked := make(chan struct{}, 10)
	web.before(func(_ http.ResponseWriter, r *http.Request) bool {
		asked <- struct{}{}
		<-r.Context().Done()
		return false
	})
	m := newMirrors(t, Options{})
	done := make(chan error, 1)
	go func() {
		_, err := m.Fetch(context.Background(), web.url("remote.git"))
		done <- err
	}()
	<-asked
	_ = m.Close()
	if err := <-done; errand.KindOf(err) != errand.Unavailable {
		t.Errorf("got %v", err)
	}
	if _, err := m.Fetch(context.Background(), bare); errand.KindOf(err) != errand.Unavailable {
		t.Errorf("after Close: %v", err)
	}
}

// What a git that was killed leaves does not stop the next one.
func TestFetchAfterAKill(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	dir := filepath.Join(t.TempDir(), "git")
	m := newMirrors(t, Options{Dir: dir})
	r := fetch(t, m, bare)
	for _, f := range []string{"packed-refs.lock", "HEAD.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_x", "objects/info/commit-graphs/commit-graph-chain.lock"} {
		write(t, filepath.Join(r.Dir(), f), "")
	}
	write(t, dir+"/mirrors/new-123/HEAD", "half")
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "more")
	git(t, clone, "push", "-q", "origin", "main")
	m = newMirrors(t, Options{Dir: dir})
	if got, want := resolve(t, fetch(t, m, bare), ""), git(t, bare, "rev-parse", "main"); got != want {
		t.Errorf("at %s, want %s", got, want)
	}
	if _, err := os.Stat(dir + "/mirrors/new-123"); err == nil {
		t.Error("half a mirror was left")
	}
}

func TestManyRefs(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	id := git(t, bare, "rev-parse", "main")
	packed := fmt.Sprintf("# pack-refs with: peeled fully-peeled \n%s refs/heads/main\n", id)
	for i := range 10_000 {
		packed += fmt.Sprintf("%s refs/heads/team-%d/branch-%d\n", id, i%7, i)
	}
	write(t, bare+"/packed-refs", packed)
	m := newMirrors(t, Options{})
	began := time.Now()
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch})
	t.Logf("mirror and checkout of 10,000 branches: %v", time.Since(began))
	if got := box.mustGit("rev-parse", "origin/team-3/branch-3"); got != id {
		t.Errorf("branch at %q", got)
	}
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "more")
	git(t, clone, "push", "-q", "origin", "main", "main:team-3/new")
	box.mustGit("fetch", "-q", "origin")
	box.commit("x", "x")
	box.mustGit("push", "origin", "HEAD")
}

func TestEmptyRepository(t *testing.T) {
	t.Parallel()
	bare := filepath.Join(t.TempDir(), "empty.git")
	git(t, "/", "init", "-q", "--bare", "-b", "main", bare)
	m := newMirrors(t, Options{})
	ctx := context.Background()
	r := fetch(t, m, bare)
	for _, ref := range []string{"", "main", "HEAD"} {
		if _, _, err := r.Resolve(ctx, ref); errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), "no commit yet") {
			t.Errorf("Resolve(%q): %v", ref, err)
		}
	}
	clone := t.TempDir()
	git(t, clone, "init", "-q", "-b", "main")
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "first")
	git(t, clone, "push", "-q", bare, "main")
	resolve(t, fetch(t, m, bare), "")
}

func TestSHA256Repository(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bare, clone := dir+"/r.git", dir+"/c"
	git(t, "/", "init", "-q", "--bare", "--object-format=sha256", "-b", "main", bare)
	git(t, "/", "init", "-q", "--object-format=sha256", "-b", "main", clone)
	write(t, clone+"/a", "a")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "first")
	git(t, clone, "push", "-q", bare, "main")
	m := newMirrors(t, Options{})
	box, p := working(t, m, Grant{URL: bare, Branch: ownBranch})
	id := box.commit("b", "b")
	box.mustGit("push", "origin", "HEAD")
	if got := git(t, bare, "rev-parse", ownBranch); got != id || len(id) != 64 {
		t.Errorf("remote at %s, want %s", got, id)
	}
	p.take()
}

func TestShallowRemote(t *testing.T) {
	t.Parallel()
	full := history(t, 50, 5)
	shallow := filepath.Join(t.TempDir(), "shallow.git")
	git(t, "/", "clone", "-q", "--bare", "--depth=3", "file://"+full, shallow)
	m := newMirrors(t, Options{})
	box, _ := working(t, m, Grant{URL: shallow, Branch: ownBranch})
	if got := box.mustGit("rev-list", "--count", "HEAD"); got != "3" {
		t.Errorf("%s commits", got)
	}
	for _, name := range []string{"one", "two"} {
		id := box.commit(name, "x")
		box.mustGit("push", "origin", "HEAD")
		if got := git(t, shallow, "rev-parse", ownBranch); got != id {
			t.Errorf("remote at %s, want %s", got, id)
		}
		git(t, shallow, "fetch", "-q", "--deepen=2", "file://"+full, "main")
		box.mustGit("fetch", "-q", "origin")
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	first := git(t, clone, "rev-parse", "HEAD")
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "two")
	second := git(t, clone, "rev-parse", "HEAD")
	git(t, clone, "push", "-q", "origin", "main", "main:both", "main:größe", "main:release/2024.01", "main~1:refs/heads/deadbeef", "main~1:refs/tags/both")
	tree := git(t, clone, "rev-parse", "HEAD^{tree}")
	git(t, clone, "tag", "of-a-tree", tree)
	git(t, clone, "push", "-q", "origin", "of-a-tree")
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	tests := []struct{ ref, commit, branch, says string }{
		{"", second, "main", ""},
		{"HEAD", second, "main", ""},
		{"main", second, "main", ""},
		{"refs/heads/main", second, "main", ""},
		{"origin/main", second, "main", ""},
		{"other", first, "other", ""},
		{"größe", second, "größe", ""},
		{"release/2024.01", second, "release/2024.01", ""},
		{"v1", first, "", ""},
		{"refs/tags/v1", first, "", ""},
		{"both", second, "both", ""},
		{"deadbeef", first, "deadbeef", ""},
		{first, first, "", ""},
		{strings.ToUpper(first), first, "", ""},
		{first[:8], first, "", ""},
		{"Main", "", "", "Did you mean main?"},
		{"mian", "", "", "Did you mean main?"},
		{"release/2024.1", "", "", "Did you mean release/2024.01?"},
		{"nothing-like-it", "", "", "Leave the ref out for the default branch."},
		{strings.Repeat("1", 40), "", "", "reachable from a branch"},
		{tree, "", "", "no branch, tag or commit"},
		{"of-a-tree", "", "", "no branch, tag or commit"},
		{"main~1", "", "", "cannot be the name"},
		{"main^{tree}", "", "", "cannot be the name"},
		{"a b", "", "", "cannot be the name"},
		{"-x", "", "", "cannot be the name"},
		{"--upload-pack=x", "", "", "cannot be the name"},
		{"main\nother", "", "", "cannot be the name"},
		{"../../HEAD", "", "", "cannot be the name"},
		{"main@{1}", "", "", "cannot be the name"},
		{":/first", "", "", "cannot be the name"},
		{strings.Repeat("x", 300), "", "", "cannot be the name"},
		{"refs/errand/x", "", "", "no branch, tag or commit"},
	}
	for _, tt := range tests {
		commit, branch, err := r.Resolve(context.Background(), tt.ref)
		if tt.says != "" {
			if e := errand.AsError(err); e == nil || e.Kind != errand.Invalid || e.Code != "invalid_branch_name" || !strings.Contains(e.Message, tt.says) {
				t.Errorf("Resolve(%q) = %q, %v; want an error that says %q", tt.ref, commit, err, tt.says)
			}
			continue
		}
		if commit != tt.commit || branch != tt.branch || err != nil {
			t.Errorf("Resolve(%q) = %q, %q, %v; want %q, %q", tt.ref, commit, branch, err, tt.commit, tt.branch)
		}
	}
}

func TestReadFileAndTree(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	write(t, clone+"/dir/with space\tü", "odd\n")
	write(t, clone+"/large", strings.Repeat("x", maxFile+1))
	write(t, clone+"/largest", strings.Repeat("x", maxFile))
	write(t, clone+"/void", "")
	for link, to := range map[string]string{"link": "README.md", "dir/up": "../README.md", "out": "/etc/passwd", "far": "../../../etc/passwd", "loop": "loop", "gone": "nowhere"} {
		if err := os.Symlink(to, clone+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "files")
	git(t, clone, "push", "-q", "origin", "main")
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	ctx := context.Background()
	id := resolve(t, r, "")
	for path, want := range map[string]string{
		"README.md": "hello\n", "/README.md": "hello\n", "dir/with space\tü": "odd\n", "void": "", "link": "hello\n", "dir/up": "hello\n", "largest": strings.Repeat("x", maxFile),
	} {
		if got, err := r.ReadFile(ctx, id, path); string(got) != want || err != nil {
			t.Errorf("ReadFile(%q) = %.40q, %v", path, got, err)
		}
	}
	for path, want := range map[string]errand.Kind{
		"nothing": errand.NotFound, "": errand.NotFound, "dir": errand.NotFound, "out": errand.NotFound, "far": errand.NotFound, "loop": errand.NotFound, "gone": errand.NotFound,
		"../x": errand.NotFound, "a\nb": errand.NotFound, "README.md/x": errand.NotFound, "large": errand.TooLarge,
	} {
		if got, err := r.ReadFile(ctx, id, path); errand.KindOf(err) != want {
			t.Errorf("ReadFile(%q) = %.40q, %v; want %s", path, got, err, want)
		}
	}
	if _, err := r.ReadFile(ctx, "--help", "README.md"); errand.KindOf(err) != errand.NotFound {
		t.Errorf("a commit that is an option: %v", err)
	}
	tree, err := r.Tree(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) != 13 || tree["dir/with space\tü"] != git(t, clone, "rev-parse", "HEAD:dir/with space\tü") {
		t.Errorf("tree %v", tree)
	}
	for path, rev := range map[string]string{"": "HEAD^{tree}", ".": "HEAD^{tree}", "dir": "HEAD:dir", "dir/": "HEAD:dir", "README.md": "HEAD:README.md"} {
		if got, err := r.TreeID(ctx, id, path); got != git(t, clone, "rev-parse", rev) || err != nil {
			t.Errorf("TreeID(%q) = %s, %v", path, got, err)
		}
	}
	if _, err := r.TreeID(ctx, id, "nothing"); errand.KindOf(err) != errand.NotFound {
		t.Errorf("TreeID of nothing: %v", err)
	}
}

// Joining packs loses nothing, not even what no ref leads to: machines use it.
func TestTidyKeepsEverything(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	var ids []string
	for i := range manyPacks + 3 {
		git(t, clone, "commit", "-q", "--allow-empty", "-m", fmt.Sprint(i))
		ids = append(ids, git(t, clone, "rev-parse", "HEAD"))
		git(t, clone, "push", "-q", "-f", "origin", "main")
		if i == manyPacks/2 {
			fetch(t, m, bare)
			git(t, clone, "reset", "-q", "--hard", "v1")
			continue
		}
		fetch(t, m, bare)
	}
	r := fetch(t, m, bare)
	packs, _ := filepath.Glob(r.Dir() + "/objects/pack/*.pack")
	if len(packs) >= manyPacks {
		t.Errorf("%d packs", len(packs))
	}
	for _, id := range ids {
		git(t, r.Dir(), "cat-file", "-e", id)
	}
}
