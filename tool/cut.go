package tool

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// DefaultOutputBound is how many bytes of output the model is shown.
const DefaultOutputBound = 30 << 10

// cutMiddle shortens s to about bound bytes. The beginning and the end stay,
// because commands say at the one what they do and at the other how it went;
// note, which gets the number of bytes taken out, stands between them. Whole
// lines are kept where that costs little. cut is 0 if s was short enough.
func cutMiddle(s string, bound int, note func(cut int) string) (short string, cut int) {
	if len(s) <= bound {
		return s, 0
	}
	head := headOf(s, bound/3)
	tail := tailOf(s[len(head):], bound-bound/3)
	cut = len(s) - len(head) - len(tail)
	var b strings.Builder
	b.WriteString(head)
	if !strings.HasSuffix(head, "\n") {
		b.WriteByte('\n')
	}
	b.WriteString(note(cut))
	b.WriteByte('\n')
	b.WriteString(tail)
	return b.String(), cut
}

// headOf gives the first n bytes of s, less what would break a line or at least
// a character.
func headOf(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	if i := strings.LastIndexByte(s[:n], '\n'); i >= n/2 {
		return s[:i+1]
	}
	return s[:n]
}

// tailOf gives the last n bytes of s likewise.
func tailOf(s string, n int) string {
	if n >= len(s) {
		return s
	}
	from := len(s) - n
	for from < len(s) && !utf8.RuneStart(s[from]) {
		from++
	}
	if i := strings.IndexByte(s[from:], '\n'); i >= 0 && i < n/2 && from+i+1 < len(s) {
		return s[from+i+1:]
	}
	return s[from:]
}

// escapes are the sequences by which a program colours its output, moves the
// cursor or names the window.
var escapes = regexp.MustCompile("\x1b(?:\\[[0-9;:?<=>!]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[()#][0-9A-Za-z]|[@-Z\\\\-_=>78])")

// colour is an escape that sets how the text after it looks (SGR, ECMA-48
// 8.3.117).
var colour = regexp.MustCompile("^\x1b\\[[0-9;:]*m$")

// Plain makes a program's output into what a person would see of it as text:
// no colours, and of a progress line that overwrites itself only the last state.
func Plain(s string) string {
	return strings.ReplaceAll(seen(s, func(string) string { return "" }), "\x1b", "")
}

// coloured is plain with the colours, "" where there are none.
func coloured(s string) string {
	found := false
	s = seen(s, func(escape string) string {
		if !colour.MatchString(escape) {
			return ""
		}
		found = true
		return escape
	})
	if !found {
		return ""
	}
	return s
}

// seen makes output into what a person would see of it; keep gives what is left
// of an escape.
func seen(s string, keep func(escape string) string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexByte(s, 0x1b) >= 0 {
		s = escapes.ReplaceAllStringFunc(s, keep)
	}
	s = strings.ReplaceAll(s, "\r\n", "\n")
	if strings.IndexByte(s, '\r') >= 0 {
		lines := strings.Split(s, "\n")
		for i, line := range lines {
			lines[i] = overwritten(line)
		}
		s = strings.Join(lines, "\n")
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' && r != 0x1b || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// overwritten gives the last state of a line that carriage returns rewrite.
func overwritten(line string) string {
	line = strings.TrimRight(line, "\r")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 {
		return line[i+1:]
	}
	return line
}

// count writes a number with its noun: "1 line", "12 lines".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "ch") {
		noun += "e"
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
