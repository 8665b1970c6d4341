package cli

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
)

var update = flag.Bool("update", false, "write what is shown into the golden files")

// What people are shown of a journal with something of every kind.
func TestTranscript(t *testing.T) {
	events := readEvents(t, "testdata/journal.jsonl")
	for name, whole := range map[string]bool{"transcript.golden": false, "transcript-whole.golden": true} {
		var out strings.Builder
		tr := newTranscript(&out, style{}, nil, whole)
		for _, e := range events {
			tr.Event(e)
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), out.String()); diff != "" {
			t.Errorf("%s (-update writes it): %s", name, diff)
		}
		if strings.ContainsAny(out.String(), "\x1b\a\r") {
			t.Errorf("%s: what a machine printed can steer the terminal", name)
		}
	}
}

func readEvents(t *testing.T, path string) []errand.Event {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []errand.Event
	for line := range strings.Lines(string(text)) {
		var e errand.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		e.Run = "run-00000000-0000-0000-0000-000000000001"
		all = append(all, e)
	}
	return all
}

// The status line never stands in the way of what is written.
func TestStatusLine(t *testing.T) {
	var out strings.Builder
	s := newStatus(&out, style{})
	s.Set("working")
	s.mu.Lock()
	s.drawLocked()
	s.mu.Unlock()
	s.Write([]byte("a line\n"))
	s.Set("")
	s.mu.Lock()
	s.drawLocked()
	s.mu.Unlock()
	s.Close()
	if got := out.String(); !strings.Contains(got, "\r\x1b[Ka line\n") || strings.HasSuffix(got, "working") {
		t.Errorf("the terminal got %q", got)
	}
	var none *status
	none.Set("nothing")
	none.Close()
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 12 * time.Millisecond: "12 ms", 3400 * time.Millisecond: "3.4 s",
		125 * time.Second: "2m 05s", 3*time.Hour + 20*time.Minute: "3h 20m",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%d) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	if got := clip("ä\n b\x1b[31m  c", 100); got != "ä b[31m c" {
		t.Errorf("clip = %q", got)
	}
	if got := clip("äöüäöü", 4); got != "äöü…" {
		t.Errorf("clip = %q", got)
	}
	if got := cutLines("1\n2\n3\n4\n5\n6\n", 1, 2); got != "1\n… 3 lines more\n5\n6" {
		t.Errorf("cutLines = %q", got)
	}
}

func TestAmounts(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1024": 1024, "512M": 512 << 20, "4G": 4 << 30, "4gib": 4 << 30, "1.5k": 1536, "1T": 1 << 40} {
		if got, err := bytesOf("--memory", text); err != nil || got != want {
			t.Errorf("bytesOf(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"G", "-1", "x", "1X", "0", "9999999T", "1 G G"} {
		if _, err := bytesOf("--memory", bad); err == nil {
			t.Errorf("bytesOf(%q) is no error", bad)
		}
	}
}

func TestLocalPath(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for repo, want := range map[string]string{
		".": here, "./a": filepath.Join(here, "a"), "/srv/a.git": "/srv/a.git", "a:b/c": "a:b/c",
		"https://x/y": "https://x/y", "git@host:org/app.git": "git@host:org/app.git", "./odd:name": filepath.Join(here, "odd:name"),
	} {
		if got := localPath(repo); got != want {
			t.Errorf("localPath(%q) = %q, want %q", repo, got, want)
		}
	}
}
