package git

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	secrets "github.com/errand-dev/errand/secret"
)

const hidden = "hunter2-is-a-long-value"

// guarded gives the guard of one secret.
func guarded() (*Guard, error) {
	f := secrets.NewFinder(map[string][]string{"TOKEN": {hidden}})
	return &Guard{Hide: f.Hide, Find: func(r io.Reader) ([]Found, error) {
		found, err := f.Find(r)
		var all []Found
		for _, x := range found {
			all = append(all, Found(x))
		}
		return all, err
	}}, nil
}

// zipped gives text compressed.
func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPushWithSecret pushes a secret in each place where a push can carry one.
func TestPushWithSecret(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	big := strings.Repeat("a line of a large file that is packed as a delta\n", 20_000)
	write(t, filepath.Join(clone, "big.txt"), big)
	write(t, filepath.Join(clone, "known.txt"), "it was here before: "+hidden+"\n")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "second")
	git(t, clone, "push", "-q", "origin", "main")
	m := newMirrors(t, Options{})
	tests := []struct {
		name  string
		files map[string]string
		then  [][]string // git, after the files are committed
		want  string     // in what git printed; "" is a push that goes through
	}{
		{"nothing", map[string]string{"a.txt": "harmless\n"}, nil, ""},
		{"file", map[string]string{"dir/a.txt": "one\ntwo " + hidden + "\n"}, nil, "dir/a.txt, line 2 in commit "},
		{"delta", map[string]string{"big.txt": big + "\n" + hidden + "\n"}, nil, "big.txt, line 20002 in commit "},
		{"wrapped", map[string]string{"a.txt": hidden[:9] + "\n   " + hidden[9:] + "\n"}, nil, "a.txt, line 1 in commit "},
		{"name of a file", map[string]string{"x-" + hidden + ".txt": "x\n"}, nil, `the name of a file in the folder "."`},
		{"message", map[string]string{"a.txt": "x\n"}, [][]string{{"commit", "-q", "--amend", "-m", "it is " + hidden}}, "the message of commit "},
		{"taken out on top", map[string]string{"a.txt": hidden}, [][]string{{"rm", "-q", "a.txt"}, {"commit", "-q", "-m", "away"}}, "a.txt, line 1 in commit "},
		{"gzip", map[string]string{"a.gz": zipped(t, "one\n"+hidden+"\n")}, nil, "a.gz, in what it has compressed in commit "},
		{"was there before", map[string]string{"known.txt": "changed\nit was here before: " + hidden + "\n"}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			branch := "errand/" + strings.ReplaceAll(tt.name, " ", "-")
			box, p := working(t, m, Grant{URL: bare, Branch: branch, AllowForce: true, Guard: guarded})
			for name, content := range tt.files {
				box.commit(name, content)
			}
			if strings.Contains(tt.name, "name of") { // whose commit's message would say it too
				box.mustGit("commit", "-q", "--amend", "-m", "a file")
			}
			for _, args := range tt.then {
				box.mustGit(args...)
			}
			out, err := box.git("push", "origin", "HEAD:"+branch)
			if tt.want == "" {
				if err != nil {
					t.Fatalf("the push is refused:\n%s", out)
				}
				if got, want := git(t, bare, "rev-parse", branch), box.mustGit("rev-parse", "HEAD"); got != want {
					t.Errorf("the remote has %s, want %s", got, want)
				}
				box.commit("more.txt", "more\n") // what was let in can be built upon
				box.mustGit("push", "origin", "HEAD:"+branch)
				return
			}
			if err == nil || !strings.Contains(out, tt.want) || !strings.Contains(out, "the secret TOKEN") || !strings.Contains(out, "git reset --soft ") {
				t.Errorf("err %v\n%s\nwant %q in it", err, out, tt.want)
			}
			if strings.Contains(out, hidden) {
				t.Errorf("git was told the secret:\n%s", out)
			}
			if told := p.take(); len(told) != 1 || told[0].Refused == "" || strings.Contains(told[0].Refused, hidden) {
				t.Errorf("recorded %+v", told)
			}
			if refs := git(t, bare, "for-each-ref"); strings.Contains(refs, branch) {
				t.Errorf("the remote has\n%s", refs)
			}
			left, err := filepath.Glob(filepath.Join(m.options.Dir, "*", "*", "*", "quarantine"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind are %v, %v", left, err)
			}
		})
	}
}

