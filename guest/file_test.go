package guest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/guest"
)

// tree makes a directory with files; a name that ends with / is a directory, a
// content that begins with "-> " makes a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(file, 0o755))
			continue
		}
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			must(t, os.Symlink(target, file))
		} else {
			must(t, os.WriteFile(file, []byte(content), 0o644))
		}
	}
	return root
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// contents gives what is below a directory, in the form that tree takes.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, file)
		switch {
		case err != nil:
			return err
		case e.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(file)
			all[name] = "-> " + target
		case !e.IsDir():
			all[name] = read(t, file)
		}
		return nil
	}))
	return all
}

func TestReadFile(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	big := strings.Repeat("0123456789", 500000)
	root := tree(t, map[string]string{"a/b": "hello", "empty": "", "big": big, "link": "-> a/b", "dir/": ""})
	must(t, syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600))
	tests := []struct {
		path          string
		offset, limit int64
		want          string
		size          int64
		err           error
	}{
		{path: "a/b", want: "hello", size: 5},
		{path: "a/../a/b", want: "hello", size: 5},
		{path: "link", want: "hello", size: 5},
		{path: "a/b", offset: 1, limit: 3, want: "ell", size: 5},
		{path: "a/b", offset: 9, want: "", size: 5},
		{path: "empty", want: ""},
		{path: "big", want: big[:guest.MaxRead], size: int64(len(big))},
		{path: "big", offset: 4999995, limit: 100, want: "56789", size: int64(len(big))},
		{path: "none", err: fs.ErrNotExist},
		{path: "a/b/c", err: fs.ErrNotExist},
		{path: "dir", err: fs.ErrInvalid},
		{path: "pipe", err: fs.ErrInvalid},
		{path: "a/b", offset: -1, err: fs.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.path, tt.offset), func(t *testing.T) {
			data, stat, err := l.ReadFile(ctx, root, tt.path, tt.offset, tt.limit)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			if string(data) != tt.want || stat.Size != tt.size {
				t.Errorf("%d bytes, %+v", len(data), stat)
			}
		})
	}
	if data, _, err := l.ReadFile(ctx, "/proc", "self/status", 0, 0); err != nil || !strings.Contains(string(data), "Name:") {
		t.Errorf("a file without a size: %q, %v", data, err)
	}
	if _, _, err := l.ReadFile(ctx, "relative", "x", 0, 0); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a root that is not absolute: %v", err)
	}
}

// TestOutside tries every call on every way out of the root.
func TestOutside(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	outside := tree(t, map[string]string{"secret": "secret", "dir/file": "secret"})
	up := "../" + filepath.Base(outside)
	root := filepath.Join(filepath.Dir(outside), "root")
	must(t, os.Mkdir(root, 0o755))
	must(t, os.Symlink(outside, filepath.Join(root, "absolute")))
	must(t, os.Symlink(up, filepath.Join(root, "relative")))
	must(t, os.Symlink("/proc/self/root"+outside, filepath.Join(root, "proc")))
	must(t, os.Symlink(up+"/secret", filepath.Join(root, "file")))
	must(t, os.Symlink("/proc/self/cwd", filepath.Join(root, "cwd")))
	paths := []string{
		up + "/secret", outside + "/secret", "x/../" + up + "/secret", "absolute/secret", "relative/secret",
		"proc/secret", "file", "absolute/dir/file", "cwd/etc/passwd",
	}
	calls := map[string]func(path string) error{
		"read":  func(p string) error { _, _, err := l.ReadFile(ctx, root, p, 0, 0); return err },
		"write": func(p string) error { _, err := l.WriteFile(ctx, id(), root, p, []byte("x"), 0); return err },
		"new":   func(p string) error { _, err := l.WriteFile(ctx, id(), root, p+".new", []byte("x"), 0); return err },
		"edit": func(p string) error {
			_, err := l.Change(ctx, id(), root, []guest.FileChange{{Path: p, Kind: guest.ChangeEdit, Edits: []guest.Edit{{Old: "secret", New: "x"}}}})
			return err
		},
		"list": func(p string) error { _, err := l.List(ctx, root, filepath.Dir(p), guest.ListOptions{}); return err },
		"search": func(p string) error {
			_, err := l.Search(ctx, root, guest.SearchOptions{Path: p, Pattern: "."})
			return err
		},
	}
	for name, call := range calls {
		for _, p := range paths {
			inRoot := p == "file" && (name == "list" || name == "new")
			if err := call(p); !inRoot && !errors.Is(err, guest.ErrOutside) {
				t.Errorf("%s %s: %v", name, p, err)
			}
		}
	}
	// A link itself may be looked at and removed.
	if stat, err := l.Stat(ctx, root, "file"); err != nil || stat.Link != up+"/secret" {
		t.Errorf("%+v, %v", stat, err)
	}
	if _, err := l.Change(ctx, id(), root, []guest.FileChange{{Path: "file", Kind: guest.ChangeDelete}}); err != nil {
		t.Error(err)
	}
	if found, err := l.Search(ctx, root, guest.SearchOptions{Pattern: "secret"}); err != nil || len(found.Matches) != 0 {
		t.Errorf("searching through links found %+v, %v", found, err)
	}
	want := map[string]string{"secret": "secret", "dir/file": "secret"}
	if diff := cmp.Diff(want, contents(t, outside)); diff != "" {
		t.Error(diff)
	}
}

