package inside

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/guest/wire"
)

// TestCommitPutsBack takes a file away between the look and the renames.
func TestCommitPutsBack(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{"a": "a", "b": "b", "c": "c"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	d := &drafts{root: root, files: map[string]*draft{}}
	for _, c := range []wire.FileChange{
		{Path: "a", Kind: wire.ChangeWrite, Data: []byte("changed")},
		{Path: "new/deep/file", Kind: wire.ChangeCreate, Data: []byte("new")},
		{Path: "b", Kind: wire.ChangeDelete},
		{Path: "c", Kind: wire.ChangeWrite, Data: []byte("changed")},
	} {
		if _, err := d.do(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	if err := d.commit(); err == nil {
		t.Fatal("it was committed")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(data)
	}
	if diff := cmp.Diff(map[string]string{"a": "a", "b": "b"}, got); diff != "" {
		t.Error(diff)
	}
}
