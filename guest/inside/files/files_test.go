package files

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/guest/wire"
)

// in gives a call in a fresh folder.
func in(t *testing.T, input io.Reader) (*call, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	var out bytes.Buffer
	return &call{ctx: t.Context(), root: root, dir: dir, path: ".", most: 1 << 20, in: input, out: &out, format: "tar"}, &out
}

func code(err error) string {
	var f *wire.Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

// TestWholeOnly takes an input in pieces of every size, and never one that is cut
// off or too long.
func TestWholeOnly(t *testing.T) {
	for size := range 5 {
		for _, text := range []string{"", "a", "ab", "abcdefg", "....."} {
			c, _ := in(t, &pieces{[]byte(text + "."), size + 1})
			c.path = "x/y"
			if err := c.put(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(c.dir, "x/y")); err != nil || string(got) != text {
				t.Errorf("%q in pieces of %d became %q, %v", text, size+1, got, err)
			}
		}
	}
	for name, input := range map[string]string{"cut off": "abc", "nothing": "", "too long": strings.Repeat("x", 2<<20) + "."} {
		c, _ := in(t, strings.NewReader(input))
		c.path = "file"
		if err := os.WriteFile(filepath.Join(c.dir, "file"), []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := c.put(); err == nil {
			t.Errorf("%s was taken", name)
		}
		entries, err := os.ReadDir(c.dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("%s left %v, %v", name, entries, err)
		}
		if got, err := os.ReadFile(filepath.Join(c.dir, "file")); err != nil || string(got) != "before" {
			t.Errorf("%s left %q, %v", name, got, err)
		}
	}
}

// pieces gives its bytes a few at a time.
type pieces struct {
	left []byte
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.left)
	p.left = p.left[n:]
	return n, nil
}

// TestEnded ends the program in the middle of its input: nothing is left.
func TestEnded(t *testing.T) {
	program := guesttest.Program(t, "errand-guest")
	for _, what := range []string{"put", "unpack"} {
		dir := t.TempDir()
		cmd := exec.Command(program, "files", what, "-root", dir, "-path", "x")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(make([]byte, 100_000)); err != nil { // more than a pipe holds: it is being read
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%s ended well", what)
		}
		if found, err := filepath.Glob(filepath.Join(dir, "*", ".errand-*")); err != nil || len(found) > 0 {
			t.Errorf("%s left %q, %v", what, found, err)
		}
		if found, err := filepath.Glob(filepath.Join(dir, ".errand-*")); err != nil || len(found) > 0 {
			t.Errorf("%s left %q, %v", what, found, err)
		}
	}
}

// TestMatch writes only over what the caller knows.
func TestMatch(t *testing.T) {
	c, out := in(t, strings.NewReader("one."))
	c.path, c.match = "file", "-"
	if err := c.put(); err != nil {
		t.Fatal(err)
	}
	var stat wire.Stat
	if err := json.Unmarshal(out.Bytes(), &stat); err != nil || stat.Size != 3 {
		t.Fatalf("it says %s, %v", out, err)
	}
	c.in = strings.NewReader("two.")
	if err := c.put(); code(err) != wire.CodeMismatch {
		t.Errorf("a new file over one that is there: %v", err)
	}
	c.in, c.match = strings.NewReader("three."), wire.Tag(stat.Size, stat.ModTime)
	if err := c.put(); err != nil {
		t.Errorf("over what is known: %v", err)
	}
	c.in = strings.NewReader("four.")
	if err := c.put(); code(err) != wire.CodeMismatch {
		t.Errorf("over what was changed: %v", err)
	}
}

// TestBomb refuses an archive that becomes too large, and leaves nothing.
func TestBomb(t *testing.T) {
	c, archive := in(t, nil)
	if err := os.WriteFile(filepath.Join(c.dir, "zeros"), make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"tar.gz", "zip"} {
		archive.Reset()
		c.path, c.format = "zeros", format
		if err := c.pack(); err != nil {
			t.Fatal(err)
		}
		into, _ := in(t, io.MultiReader(archive, strings.NewReader(".")))
		if err := into.unpack(); code(err) != wire.CodeTooLarge {
			t.Errorf("%s: %v", format, err)
		}
		if entries, err := os.ReadDir(into.dir); err != nil || len(entries) > 0 {
			t.Errorf("%s left %v, %v", format, entries, err)
		}
	}
}

// TestPoll sees changes without the system's help.
func TestPoll(t *testing.T) {
	c, _ := in(t, nil)
	stop, end := io.Pipe()
	lines, out := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.ctx, c.in, c.out, c.poll = ctx, stop, out, true
	done := make(chan error, 1)
	go func() { done <- c.watch() }()
	told := json.NewDecoder(lines)
	var change Changes
	if err := told.Decode(&change); err != nil || len(change.Paths) > 0 {
		t.Fatalf("it begins with %+v, %v", change, err)
	}
	if err := os.MkdirAll(filepath.Join(c.dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "a/b/c"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for seen := ""; !strings.Contains(seen, " a/b/c"); seen += " " + strings.Join(change.Paths, " ") {
		if err := told.Decode(&change); err != nil {
			t.Fatal(err)
		}
	}
	end.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
