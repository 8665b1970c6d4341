package tool

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/errand-dev/errand/secret"
)

func TestCutMiddle(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	got, cut := cutMiddle(b.String(), 200, func(n int) string { return fmt.Sprintf("[%d]", n) })
	head, tail, ok := strings.Cut(got, fmt.Sprintf("[%d]\n", cut))
	if !ok || !strings.HasPrefix(head, "line 0\n") || !strings.HasSuffix(head, "\n") ||
		!strings.HasPrefix(tail, "line ") || !strings.HasSuffix(tail, "line 999\n") {
		t.Errorf("wrong cut:\n%s", got)
	}
	if len(head)+len(tail)+cut != b.Len() {
		t.Errorf("%d bytes are said to be cut, but %d are", cut, b.Len()-len(head)-len(tail))
	}
}

// Whatever the text: both ends stay, no character is broken, the bound holds.
func TestCutMiddleHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := strings.ReplaceAll(rapid.String().Draw(t, "s"), "\x00", "")
		bound := rapid.IntRange(8, 64).Draw(t, "bound")
		got, cut := cutMiddle(s, bound, func(int) string { return "\x00" })
		if cut == 0 {
			if got != s {
				t.Fatalf("changed %q into %q without saying so", s, got)
			}
			return
		}
		head, tail, _ := strings.Cut(got, "\x00\n")
		if !strings.HasPrefix(s, strings.TrimSuffix(head, "\n")) || !strings.HasSuffix(s, tail) {
			t.Fatalf("%q is not the ends of %q", got, s)
		}
		if len(head)+len(tail) > bound+1 || utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Fatalf("%q passes %d bytes or is broken", got, bound)
		}
	})
}

func TestPlain(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain\ttext\n", "plain\ttext\n"},
		{"\x1b[1;31mred\x1b[0m and \x1b]0;title\x07rest", "red and rest"},
		{"10%\r50%\r100%\ndone\r\n", "100%\ndone\n"},
		{"bad \xff byte", "bad \uFFFD byte"},
		{"bell\a null\x00", "bell null"},
		{"\x1b[?25l\x1b(Bx\x1b=", "x"},
	}
	for _, test := range tests {
		if got := Plain(test.in); got != test.want {
			t.Errorf("Plain(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestColoured(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain\n", ""},
		{"\x1b[?25l\x1b]0;title\x07no colour", ""},
		{"\x1b[1;31mred\x1b[0m and \x1b]0;title\x07rest\r\n", "\x1b[1;31mred\x1b[0m and rest\n"},
		{"\x1b[2J\x1b[38:5:9mred\x1b[m\a", "\x1b[38:5:9mred\x1b[m"},
	}
	for _, test := range tests {
		if got := coloured(test.in); got != test.want {
			t.Errorf("coloured(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// A secret is hidden wherever the page or a line ends.
func TestPageHides(t *testing.T) {
	token, key := "ghp_"+strings.Repeat("T0k3n", 8), "-----BEGIN KEY-----\n"+strings.Repeat("c2VjcmV0IQ\n", 6)+"-----END KEY-----\n"
	redactor := &secret.Redactor{}
	redactor.Add(token, key)
	content := "one\n" + strings.Repeat("x", 1980) + token + strings.Repeat("y", 30_000) + token + "\n" + key + "last\n"
	lines := strings.Count(content, "\n")
	for first := 1; first <= lines; first++ {
		for most := 1; most <= lines; most++ {
			for _, piece := range []int{1000, 1 << 20} {
				p := page{first: first, most: most, bound: 1 << 20}
				for rest, done := []byte(content), false; !done && len(rest) > 0; {
					n := min(piece, len(rest))
					done = p.take(rest[:n:n], n == len(rest))
					rest = rest[n:]
				}
				got := p.text(redactor)
				if strings.Contains(got, "ghp") || strings.Contains(got, "c2Vj") {
					t.Fatalf("lines %d and %d more show a part of a secret:\n%s", first, most, got)
				}
				if end := min(first+most-1, lines); !strings.Contains(got, fmt.Sprintf("%6d|", end)) || end == lines && !strings.HasSuffix(got, "|last\n") {
					t.Errorf("lines %d to %d are shown as\n%s", first, end, got)
				}
			}
		}
	}
}

func TestPage(t *testing.T) {
	content := "one\ntwo\n" + strings.Repeat("x", 5000) + "\nfour\nfive"
	tests := []struct {
		name        string
		first, most int
		piece       int // the file comes in pieces of this size
		want        string
		more        bool
	}{
		{"all", 1, 10, 1 << 20, "     1|one\n     2|two\n     3|" + strings.Repeat("x", 2000) + " [… the line is longer]\n     4|four\n     5|five\n", false},
		{"all in small pieces", 1, 10, 7, "     1|one\n     2|two\n     3|" + strings.Repeat("x", 2000) + " [… the line is longer]\n     4|four\n     5|five\n", false},
		{"some", 2, 1, 3, "     2|two\n", true},
		{"the end", 4, 2, 1000, "     4|four\n     5|five\n", false},
		{"past the end", 6, 2, 1000, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := page{first: test.first, most: test.most, bound: 1 << 20}
			for rest, done := []byte(content), false; !done && len(rest) > 0; {
				n := min(test.piece, len(rest))
				done = p.take(rest[:n:n], n == len(rest))
				rest = rest[n:]
			}
			if got := p.text(&secret.Redactor{}); got != test.want || p.more() != test.more {
				t.Errorf("got %q, more %v; want %q, more %v", got, p.more(), test.want, test.more)
			}
		})
	}
}
