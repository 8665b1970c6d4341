package git

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
)

const ownBranch = "errand/fix-x-ab12"

// commit makes a commit in the machine and gives its id.
func (m *machine) commit(path, content string) string {
	m.t.Helper()
	write(m.t, filepath.Join(m.dir, path), content)
	m.mustGit("add", "-A")
	m.mustGit("commit", "-q", "-m", "change "+path)
	return m.mustGit("rev-parse", "HEAD")
}

func TestPushIsRefused(t *testing.T) {
	t.Parallel()
	instead := "push to " + ownBranch + " instead: git push origin HEAD:" + ownBranch
	alone := "another ref of this push is refused; push this one alone: git push origin HEAD:" + ownBranch
	const deletes = "an agent deletes no branches or tags on the remote; leave it there"
	tests := []struct {
		name  string
		setup []string // a git command before
		push  []string
		want  []string // in what git printed
		told  errand.PushData
	}{
		{"main", nil, []string{"HEAD:main"},
			[]string{"! [remote rejected] HEAD -> main (" + instead + ")", "remote: Run: git push origin HEAD:" + ownBranch},
			errand.PushData{Ref: "refs/heads/main", Refused: instead}},
		{"another branch", nil, []string{"HEAD:errand/other-0000"}, []string{instead}, errand.PushData{Ref: "refs/heads/errand/other-0000", Refused: instead}},
		{"longer name", nil, []string{"HEAD:" + ownBranch + "2"}, []string{instead}, errand.PushData{Ref: "refs/heads/" + ownBranch + "2", Refused: instead}},
		{"no branch at all", nil, []string{"HEAD:refs/for/main"}, []string{instead}, errand.PushData{Ref: "refs/for/main", Refused: instead}},
		{"mixed", nil, []string{"HEAD:" + ownBranch, "HEAD:main"}, []string{instead, alone}, errand.PushData{Ref: "refs/heads/main", Refused: instead, Others: 1}},
		{"tag", []string{"tag", "v9"}, []string{"v9"}, []string{"an agent pushes no tags; " + instead}, errand.PushData{Ref: "refs/tags/v9", Refused: "an agent pushes no tags; " + instead}},
		{"delete main", nil, []string{":main"}, []string{"an agent deletes no branches"}, errand.PushData{Ref: "refs/heads/main", Refused: deletes}},
		{"force main", nil, []string{"--force", "HEAD~1:main"}, []string{instead}, errand.PushData{Ref: "refs/heads/main", Refused: instead}},
		{"unicode", nil, []string{"HEAD:größe/日本"}, []string{instead}, errand.PushData{Ref: "refs/heads/größe/日本", Refused: instead}},
	}
	bare, clone := newRemote(t)
	write(t, clone+"/second", "2")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "second")
	git(t, clone, "push", "-q", "origin", "main")
	before := git(t, bare, "for-each-ref")
	m := newMirrors(t, Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			box, p := working(t, m, Grant{URL: bare, Branch: ownBranch, AllowForce: true})
			if tt.name != "force main" {
				box.commit("new.txt", "new\n")
			}
			if tt.setup != nil {
				box.mustGit(tt.setup...)
			}
			out, err := box.git(append([]string{"push", "origin"}, tt.push...)...)
			if err == nil {
				t.Errorf("git push ended well:\n%s", out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("git said\n%s\nwithout %q", out, want)
				}
			}
			recorded := p.take()
			for i := range recorded {
				recorded[i].Repository, recorded[i].Old, recorded[i].New = "", "", ""
			}
			if diff := cmp.Diff([]errand.PushData{tt.told}, recorded); diff != "" {
				t.Errorf("recorded (-want +got)\n%s", diff)
			}
			if after := git(t, bare, "for-each-ref"); after != before {
				t.Errorf("the remote changed:\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

func TestDeleteOwnBranchIsRefused(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	box, p := working(t, m, Grant{URL: bare, Branch: ownBranch})
	box.commit("a.txt", "a")
	box.mustGit("push", "origin", "HEAD")
	p.take()
	out, err := box.git("push", "origin", "--delete", ownBranch)
	if err == nil || !strings.Contains(out, "an agent deletes no branches") {
		t.Errorf("err %v\n%s", err, out)
	}
	if got := p.take(); len(got) != 1 || got[0].New != "" || got[0].Refused == "" {
		t.Errorf("recorded %+v", got)
	}
	git(t, bare, "rev-parse", "--verify", ownBranch)
}

func TestForcePush(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	box, p := working(t, m, Grant{URL: bare, Branch: ownBranch, AllowForce: true})
	first := box.commit("a.txt", "a")
	box.mustGit("push")
	box.mustGit("commit", "--amend", "-q", "-m", "amended")
	if out, err := box.git("push"); err == nil || !strings.Contains(out, "non-fast-forward") {
		t.Errorf("a push that rewrites went through without --force: %v\n%s", err, out)
	}
	p.take()
	box.mustGit("push", "--force")
	second := box.mustGit("rev-parse", "HEAD")
	if got := p.take(); len(got) != 1 || got[0].Old != first || got[0].New != second || got[0].Refused != "" {
		t.Errorf("recorded %+v", got)
	}
	// Somebody else moves the branch between our advertisement and our push.
	git(t, clone, "fetch", "-q", "origin")
	git(t, clone, "checkout", "-q", "-b", "theirs", "origin/"+ownBranch)
	write(t, clone+"/theirs", "x")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "theirs")
	theirs := git(t, clone, "rev-parse", "HEAD")
	box.mustGit("commit", "--amend", "-q", "-m", "amended again")
	hook := filepath.Join(box.dir, ".git/hooks/pre-push") // runs after the refs were read
	write(t, hook, "#!/bin/sh\nunset GIT_DIR\nexec git -C "+clone+" push -q "+bare+" HEAD:"+ownBranch+"\n")
	if err := os.Chmod(hook, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := box.git("push", "--force")
	if err == nil || !strings.Contains(out, "git fetch origin") {
		t.Errorf("err %v\n%s", err, out)
	}
	if got := git(t, bare, "rev-parse", ownBranch); got != theirs {
		t.Errorf("the remote is at %s, somebody else's commit %s is lost", got, theirs)
	}
}

func TestPushToSharedBranchNeverRewrites(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	box, p := working(t, m, Grant{URL: bare, Branch: "main"})
	box.commit("a.txt", "a")
	box.mustGit("push")
	at := git(t, bare, "rev-parse", "main")
	box.mustGit("commit", "--amend", "-q", "-m", "amended")
	p.take()
	out, err := box.git("push", "--force")
	if err == nil || !strings.Contains(out, "git pull --rebase origin main") {
		t.Errorf("err %v\n%s", err, out)
	}
	if got := git(t, bare, "rev-parse", "main"); got != at {
		t.Errorf("main moved from %s to %s", at, got)
	}
	if got := p.take(); len(got) != 1 || got[0].Refused == "" {
		t.Errorf("recorded %+v", got)
	}
}

// A push above http.postBuffer is chunked and comes after a probe.
func TestBigPush(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	box, p := working(t, m, Grant{URL: bare, Branch: ownBranch})
	noise := make([]byte, 5<<20)
	_, _ = rand.Read(noise)
	id := box.commit("noise", string(noise))
	box.mustGit("-c", "http.postBuffer=65536", "push", "origin", "HEAD")
	if got := git(t, bare, "rev-parse", ownBranch); got != id {
		t.Errorf("remote at %s, want %s", got, id)
	}
	if got := p.take(); len(got) != 1 {
		t.Errorf("recorded %+v", got)
	}
	// A large push that is refused must be told as such, not as a broken pipe.
	box.commit("noise2", string(noise[:3<<20]))
	out, err := box.git("-c", "http.postBuffer=65536", "push", "origin", "HEAD:main")
	if err == nil || !strings.Contains(out, "[remote rejected] HEAD -> main (push to "+ownBranch) {
		t.Errorf("err %v\n%s", err, out)
	}
}

func TestPushAboveTheBound(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{MaxPush: 1 << 20})
	box, p := working(t, m, Grant{URL: bare, Branch: ownBranch})
	noise := make([]byte, 2<<20)
	_, _ = rand.Read(noise)
	box.commit("noise", string(noise))
	out, err := box.git("push", "origin", "HEAD")
	if err == nil || !strings.Contains(out, "exceeds maximum allowed size") {
		t.Errorf("err %v\n%s", err, out)
	}
	if got := p.take(); len(got) != 1 || got[0].Refused == "" {
		t.Errorf("recorded %+v", got)
	}
}

func TestRemoteDeclines(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	hook := filepath.Join(bare, "hooks/pre-receive")
	write(t, hook, "#!/bin/sh\necho 'No commits on a Friday.' >&2\nexit 1\n")
	if err := os.Chmod(hook, 0o755); err != nil {
		t.Fatal(err)
	}
	m := newMirrors(t, Options{})
	box, p := working(t, m, Grant{URL: bare, Branch: ownBranch})
	id := box.commit("a.txt", "a")
	out, err := box.git("push", "origin", "HEAD")
	for _, want := range []string{"remote: No commits on a Friday.", "the remote declined: pre-receive hook declined"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("err %v\n%s\nwithout %q", err, out, want)
		}
	}
	if got := p.take(); len(got) != 1 || got[0].New != id || !strings.Contains(got[0].Refused, "pre-receive hook declined") {
		t.Errorf("recorded %+v", got)
	}
	packs := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(m.options.Dir, "agents/*/*/objects/pack/*.pack"))
		left, err2 := filepath.Glob(filepath.Join(m.options.Dir, "agents/*/*/quarantine"))
		loose, err3 := filepath.Glob(filepath.Join(m.options.Dir, "agents/*/*/objects/??"))
		if err := errors.Join(err, err2, err3); err != nil || len(left) > 0 || len(loose) > 0 {
			t.Errorf("left behind are %v, %v, %v", left, loose, err)
		}
		return found
	}
	if kept := packs(); len(kept) != 0 {
		t.Errorf("of a push that was declined %v is kept", kept)
	}
	if err := os.Remove(hook); err != nil {
		t.Fatal(err)
	}
	box.mustGit("push", "origin", "HEAD")
	if kept := packs(); len(kept) != 1 {
		t.Errorf("of a push that went through %v is kept", kept)
	}
}

