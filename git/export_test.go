package git

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
)

func TestExport(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	write(t, filepath.Join(clone, "app/main.txt"), "main\n")
	write(t, filepath.Join(clone, "app/deep/run.sh"), "run\n")
	write(t, filepath.Join(clone, "app/empty"), "")
	if err := os.Chmod(filepath.Join(clone, "app/deep/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../etc/passwd", filepath.Join(clone, "app/link")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(clone, ".gitattributes"), "app/main.txt export-ignore\n")
	git(t, clone, "add", "-A")
	head := git(t, clone, "rev-parse", "HEAD")
	git(t, clone, "update-index", "--add", "--cacheinfo", ModeSubmodule+","+head+",app/sub")
	git(t, clone, "commit", "-q", "-m", "app")
	git(t, clone, "push", "-q", "origin", "main")
	r := fetch(t, newMirrors(t, Options{}), bare)
	commit := resolve(t, r, "main")

	entries, err := r.Entries(t.Context(), commit, "app")
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]string{}
	for _, e := range entries {
		modes[e.Path] = e.Mode
	}
	want := map[string]string{"main.txt": "100644", "deep/run.sh": ModeExecutable, "empty": "100644", "link": ModeLink, "sub": ModeSubmodule}
	if diff := cmp.Diff(want, modes); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}

	export := func(entries []Entry, limit int64) (string, error) {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		return dir, r.Export(t.Context(), entries, root, limit)
	}
	dir, err := export(entries, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path) // path is below dir
		switch {
		case err != nil || rel == ".":
			return err
		case d.Type()&fs.ModeSymlink != 0:
			found[rel], err = os.Readlink(path)
		case d.IsDir():
			found[rel] = "directory"
		default:
			st, statErr := d.Info()
			if statErr != nil {
				return statErr
			}
			found[rel] = read(t, path) + st.Mode().String()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want = map[string]string{"main.txt": "main\n-rw-r--r--", "deep": "directory", "deep/run.sh": "run\n-rwxr-xr-x", "empty": "-rw-r--r--", "link": "../../../etc/passwd", "sub": "directory"}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("exported (-want +got):\n%s", diff)
	}

	if _, err := export(entries, 8); errand.KindOf(err) != errand.TooLarge {
		t.Errorf("more than the limit: %v", err)
	}
	missing := slices.Clone(entries[:1])
	missing[0].ID = "0123456789012345678901234567890123456789"
	if _, err := export(missing, 8); err == nil {
		t.Error("a file that the mirror lacks was exported")
	}
	climbing := []Entry{{Path: "../out", Mode: "100644", ID: entries[0].ID}}
	if _, err := export(climbing, 1<<20); err == nil {
		t.Error("a path out of the directory was written")
	}
	for _, dir := range []string{"nowhere", "app/main.txt", "../app"} {
		if _, err := r.Entries(t.Context(), commit, dir); errand.KindOf(err) != errand.NotFound {
			t.Errorf("the entries of %s: %v", dir, err)
		}
	}
}