// TestKnownLeaksHideNone touches more files that held the secret before than are
// told of one push; the new one behind them is seen all the same.
func TestKnownLeaksHideNone(t *testing.T) {
	t.Parallel()
	bare, clone := newRemote(t)
	known := func(dir, what string) {
		for i := range mostLeaks + 1 {
			write(t, filepath.Join(dir, fmt.Sprintf("known-%d.txt", i)), fmt.Sprintln(what, i, hidden))
		}
	}
	known(clone, "first")
	git(t, clone, "add", ".")
	git(t, clone, "commit", "-q", "-m", "second")
	git(t, clone, "push", "-q", "origin", "main")
	m := newMirrors(t, Options{})
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch, Guard: guarded})
	known(box.dir, "changed")
	box.commit("z-leak.txt", hidden+"\n")
	out, err := box.git("push", "origin", "HEAD:"+ownBranch)
	if err == nil || !strings.Contains(out, "z-leak.txt, line 1 in commit ") || strings.Contains(out, "known-") {
		t.Errorf("err %v\n%s", err, out)
	}
}

// TestNamesAreBounded: a name without an end is not kept, and not read again and
// again.
func TestNamesAreBounded(t *testing.T) {
	for _, tt := range []struct {
		length int
		want   error
	}{{10, nil}, {maxName - 100, nil}, {maxName + 1, errName}, {20 << 20, errName}} {
		long := strings.Repeat("n", tt.length)
		tree := strings.NewReader("100644 first\x00" + strings.Repeat("i", 20) + "100644 " + long + "\x00" + strings.Repeat("i", 20))
		got, err := io.ReadAll(&treeNames{r: bufio.NewReader(tree), id: 20})
		if want := "first\x00" + long + "\x00"; !errors.Is(err, tt.want) || err == nil && string(got) != want {
			t.Errorf("a name of %d bytes in a tree: %d bytes of %d, %v", tt.length, len(got), len(want), err)
		}
		names := make(chan string, 3)
		var ids strings.Builder
		l := &listing{ctx: t.Context(), names: names, ids: &ids}
		_, err = io.CopyBuffer(struct{ io.Writer }{l}, strings.NewReader("id0\nid1 first\nid2 "+long+"\n"), make([]byte, 100))
		close(names)
		var told []string
		for name := range names {
			told = append(told, name)
		}
		want := []string{"", "first", long}
		if tt.want != nil {
			want = want[:2]
		}
		if !errors.Is(err, tt.want) || !slices.Equal(told, want) || err == nil && ids.String() != "id0\nid1\nid2\n" {
			t.Errorf("a name of %d bytes in a list: %d names, %q, %v", tt.length, len(told), ids.String(), err)
		}
		if cap(l.rest) > 2*maxName {
			t.Errorf("%d bytes are kept", cap(l.rest))
		}
	}
}

// TestManyLeaks is told of some, and ends.
func TestManyLeaks(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch, Guard: guarded})
	for i := range 3000 {
		write(t, filepath.Join(box.dir, fmt.Sprintf("f%04d.txt", i)), fmt.Sprint(i, " ", hidden, "\n"))
	}
	box.commit("last.txt", "x\n")
	out, err := box.git("push", "origin", "HEAD:"+ownBranch)
	if err == nil || strings.Count(out, ": the secret TOKEN") != mostLeaks || !strings.Contains(out, "and there are 4 more") {
		t.Errorf("err %v\n%s", err, out)
	}
}

// TestGuardThatCannotTell lets nothing through.
func TestGuardThatCannotTell(t *testing.T) {
	t.Parallel()
	bare, _ := newRemote(t)
	m := newMirrors(t, Options{})
	box, _ := working(t, m, Grant{URL: bare, Branch: ownBranch, Guard: func() (*Guard, error) { return nil, errors.New("the key is away; try again later") }})
	box.commit("a.txt", "x\n")
	out, err := box.git("push", "origin", "HEAD:"+ownBranch)
	if err == nil || !strings.Contains(out, "the key is away; try again later") {
		t.Errorf("err %v\n%s", err, out)
	}
}