// TestPushAfterAKill: what a git that was killed left in the agent's repository keeps
// nobody from pushing.
func TestPushAfterAKill(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	dir := t.TempDir()
	m := newMirrors(t, Options{Dir: dir})
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch})
	first := box.commit("a.txt", "a")
	box.mustGit("push")
	all, err := filepath.Glob(filepath.Join(dir, "agents", "*", Name(bare)))
	if err != nil || len(all) != 1 {
		t.Fatalf("the agent's repositories are %q, %v", all, err)
	}
	git(t, all[0], "update-ref", "refs/errand/incoming", first)
	for _, lock := range []string{"packed-refs.lock", "refs/errand/incoming.lock", "refs/heads/" + ownBranch + ".lock"} {
		write(t, filepath.Join(all[0], lock), "")
	}
	second := box.commit("a.txt", "b")
	box.mustGit("push")
	if got := git(t, bare, "rev-parse", ownBranch); got != second {
		t.Errorf("the remote is at %s, want %s", got, second)
	}
}

// TestKilledInQuarantine: what a server that was killed had not passed on goes.
func TestKilledInQuarantine(t *testing.T) {
	dir := t.TempDir()
	q := filepath.Join(dir, "agents", string(errand.NewAgentID()), Name("/srv/x"), "quarantine")
	write(t, filepath.Join(q, "tmp_objdir-incoming-x", "pack", "tmp_pack_x"), "half a pack")
	newMirrors(t, Options{Dir: dir})
	if _, err := os.Stat(q); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the quarantine is still there: %v", err)
	}
}