func TestWriteFile(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	root := tree(t, map[string]string{"run.sh": "old", "real": "old", "link": "-> real", "theirs/": "", "dir/": ""})
	must(t, os.Chmod(filepath.Join(root, "run.sh"), 0o750))
	must(t, os.Chown(filepath.Join(root, "run.sh"), 4711, 4712))
	must(t, os.Chown(filepath.Join(root, "theirs"), 4711, 4712))
	tests := []struct {
		path string
		data string
		mode fs.FileMode
		want guest.Stat
		err  error
	}{
		{path: "run.sh", data: "new", mode: 0o600, want: guest.Stat{Path: "run.sh", Size: 3, Mode: 0o750, UID: 4711, GID: 4712}},
		{path: "new", data: "", want: guest.Stat{Path: "new", Mode: 0o644}},
		{path: "theirs/a/b/c", data: "x", mode: 0o755, want: guest.Stat{Path: "theirs/a/b/c", Size: 1, Mode: 0o755, UID: 4711, GID: 4712}},
		{path: "link", data: "through", want: guest.Stat{Path: "real", Size: 7, Mode: 0o644}},
		{path: "dir", err: fs.ErrInvalid},
		{path: "real/x", err: fs.ErrNotExist},
		{path: ".", err: fs.ErrInvalid},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			stat, err := l.WriteFile(ctx, id(), root, tt.path, []byte(tt.data), tt.mode)
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			stat.ModTime = time.Time{}
			if diff := cmp.Diff(tt.want, stat); diff != "" {
				t.Error(diff)
			}
		})
	}
	want := map[string]string{"run.sh": "new", "real": "through", "link": "-> real", "new": "", "theirs/a/b/c": "x"}
	if diff := cmp.Diff(want, contents(t, root)); diff != "" {
		t.Error(diff)
	}
}

