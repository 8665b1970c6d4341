package git

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
)

// carriedPush is what git push sends for one commit, with a pack of what the arguments
// choose.
func carriedPush(t testing.TB, clone, id, ref string, objects ...string) io.Reader {
	t.Helper()
	var body bytes.Buffer
	if err := writePacket(&body, strings.Repeat("0", len(id))+" "+id+" "+ref+"\x00report-status"); err != nil {
		t.Fatal(err)
	}
	body.WriteString(flush)
	list := git(t, clone, append([]string{"rev-list", "--objects"}, objects...)...)
	cmd := exec.Command("git", "-C", clone, "pack-objects", "--stdout", "-q")
	for l := range strings.Lines(list) {
		name, _, _ := strings.Cut(strings.TrimSpace(l), " ")
		cmd.Stdin = io.MultiReader(orEmpty(cmd.Stdin), strings.NewReader(name+"\n"))
	}
	cmd.Stdin, cmd.Stdout = orEmpty(cmd.Stdin), &body
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return &body
}

func orEmpty(r io.Reader) io.Reader {
	if r == nil {
		return strings.NewReader("")
	}
	return r
}

func carriedLeft(t testing.TB, m *Mirrors) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(m.options.Dir, "carried", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestCarry(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	var told bytes.Buffer
	if err := m.Carried(ctx, bare, &told); err != nil || !strings.Contains(told.String(), git(t, clone, "rev-parse", "main")+" refs/heads/main") {
		t.Fatalf("%v, told %q", err, told.String())
	}
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "only here")
	id := git(t, clone, "rev-parse", "HEAD")
	var report bytes.Buffer
	if err := m.Carry(ctx, bare, carriedPush(t, clone, id, CarriedRef, id, "--not", "origin/main"), &report); err != nil || !strings.Contains(report.String(), "ok "+CarriedRef) {
		t.Fatalf("%v, git is told %q", err, report.String())
	}
	if _, _, err := fetch(t, m, bare).Resolve(ctx, id); errand.KindOf(err) != errand.Invalid {
		t.Errorf("before an agent starts from it: %v", err)
	}
	// A later process: the server was killed between the two.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = newMirrors(t, Options{Dir: m.options.Dir})
	for range 2 { // the second finds it in the mirror
		r, err := m.FetchCarried(ctx, bare, id)
		if err != nil {
			t.Fatal(err)
		}
		if got, branch, err := r.Resolve(ctx, id); got != id || branch != "" || err != nil {
			t.Errorf("resolved to %q %q, %v", got, branch, err)
		}
		if refs := git(t, r.Dir(), "for-each-ref", "refs/errand"); refs != "" {
			t.Errorf("the mirror tells of it: %s", refs)
		}
		git(t, r.Dir(), "fsck", "--connectivity-only", id)
	}
	if left := carriedLeft(t, m); len(left) > 0 {
		t.Errorf("what was taken up is still there: %q", left)
	}
}

func TestCarryRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	bare, clone := newRemote(t)
	m := newMirrors(t, Options{})
	id := git(t, clone, "rev-parse", "main")
	if err := m.Carry(ctx, bare, strings.NewReader(flush), io.Discard); errand.KindOf(err) != errand.NotFound {
		t.Errorf("without a mirror: %v", err)
	}
	fetch(t, m, bare)
	blob := git(t, clone, "hash-object", "-w", "README.md")
	mktree := exec.Command("git", "-C", clone, "mktree")
	mktree.Stdin = strings.NewReader("100644 blob " + blob + "\t.git\n")
	tree, err := mktree.Output()
	if err != nil {
		t.Fatal(err)
	}
	evil := git(t, clone, "commit-tree", strings.TrimSpace(string(tree)), "-p", id, "-m", "evil")
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "a")
	git(t, clone, "commit", "-q", "--allow-empty", "-m", "b")
	far := git(t, clone, "rev-parse", "HEAD")
	for name, push := range map[string]io.Reader{
		"no push":           strings.NewReader("hello"),
		"nothing":           strings.NewReader(flush),
		"a branch":          carriedPush(t, clone, id, "refs/heads/main", id),
		"a bad tree":        carriedPush(t, clone, evil, CarriedRef, evil, "--not", id),
		"a commit too few":  carriedPush(t, clone, far, CarriedRef, far, "--not", far+"^"),
		"less than is said": io.LimitReader(carriedPush(t, clone, far, CarriedRef, far), 300),
	} {
		if err := m.Carry(ctx, bare, push, io.Discard); errand.KindOf(err) != errand.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := carriedLeft(t, m); len(left) > 0 {
		t.Errorf("what was refused is still there: %q", left)
	}
}

// What was killed half done, or waits too long, goes.
func TestCarriedIsSwept(t *testing.T) {
	t.Parallel()
	m := newMirrors(t, Options{})
	dir := filepath.Join(m.options.Dir, "carried", "x")
	for name, age := range map[string]time.Duration{"new-1": 0, "new": 0, "old": carriedFor + time.Hour} {
		if err := os.MkdirAll(filepath.Join(dir, name, "objects"), 0o700); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(filepath.Join(dir, name), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.sweepCarried(false); err != nil {
		t.Fatal(err)
	}
	if left := carriedLeft(t, m); len(left) != 2 {
		t.Errorf("while others may be at it, left are %q", left)
	}
	m = newMirrors(t, Options{Dir: m.options.Dir})
	if left := carriedLeft(t, m); len(left) != 1 || filepath.Base(left[0]) != "new" {
		t.Errorf("after a start left are %q", left)
	}
}