func TestRoom(t *testing.T) {
	for _, tt := range []struct{ free, most, want int64 }{
		{10 << 30, 2 << 30, 2 << 30},
		{1<<30 + 64<<20, 2 << 30, 512 << 20},
		{64 << 20, 2 << 30, 0},
	} {
		if got := mostOf(tt.free, tt.most); got != tt.want {
			t.Errorf("with %d free and at most %d there is room for %d, want %d", tt.free, tt.most, got, tt.want)
		}
	}
}

func TestRemoteIsDown(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	box, p := working(t, m, Grant{URL: bare, Branch: ownBranch})
	box.commit("a.txt", "a")
	if err := os.Rename(bare, bare+".away"); err != nil {
		t.Fatal(err)
	}
	out, err := box.git("push", "origin", "HEAD")
	if err == nil || !strings.Contains(out, "Pushing to "+bare+" failed: there is no repository there.") {
		t.Errorf("err %v\n%s", err, out)
	}
	if got := p.take(); len(got) != 1 || got[0].Refused == "" {
		t.Errorf("recorded %+v", got)
	}
	// Fetching still works, from what the mirror has.
	box.mustGit("fetch", "origin")
	if err := os.Rename(bare+".away", bare); err != nil {
		t.Fatal(err)
	}
	box.mustGit("push", "origin", "HEAD")
}

