package local

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
)

// begin makes a repository with a commit.
func begin(t *testing.T) *Repository {
	t.Helper()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+who+"_NAME", "Ada")
		t.Setenv("GIT_"+who+"_EMAIL", "ada@example.com")
	}
	r := &Repository{dir: t.TempDir()}
	r.must(t, "init", "-q", "-b", "main")
	for name, text := range map[string]string{"a": "1\n", "b": "1\n", "folder/x": "1\n", "file": "1\n", "gone": "1\n", "run.sh": "echo\n", ".gitignore": "ignored\n"} {
		r.write(t, name, text)
	}
	r.must(t, "add", "-A")
	r.must(t, "commit", "-q", "-m", "first")
	return r
}

func (r *Repository) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.git(t.Context(), nil, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (r *Repository) write(t *testing.T, name, text string) {
	t.Helper()
	at := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// clone gives another tree that sees the same objects.
func (r *Repository) clone(t *testing.T) *Repository {
	t.Helper()
	other := &Repository{dir: filepath.Join(t.TempDir(), "clone")}
	r.must(t, "clone", "-q", "--shared", r.dir, other.dir)
	return other
}

// TestLay carries all kinds of changes from one tree into another: what arrives is
// the same tree, as changes that are not staged.
func TestLay(t *testing.T) {
	r := begin(t)
	other := r.clone(t)
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(r.dir, from), filepath.Join(r.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	r.write(t, "a", "2\n")
	r.write(t, "new/deep", "\x00\xff\r\n")
	r.write(t, "ignored", "mine\n")
	rename("gone", "came ä \"here\"")
	rename("folder/x", "moved")
	if err := os.Remove(filepath.Join(r.dir, "folder")); err != nil {
		t.Fatal(err)
	}
	rename("file", "folder")  // a file where a folder was
	r.write(t, "file/y", "y") // and a folder where a file was
	if err := os.Symlink("a", filepath.Join(r.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(r.dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	status := r.must(t, "status", "--short", "-uall")
	work, head, err := snapshot(t.Context(), r, "work")
	if err != nil || work == head {
		t.Fatalf("%q of %q, %v", work, head, err)
	}
	if got := r.must(t, "status", "--short", "-uall"); got != status || strings.Contains(r.must(t, "ls-tree", "-r", "--name-only", work), "ignored") {
		t.Errorf("after it was looked at the tree is %q", got)
	}
	other.write(t, "b", "mine\n") // not theirs to touch
	if _, err := lay(t.Context(), other, head, work, ""); err != nil {
		t.Fatal(err)
	}
	if got := other.must(t, "diff", "--cached", "--name-only"); got != "" {
		t.Errorf("staged is %q", got)
	}
	other.write(t, "b", "1\n")
	again, _, err := snapshot(t.Context(), other, "work")
	if err != nil {
		t.Fatal(err)
	}
	if mine, theirs := other.must(t, "rev-parse", again+"^{tree}"), r.must(t, "rev-parse", work+"^{tree}"); mine != theirs {
		t.Errorf("what arrived differs:\n%s", other.must(t, "diff-tree", "-r", "--no-renames", work, again))
	}
	if files, err := lay(t.Context(), other, head, work, ""); err != nil || len(files) > 0 {
		t.Errorf("once more it changed %q, %v", files, err)
	}
}

// TestLayLosesNothing lays over changes of one's own: none of it is done.
func TestLayLosesNothing(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, r *Repository){
		"a changed file": func(t *testing.T, r *Repository) { r.write(t, "a", "mine\n") },
		"a new file":     func(t *testing.T, r *Repository) { r.write(t, "new", "mine\n") },
		"an ignored file": func(t *testing.T, r *Repository) {
			r.write(t, ".git/info/exclude", "new\n")
			r.write(t, "new", "mine\n")
		},
		"a removed file":   func(t *testing.T, r *Repository) { r.must(t, "rm", "-q", "a") },
		"a committed file": func(t *testing.T, r *Repository) { r.write(t, "a", "mine\n"); r.must(t, "commit", "-qam", "mine") },
	} {
		t.Run(name, func(t *testing.T) {
			r := begin(t)
			other := r.clone(t)
			r.write(t, "a", "2\n")
			r.write(t, "b", "2\n")
			r.write(t, "new", "2\n")
			work, head, err := snapshot(t.Context(), r, "work")
			if err != nil {
				t.Fatal(err)
			}
			spoil(t, other)
			before := other.must(t, "status", "--short", "--ignored")
			if _, err := lay(t.Context(), other, head, work, ""); errand.KindOf(err) != errand.Conflict {
				t.Errorf("it was laid: %v", err)
			}
			if after := other.must(t, "status", "--short", "--ignored"); after != before {
				t.Errorf("before it was %q, now %q", before, after)
			}
		})
	}
}

// TestLayKnows goes on from what came before: what only one end changed wins.
func TestLayKnows(t *testing.T) {
	r := begin(t)
	other := r.clone(t)
	take := func() string {
		t.Helper()
		work, _, err := snapshot(context.Background(), r, "work")
		if err != nil {
			t.Fatal(err)
		}
		return work
	}
	r.write(t, "a", "2\n")
	r.write(t, "b", "2\n")
	first := take()
	if _, err := lay(t.Context(), other, r.must(t, "rev-parse", "HEAD"), first, ""); err != nil {
		t.Fatal(err)
	}
	other.write(t, "b", "mine\n")
	r.write(t, "a", "3\n")
	second := take()
	if files, err := lay(t.Context(), other, r.must(t, "rev-parse", "HEAD"), second, first); err != nil || strings.Join(files, " ") != "a" {
		t.Fatalf("it laid %q, %v", files, err)
	}
	if got := other.must(t, "diff", "-U0"); !strings.Contains(got, "+3") || !strings.Contains(got, "+mine") {
		t.Errorf("the tree has\n%s", got)
	}
	r.write(t, "b", "3\n")
	if _, err := lay(t.Context(), other, r.must(t, "rev-parse", "HEAD"), take(), second); errand.KindOf(err) != errand.Conflict {
		t.Errorf("both have changed b: %v", err)
	}
}

func TestSnapshotRefusesAMerge(t *testing.T) {
	r := begin(t)
	r.must(t, "switch", "-q", "-c", "side")
	r.write(t, "a", "side\n")
	r.must(t, "commit", "-qam", "side")
	r.must(t, "switch", "-q", "main")
	r.write(t, "a", "main\n")
	r.must(t, "commit", "-qam", "main")
	if _, err := r.git(t.Context(), nil, "", "merge", "-q", "side"); err == nil {
		t.Fatal("there is no conflict")
	}
	if _, _, err := snapshot(t.Context(), r, "work"); errand.KindOf(err) != errand.Conflict {
		t.Errorf("%v", err)
	}
}
