package environment

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
)

// A COPY of a link, or of what lies behind one, takes what the link leads to.
func TestContextThroughLinks(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"conf.prod": "x", "release/app": "x", "lock.txt": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"conf": "conf.prod", "current": "release"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b.test"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	run("init", "-q")
	run("add", ".")
	run("commit", "-qm", "all")
	mirrors, err := git.New(git.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mirrors.Close() })
	mirror, err := mirrors.Fetch(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"conf", "conf.prod", "current", "lock.txt", "release/app"}
	for copies, want := range map[string][]string{
		"COPY lock.txt /":         {"lock.txt"},
		"COPY conf /etc/conf":     all,
		"COPY current/app /app":   all,
		"COPY conf.prod /etc/one": {"conf.prod"},
	} {
		w := newWork(Preparation{Mirror: mirror, Checkout: git.Checkout{Commit: run("rev-parse", "HEAD")},
			Environment: &Environment{Build: &file.BuildSpec{Context: ".", Contents: "FROM scratch\n" + copies + "\n"}}})
		r, err := w.readRecipe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range r.context {
			got = append(got, e.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s takes (-want +got):\n%s", copies, diff)
		}
	}
}