func TestWriteOnce(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	root := t.TempDir()
	op := id()
	for i := range 3 {
		if _, err := l.WriteFile(ctx, op, root, "f", fmt.Append(nil, i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, filepath.Join(root, "f")); got != "0" {
		t.Errorf("the file is %q", got)
	}
	// An error is a result as well.
	bad := id()
	_, first := l.WriteFile(ctx, bad, root, "f/g", nil, 0)
	must(t, os.Remove(filepath.Join(root, "f")))
	_, second := l.WriteFile(ctx, bad, root, "f/g", nil, 0)
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Errorf("first %v, then %v", first, second)
	}
	must(t, l.Forget(ctx, op, bad))
	if _, err := l.WriteFile(ctx, op, root, "f", nil, 0); !errors.Is(err, guest.ErrForgotten) {
		t.Errorf("after Forget: %v", err)
	}
	c := sh("true")
	c.ID = id()
	if _, err := l.Run(ctx, c, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.WriteFile(ctx, c.ID, root, "f", nil, 0); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("with a command's id: %v", err)
	}
}

func edit(path string, edits ...guest.Edit) guest.FileChange {
	return guest.FileChange{Path: path, Kind: guest.ChangeEdit, Edits: edits}
}

func TestChange(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	root := tree(t, map[string]string{"edit": "one two one", "delete": "gone", "move": "moved", "over": "old", "link": "-> over"})
	must(t, os.Chmod(filepath.Join(root, "move"), 0o700))
	op := id()
	changes := []guest.FileChange{
		edit("edit", guest.Edit{Old: "two", New: "2"}, guest.Edit{Old: "one", New: "1", All: true}),
		edit("edit", guest.Edit{Old: "1 2", New: "1, 2"}),
		{Path: "delete", Kind: guest.ChangeDelete},
		{Path: "move", Kind: guest.ChangeMove, To: "sub/moved", Edits: []guest.Edit{{Old: "moved", New: "moved!"}}},
		{Path: "link", Kind: guest.ChangeWrite, Data: []byte("new")},
		{Path: "a/created", Kind: guest.ChangeCreate, Data: []byte("x"), Mode: 0o755},
		edit("a/created", guest.Edit{Old: "x", New: "y"}),
		{Path: "passing", Kind: guest.ChangeWrite, Data: []byte("x")},
		{Path: "passing", Kind: guest.ChangeDelete},
	}
	result, err := l.Change(ctx, op, root, changes)
	if err != nil {
		t.Fatal(err)
	}
	want := guest.ChangeResult{Files: []guest.FileResult{
		{Path: "edit", Existed: true, Exists: true, Mode: 0o644, Matches: 3, Before: []byte("one two one"), After: []byte("1 2 1")},
		{Path: "edit", Existed: true, Exists: true, Mode: 0o644, Matches: 1, Before: []byte("1 2 1"), After: []byte("1, 2 1")},
		{Path: "delete", Existed: true, Mode: 0o644, Before: []byte("gone")},
		{Path: "sub/moved", From: "move", Existed: true, Exists: true, Mode: 0o700, Matches: 1, Before: []byte("moved"), After: []byte("moved!")},
		{Path: "over", Existed: true, Exists: true, Mode: 0o644, Before: []byte("old"), After: []byte("new")},
		{Path: "a/created", Exists: true, Mode: 0o755, After: []byte("x")},
		{Path: "a/created", Existed: true, Exists: true, Mode: 0o755, Matches: 1, Before: []byte("x"), After: []byte("y")},
		{Path: "passing", Exists: true, Mode: 0o644, After: []byte("x")},
		{Path: "passing", Existed: true, Mode: 0o644, Before: []byte("x")},
	}}
	if diff := cmp.Diff(want, result); diff != "" {
		t.Error(diff)
	}
	files := map[string]string{"edit": "1, 2 1", "sub/moved": "moved!", "over": "new", "link": "-> over", "a/created": "y"}
	if diff := cmp.Diff(files, contents(t, root)); diff != "" {
		t.Error(diff)
	}
	again, err := l.Change(ctx, op, root, changes)
	if diff := cmp.Diff(want, again); diff != "" || err != nil {
		t.Errorf("asking again: %v\n%s", err, diff)
	}
	if diff := cmp.Diff(files, contents(t, root)); diff != "" {
		t.Error(diff)
	}
	if stat, err := os.Stat(filepath.Join(root, "sub/moved")); err != nil || stat.Mode() != 0o700 {
		t.Errorf("%v, %v", stat.Mode(), err)
	}
}

func TestChangeAllOrNothing(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	files := map[string]string{"a": "one one", "b": "b", "dir/c": "c", "dir/d": "d", "alias": "-> dir"}
	root := tree(t, files)
	tests := []struct {
		name   string
		change guest.FileChange
		want   error
		says   string
	}{
		{"no match", edit("a", guest.Edit{Old: "one one", New: "x"}, guest.Edit{Old: "two", New: "2"}), guest.ErrMismatch, "edit 2 of 2 in a: the old text is not in the file"},
		{"two matches", edit("a", guest.Edit{Old: "one", New: "1"}), guest.ErrMismatch, "edit 1 of 1 in a: the old text is there 2 times"},
		{"no old text", edit("a", guest.Edit{New: "1"}), guest.ErrMismatch, "no old text"},
		{"no file", edit("none", guest.Edit{Old: "x", New: "y"}), fs.ErrNotExist, "none does not exist"},
		{"delete what is not there", guest.FileChange{Path: "none", Kind: guest.ChangeDelete}, fs.ErrNotExist, "none"},
		{"delete a directory", guest.FileChange{Path: "dir", Kind: guest.ChangeDelete}, fs.ErrInvalid, "directory"},
		{"create what is there", guest.FileChange{Path: "dir/c", Kind: guest.ChangeCreate}, fs.ErrExist, "dir/c"},
		{"move over", guest.FileChange{Path: "a", Kind: guest.ChangeMove, To: "dir/c"}, fs.ErrExist, "dir/c"},
		{"outside", guest.FileChange{Path: "../x", Kind: guest.ChangeWrite}, guest.ErrOutside, "../x"},
		{"below a file", guest.FileChange{Path: "dir/c/x", Kind: guest.ChangeWrite}, nil, "directory"},
		{"unknown kind", guest.FileChange{Path: "a", Kind: "shred"}, fs.ErrInvalid, "shred"},
		{"delete twice, by two names", guest.FileChange{Path: "alias/d", Kind: guest.ChangeDelete}, fs.ErrNotExist, "dir/d"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := l.Change(ctx, id(), root, []guest.FileChange{
				{Path: "b", Kind: guest.ChangeWrite, Data: []byte("changed")},
				{Path: "deep/down/new", Kind: guest.ChangeWrite, Data: []byte("new")},
				{Path: "dir/d", Kind: guest.ChangeDelete},
				tt.change,
			})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff(files, contents(t, root)); diff != "" {
				t.Error(diff)
			}
			if _, err := os.Stat(filepath.Join(root, "deep")); err == nil {
				t.Error("a directory was left behind")
			}
		})
	}
}