func TestFetchThroughBroker(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch})
	for i := range 30 {
		write(t, clone+"/n", fmt.Sprint(i))
		git(t, clone, "add", ".")
		git(t, clone, "commit", "-q", "-m", fmt.Sprint("commit ", i))
	}
	git(t, clone, "push", "-q", "origin", "main")
	tip := git(t, clone, "rev-parse", "main")
	for _, protocol := range []string{"0", "1", "2"} {
		t.Run("protocol "+protocol, func(t *testing.T) {
			box.mustGit("-c", "protocol.version="+protocol, "fetch", "origin")
			if got := box.mustGit("rev-parse", "origin/main"); got != tip {
				t.Errorf("origin/main is %s, want %s", got, tip)
			}
			box.mustGit("update-ref", "-d", "refs/remotes/origin/main")
			to := t.TempDir()
			cmd := box.command("git", "-c", "protocol.version="+protocol, "clone", "-q", bare, to+"/full")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("clone: %v\n%s", err, out)
			}
			if got := git(t, to+"/full", "rev-list", "--count", "HEAD"); got != "31" {
				t.Errorf("%s commits", got)
			}
			cmd = box.command("git", "-c", "protocol.version="+protocol, "clone", "-q", "--depth=2", bare, to+"/shallow")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("shallow clone: %v\n%s", err, out)
			}
			if got := git(t, to+"/shallow", "rev-list", "--count", "HEAD"); got != "2" {
				t.Errorf("%s commits in the shallow clone", got)
			}
			// A push from a shallow clone goes through as well.
			shallow := *box
			shallow.dir = to + "/shallow"
			shallow.commit("from-shallow-"+protocol, "x")
			shallow.mustGit("push", "--force", "origin", "HEAD:"+ownBranch+"")
			if got, want := git(t, bare, "rev-parse", ownBranch), shallow.mustGit("rev-parse", "HEAD"); got != want {
				t.Errorf("remote at %s, want %s", got, want)
			}
			shallow.mustGit("fetch", "--unshallow", "origin")
			git(t, bare, "update-ref", "-d", "refs/heads/"+ownBranch)
		})
	}
	cmd := box.command("git", "clone", "-q", "--filter=blob:none", bare, t.TempDir()+"/partial")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("partial clone: %v\n%s", err, out)
	}
}

func TestFetchDoesNotWaitForASlowRemote(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	front := newHTTPRemote(t, filepath.Dir(bare))
	url := front.url("remote.git")
	m := newMirrors(t, Options{Wait: 200 * time.Millisecond})
	box, _ := working(t, m, Grant{URL: url, Branch: ownBranch})
	release := make(chan struct{})
	front.before(func(w http.ResponseWriter, r *http.Request) bool { <-release; return true })
	defer close(release)
	box.mustGit("fetch", "origin")
}

// TestFetchesAtOnce: a machine that begins many fetches keeps its own waiting, and
// none of them for ever.
func TestFetchesAtOnce(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch})
	b, url := startBroker(t, m, bare)
	var held []*asking
	for range fetchesOfOne {
		held = append(held, ask(url))
	}
	for deadline := time.Now().Add(20 * time.Second); b.fetches.TryAcquire(1); time.Sleep(time.Millisecond) { // no event tells that they are at work
		b.fetches.Release(1)
		if time.Now().After(deadline) {
			t.Fatal("they are not served at once")
		}
	}
	box.mustGit("fetch", "origin") // another machine
	last := make(chan error, 1)
	go func() { _, err := tryGit(t, t.TempDir(), nil, "ls-remote", url); last <- err }()
	for _, h := range held {
		h.Close()
		<-h.ended
	}
	if err := <-last; err != nil {
		t.Errorf("the fetch that waited: %v", err)
	}
}

