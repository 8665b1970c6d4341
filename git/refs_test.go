package git

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
)

func TestRefs(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	git(t, clone, "push", "-q", "origin", "main:a/first", "main:refs/pull/1/head")
	m := newMirrors(t, Options{})
	ctx := context.Background()
	refs, err := m.Refs(ctx, bare)
	if err != nil {
		t.Fatal(err)
	}
	main, tag := git(t, bare, "rev-parse", "main"), git(t, bare, "rev-parse", "v1")
	want := []Ref{
		{Name: "refs/heads/main", Commit: main, Default: true},
		{Name: "refs/heads/a/first", Commit: main},
		{Name: "refs/heads/other", Commit: main},
		{Name: "refs/tags/v1", Commit: tag},
	}
	if diff := cmp.Diff(want, refs); diff != "" {
		t.Errorf("refs (-want +got)\n%s", diff)
	}
	if _, err := m.Open(ctx, bare); errand.KindOf(err) != errand.NotFound {
		t.Errorf("listing made a mirror: %v", err)
	}
	if _, err := m.Refs(ctx, filepath.Dir(bare)+"/nowhere.git"); errand.KindOf(err) != errand.NotFound || !strings.Contains(err.Error(), "Listing the branches of") {
		t.Errorf("refs of nothing: %v", err)
	}
	if _, err := m.Refs(ctx, "https://me:secret@git.example/a.git"); errand.KindOf(err) != errand.Invalid || strings.Contains(err.Error(), "secret") {
		t.Errorf("refs by a URL with a credential: %v", err)
	}
	r := Mirror{mirrors: m, url: bare}
	if _, _, err := r.remoteRefs(ctx, 100); err == nil || !strings.Contains(err.Error(), errTooMuch.Error()) {
		t.Errorf("an answer beyond the bound: %v", err)
	}
}

// A remote that does not answer ends with the one who asks.
func TestRefsOfASilentRemote(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	web := newHTTPRemote(t, filepath.Dir(bare))
	var asked atomic.Int32
	web.before(func(_ http.ResponseWriter, r *http.Request) bool {
		asked.Add(1)
		<-r.Context().Done()
		return false
	})
	m := newMirrors(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := m.Refs(ctx, web.url("remote.git"))
	if errand.KindOf(err) != errand.Unavailable || !strings.Contains(err.Error(), "took longer than allowed") {
		t.Errorf("refs of a remote that does not answer: %v", err)
	}
	if asked.Load() == 0 {
		t.Error("it was not asked")
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	agent := errand.NewAgentID()
	box, _ := working(t, m, Grant{Agent: agent, URL: bare, Branch: ownBranch})
	base := box.mustGit("rev-parse", "HEAD")
	first := box.commit("one", "1\n")
	second := box.commit("two", "2\n")
	box.mustGit("push", "origin", "HEAD")
	ctx := context.Background()
	all, err := m.Log(ctx, agent, bare, base, second, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].ID != second || all[1].ID != first || all[0].Author == "" || all[0].Time.IsZero() || all[1].Title != box.mustGit("log", "-1", "--format=%s", first) {
		t.Errorf("the log is %+v", all)
	}
	rest, err := m.Log(ctx, agent, bare, base, second, 1, 1)
	if err != nil || len(rest) != 1 || rest[0].ID != first {
		t.Errorf("the log after the first is %+v, %v", rest, err)
	}
	if none, err := m.Log(ctx, agent, bare, second, second, 10, 0); err != nil || len(none) != 0 {
		t.Errorf("the log of nothing is %+v, %v", none, err)
	}
	if _, err := m.Log(ctx, agent, bare, base, strings.Repeat("1", 40), 10, 0); errand.KindOf(err) != errand.NotFound {
		t.Errorf("the log of a commit that is nowhere: %v", err)
	}
	if got := ParseLog([]byte("no\x1fa\x1f1\x1ft\x00" + first + "\x1fa\x1flate\x1ft\x00\x1f\x00" + first + "\x1fa\x1f1\x1fa\x1fb")); len(got) != 1 || got[0].Title != "a\x1fb" {
		t.Errorf("what is no log was read as %+v", got)
	}
}