func TestListAndGlob(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	root := tree(t, map[string]string{
		"main.go": "x", "a/a.go": "x", "a/b/b.go": "x", "a/b/b.txt": "x", "a/link": "-> b",
		".git/config": "x", "sub/.git": "x", "node_modules/m/index.js": "x", "a/b/build/out": "x", "a/keep.log": "x", "a/x.log": "x",
		".gitignore": "# comment\nnode_modules/\n/build\n*.log\n", "a/.gitignore": "!keep.log\nb/build\n",
	})
	tests := []struct {
		name string
		path string
		opts guest.ListOptions
		want string
	}{
		{"one level", "", guest.ListOptions{}, ".gitignore a main.go sub"},
		{"below", "a", guest.ListOptions{}, "a/.gitignore a/a.go a/b a/keep.log a/link"},
		{"two levels", "a", guest.ListOptions{Depth: 2}, "a/.gitignore a/a.go a/b a/b/b.go a/b/b.txt a/keep.log a/link"},
		{"ignored too", "a", guest.ListOptions{Depth: -1, Ignored: true}, "a/.gitignore a/a.go a/b a/b/b.go a/b/b.txt a/b/build a/b/build/out a/keep.log a/link a/x.log"},
		{"name", ".", guest.ListOptions{Glob: "*.go"}, "a/a.go a/b/b.go main.go"},
		{"path", ".", guest.ListOptions{Glob: "a/**/*.{go,txt}"}, "a/a.go a/b/b.go a/b/b.txt"},
		{"one star", ".", guest.ListOptions{Glob: "a/*.go"}, "a/a.go"},
		{"relative to the directory", "a", guest.ListOptions{Glob: "b/[a-b].go"}, "a/b/b.go"},
		{"limit", ".", guest.ListOptions{Depth: -1, Limit: 3}, ".gitignore a a/.gitignore …"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			listing, err := l.List(ctx, root, tt.path, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range listing.Entries {
				names = append(names, e.Path)
			}
			if listing.Truncated {
				names = append(names, "…")
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	for _, bad := range []string{"{a", "[b-a]", strings.Repeat("x", 2000)} {
		if _, err := l.List(ctx, root, "", guest.ListOptions{Glob: bad}); err == nil {
			t.Errorf("%.20q was taken", bad)
		}
	}
	if _, err := l.List(ctx, root, "none", guest.ListOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSearch(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	root := tree(t, map[string]string{
		"a.go": "package a\n\nfunc Foo() {}\r\nfunc Bar() {}\n", "b/b.txt": "foo\nFoo again\n", "c.bin": "Foo\x00",
		"ignored/x": "Foo", ".gitignore": "ignored", ".git/x": "Foo", "long": strings.Repeat("é", 1000) + "Foo",
	})
	foo := guest.Match{Path: "a.go", Line: 3, Text: "func Foo() {}"}
	again := guest.Match{Path: "b/b.txt", Line: 2, Text: "Foo again"}
	long := guest.Match{Path: "long", Line: 1, Text: strings.Repeat("é", 500)}
	tests := []struct {
		name string
		opts guest.SearchOptions
		want guest.SearchResult
	}{
		{"all", guest.SearchOptions{Pattern: "Foo"}, guest.SearchResult{Matches: []guest.Match{foo, again, long}, Files: 4}},
		{"anchors are a line's", guest.SearchOptions{Pattern: `^func .*\}$`, Limit: 1}, guest.SearchResult{Matches: []guest.Match{foo}, Files: 2, Truncated: true}},
		{"glob", guest.SearchOptions{Pattern: "(?i)^foo", Glob: "*.txt"}, guest.SearchResult{Matches: []guest.Match{{Path: "b/b.txt", Line: 1, Text: "foo"}, again}, Files: 1}},
		{"path", guest.SearchOptions{Pattern: "Foo", Path: "b"}, guest.SearchResult{Matches: []guest.Match{again}, Files: 1}},
		{"file", guest.SearchOptions{Pattern: "Foo", Path: "a.go", Context: 1}, guest.SearchResult{Matches: []guest.Match{{Path: "a.go", Line: 3, Text: "func Foo() {}", Before: []string{""}, After: []string{"func Bar() {}"}}}, Files: 1}},
		{"ignored", guest.SearchOptions{Pattern: "^Foo$", Ignored: true}, guest.SearchResult{Matches: []guest.Match{{Path: "ignored/x", Line: 1, Text: "Foo"}}, Files: 5}},
		{"nothing", guest.SearchOptions{Pattern: "nowhere"}, guest.SearchResult{Matches: []guest.Match{}, Files: 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := l.Search(ctx, root, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if tt.want.Truncated {
				got.Files = tt.want.Files
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := l.Search(ctx, root, guest.SearchOptions{Pattern: "("}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a bad pattern: %v", err)
	}
}

func TestBounds(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 60*time.Second)
	root := t.TempDir()
	for i := range 2500 {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprintf("%04d", i)), []byte("match\n"), 0o644))
	}
	listing, err := l.List(ctx, root, "", guest.ListOptions{})
	if err != nil || len(listing.Entries) != 1000 || !listing.Truncated {
		t.Errorf("%d entries, %v, %v", len(listing.Entries), listing.Truncated, err)
	}
	found, err := l.Search(ctx, root, guest.SearchOptions{Pattern: "match", Limit: 1 << 40})
	if err != nil || len(found.Matches) != 2000 || !found.Truncated {
		t.Errorf("%d matches, %v, %v", len(found.Matches), found.Truncated, err)
	}
	large := make([]byte, 17<<20)
	if _, err := l.WriteFile(ctx, id(), root, "large", large, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Change(ctx, id(), root, []guest.FileChange{edit("large", guest.Edit{Old: "x", New: "y"})}); !errors.Is(err, guest.ErrTooLarge) {
		t.Errorf("editing a large file: %v", err)
	}
	result, err := l.Change(ctx, id(), root, []guest.FileChange{{Path: "large", Kind: guest.ChangeWrite, Data: make([]byte, 300<<10)}})
	if err != nil || !result.Files[0].Truncated || result.Files[0].After != nil {
		t.Errorf("%v, truncated %v", err, result.Files)
	}
	tooLarge := make([]byte, guest.MaxWrite+1)
	if _, err := l.WriteFile(ctx, id(), root, "f", tooLarge, 0); !errors.Is(err, guest.ErrTooLarge) {
		t.Errorf("writing too much: %v", err)
	}
	if _, err := l.Change(ctx, id(), root, []guest.FileChange{{Path: "f", Kind: guest.ChangeWrite, Data: tooLarge}}); !errors.Is(err, guest.ErrTooLarge) {
		t.Errorf("changing too much: %v", err)
	}
}

func TestSameOpAtOnce(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	root := tree(t, map[string]string{"f": "x"})
	op := id()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			result, err := l.Change(ctx, op, root, []guest.FileChange{edit("f", guest.Edit{Old: "x", New: "xx"})})
			if err != nil || len(result.Files) != 1 || string(result.Files[0].After) != "xx" {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
	all.Wait()
	if got := read(t, filepath.Join(root, "f")); got != "xx" {
		t.Errorf("the file is %q", got)
	}
}