// TestStalledFetch ends, and one that has only been asked does not.
func TestStalledFetch(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	m.stall = 100 * time.Millisecond
	fetch(t, m, bare)
	_, url := startBroker(t, m, bare)
	h := ask(url)
	<-h.ended // though it has not said all
	h.Close()

	left := make(chan bool, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Read to its end before any of it is asked for.
		body, err := gzip.NewReader(r.Body)
		if err == nil {
			_, err = io.Copy(io.Discard, asker{body, http.NewResponseController(w), m.stall})
		}
		if err != nil {
			t.Error(err)
		}
		select {
		case <-r.Context().Done():
			left <- true
		case <-time.After(3 * m.stall):
			left <- false
		}
	}))
	defer s.Close()
	var all bytes.Buffer
	z := gzip.NewWriter(&all)
	_, _ = io.WriteString(z, "all")
	_ = z.Close()
	res, err := http.Post(s.URL, "text/plain", &all)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if <-left {
		t.Error("a machine that has said all and waits was taken for one that left")
	}
}

func startBroker(t *testing.T, m *Mirrors, url string) (*broker, string) {
	t.Helper()
	h, err := m.Broker(Grant{URL: url, Agent: errand.NewAgentID(), Branch: ownBranch}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return h.(*broker), s.URL + "/r"
}

// asking is a fetch whose machine has not said all yet.
type asking struct {
	*io.PipeWriter
	ended chan struct{}
}

func ask(url string) *asking {
	body, says := io.Pipe()
	a := &asking{says, make(chan struct{})}
	go func() {
		defer close(a.ended)
		if res, err := http.Post(url+"/git-upload-pack", "application/x-git-upload-pack-request", body); err == nil {
			res.Body.Close()
		}
	}()
	return a
}

func TestGzipBody(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	r := fetch(t, m, bare)
	url, _ := serveBroker(t, m, Grant{URL: bare, Branch: ownBranch})
	id, _, err := r.Resolve(context.Background(), "main")
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	_ = writePacket(z, "want "+id+" no-progress\n")
	_, _ = io.WriteString(z, flush)
	_ = writePacket(z, "done\n")
	_ = z.Close()
	req, err := http.NewRequest("POST", url+"/git-upload-pack", &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	req.Header.Set("Content-Encoding", "gzip")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, _ := io.ReadAll(res.Body)
	if res.StatusCode != 200 || !bytes.Contains(got, []byte("PACK")) {
		t.Errorf("status %s, body %.200q", res.Status, got)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	fetch(t, m, bare)
	url, p := serveBroker(t, m, Grant{URL: bare, Branch: ownBranch})
	res, err := http.Post(url+"/git-receive-pack", "application/x-git-receive-pack-request", strings.NewReader("0000"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 200 || len(body) != 0 || len(p.take()) != 0 {
		t.Errorf("status %s, body %q", res.Status, body)
	}
}

// What a machine sends is not trusted: it ends in a status, never in a panic,
// and never in a push.
func TestBrokerAgainstGarbage(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	fetch(t, m, bare)
	before := git(t, bare, "for-each-ref")
	url, _ := serveBroker(t, m, Grant{URL: bare, Branch: ownBranch})
	id := git(t, bare, "rev-parse", "main")
	zero := strings.Repeat("0", 40)
	line := func(s string) string { return fmt.Sprintf("%04x%s", len(s)+4, s) }
	tests := []struct {
		name, method, path, kind, body string
		want                           int
	}{
		{"no service", "GET", "/info/refs", "", "", 403},
		{"unknown service", "GET", "/info/refs?service=git-upload-archive", "", "", 403},
		{"a file", "GET", "/objects/info/packs", "", "", 404},
		{"up", "GET", "/../../etc/passwd", "", "", 404},
		{"lfs", "POST", "/info/lfs/objects/batch", "application/json", "{}", 404},
		{"other type", "POST", "/git-receive-pack", "text/plain", "0000", 415},
		{"not packets", "POST", "/git-receive-pack", "application/x-git-receive-pack-request", "hello", 400},
		{"cut", "POST", "/git-receive-pack", "application/x-git-receive-pack-request", "00ff" + zero, 400},
		{"no change", "POST", "/git-receive-pack", "application/x-git-receive-pack-request", line("push-cert\x00") + flush, 400},
		{"short id", "POST", "/git-receive-pack", "application/x-git-receive-pack-request", line("abc def refs/heads/x\x00") + flush, 400},
		{"ref with a space", "POST", "/git-receive-pack", "application/x-git-receive-pack-request", line(zero+" "+id+" refs/heads/a b\x00") + flush, 400},
		{"no pack", "POST", "/git-receive-pack", "application/x-git-receive-pack-request", line(zero+" "+id+" refs/heads/"+ownBranch+"\x00report-status") + flush, 200},
		{"bad pack", "POST", "/git-receive-pack", "application/x-git-receive-pack-request", line(zero+" "+strings.Repeat("1", 40)+" refs/heads/"+ownBranch+"\x00report-status") + flush + "PACK garbage", 200},
		{"own branch hides another", "POST", "/git-receive-pack", "application/x-git-receive-pack-request",
			line(zero+" "+id+" refs/heads/"+ownBranch+"\x00report-status") + line(zero+" "+id+" refs/heads/evil") + flush, 200},
		{"own branch twice", "POST", "/git-receive-pack", "application/x-git-receive-pack-request",
			line(zero+" "+id+" refs/heads/"+ownBranch+"\x00report-status") + line(zero+" "+id+" refs/heads/"+ownBranch) + flush, 200},
		{"bad gzip", "POST", "/git-upload-pack", "application/x-git-upload-pack-request", "\x1f\x8bno", 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, url+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", tt.kind)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tt.want {
				t.Errorf("status %s, want %d: %s", res.Status, tt.want, body)
			}
			if tt.kind == "application/x-git-receive-pack-request" && tt.want == 200 && !bytes.Contains(body, []byte("ng refs/heads/")) {
				t.Errorf("answer %q", body)
			}
		})
	}
	if after := git(t, bare, "for-each-ref"); after != before {
		t.Errorf("the remote changed:\n%s\nbefore\n%s", after, before)
	}
}

func TestBrokerRefusesBadGrants(t *testing.T) {
	t.Parallel()
	m := newMirrors(t, Options{})
	for _, g := range []Grant{
		{Agent: "bc-../../x", URL: "/srv/x", Branch: "b"},
		{Agent: errand.NewAgentID(), URL: "x", Branch: "b"},
		{Agent: errand.NewAgentID(), URL: "/srv/x", Branch: ""},
		{Agent: errand.NewAgentID(), URL: "/srv/x", Branch: "a b"},
		{Agent: errand.NewAgentID(), URL: "/srv/x", Branch: "-f"},
		{Agent: errand.NewAgentID(), URL: "/srv/x", Branch: "refs/heads/x"},
	} {
		if _, err := m.Broker(g, nil); errand.KindOf(err) != errand.Invalid {
			t.Errorf("%+v: %v", g, err)
		}
	}
}

// TestReaderPushesNothing serves a machine that may only read.
func TestReaderPushesNothing(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	h, err := m.Broker(Grant{URL: bare}, nil)
	if err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(h)
	t.Cleanup(served.Close)
	url := served.URL + "/r"
	before := git(t, bare, "for-each-ref")
	git(t, clone, "fetch", url, "main")
	cmd := exec.Command("git", "push", url, "HEAD:refs/heads/own")
	cmd.Dir = clone
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("a machine that may only read pushed: %s", out)
	}
	if after := git(t, bare, "for-each-ref"); after != before {
		t.Errorf("the remote changed:\n%s\nbefore\n%s", after, before)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	agent := errand.NewAgentID()
	box, _ := working(t, m, Grant{Agent: agent, URL: bare, Branch: ownBranch})
	base := box.mustGit("rev-parse", "HEAD")
	ctx := context.Background()
	if _, _, err := m.Diff(ctx, agent, bare, base, strings.Repeat("1", 40)); errand.KindOf(err) != errand.NotFound {
		t.Errorf("diff with a commit that is nowhere: %v", err)
	}
	write(t, box.dir+"/README.md", "hello\nworld\n")
	write(t, box.dir+"/with space ü.txt", "x\n")
	write(t, box.dir+"/bin", "")
	box.mustGit("mv", "src/a.go", "src/c.go")
	head := box.commit("tab\there", "y\n")
	box.mustGit("push", "origin", "HEAD")
	patch, stats, err := m.Diff(ctx, agent, bare, base, head)
	if err != nil {
		t.Fatal(err)
	}
	want := []FileStat{
		{Path: "README.md", Status: "modified", Added: 1},
		{Path: "bin", Status: "added"},
		{Path: "src/c.go", OldPath: "src/a.go", Status: "renamed"},
		{Path: "tab\there", Status: "added", Added: 1},
		{Path: "with space ü.txt", Status: "added", Added: 1},
	}
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Errorf("stats (-want +got)\n%s", diff)
	}
	apply := filepath.Join(t.TempDir(), "patch")
	write(t, apply, string(patch))
	git(t, clone, "apply", "--check", apply)
	if err := m.Forget(ctx, agent); err != nil {
		t.Fatal(err)
	}
	if err := m.Forget(ctx, agent); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(m.options.Dir, "agents", string(agent))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Forget: %v", err)
	}
}

// TestPushOfManyRefs is refused as one, and little of it is kept.
func TestPushOfManyRefs(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	fetch(t, m, bare)
	url, p := serveBroker(t, m, Grant{URL: bare, Branch: ownBranch})
	id, zero := git(t, bare, "rev-parse", "main"), strings.Repeat("0", 40)
	send := func(ref func(int) string) string {
		var body strings.Builder
		for i := range 2000 {
			_ = writePacket(&body, zero+" "+id+" "+ref(i)+"\x00report-status")
		}
		body.WriteString(flush)
		res, err := http.Post(url+"/git-receive-pack", "application/x-git-receive-pack-request", strings.NewReader(body.String()))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	for name, ref := range map[string]func(int) string{
		"refs/heads/b0":           func(i int) string { return fmt.Sprint("refs/heads/b", i) },
		"refs/heads/" + ownBranch: func(int) string { return "refs/heads/" + ownBranch },
	} {
		answer := send(ref)
		if got := strings.Count(answer, "ng "); got != maxChanges || strings.Contains(answer, "ok refs/") {
			t.Errorf("%d refs are refused in %.300q", got, answer)
		}
		if told := p.take(); len(told) != 1 || told[0].Ref != name || told[0].Others != 1999 || told[0].Refused == "" {
			t.Errorf("recorded are %d pushes: %+v", len(told), told[:min(len(told), 3)])
		}
	}
}

// TestProposalIsSmall whatever stands beside the refs in its lines.
func TestProposalIsSmall(t *testing.T) {
	var body bytes.Buffer
	id := strings.Repeat("1", 40)
	for i := range 200 {
		_ = writePacket(&body, fmt.Sprint(id, " ", id, " refs/heads/b", i, "\x00", strings.Repeat("x", 60<<10)))
	}
	body.WriteString(flush)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p, err := readProposal(&body)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || len(p.changes) != 200 {
		t.Fatalf("%d changes, %v", len(p.changes), err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("200 refs are kept in %d KiB", grown>>10)
	}
	runtime.KeepAlive(p)
	runtime.KeepAlive(&body)
}

func FuzzReadProposal(f *testing.F) {
	id := strings.Repeat("1", 40)
	f.Add([]byte("0000"))
	f.Add([]byte("0035shallow " + id + "\n0000"))
	f.Add([]byte(fmt.Sprintf("%04x%s %s refs/heads/x\x00report-status side-band-64k0000PACK", 4+len(id)*2+2+len("refs/heads/x")+1+len("report-status side-band-64k"), id, id)))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := readProposal(bytes.NewReader(body))
		if err != nil {
			return
		}
		for _, c := range p.changes {
			if strings.ContainsAny(c.ref, " \n\x00") || len(c.old) < 40 || len(c.new) < 40 {
				t.Errorf("change %+v", c)
			}
		}
	})
}

func FuzzParseStats(f *testing.F) {
	f.Add([]byte(":100644 100644 aa bb M\x00a\x001\t2\ta\x00"))
	f.Add([]byte(":100644 100644 aa bb R100\x00a\x00b\x001\t2\t\x00a\x00b\x00"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, s := range ParseStats(out) {
			if s.Status == "" {
				t.Errorf("no status: %+v", s)
			}
		}
	})
}
