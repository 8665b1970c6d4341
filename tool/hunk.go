package tool

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// text is a file as lines without their newlines.
type text struct {
	lines []string // a carriage return at the end stays part of the line
	crlf  bool     // most lines have one
	open  bool     // the last line has no newline
}

func splitLines(s string) text {
	if s == "" {
		return text{}
	}
	t := text{open: !strings.HasSuffix(s, "\n")}
	t.lines = strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	returns := 0
	for _, l := range t.lines {
		if strings.HasSuffix(l, "\r") {
			returns++
		}
	}
	t.crlf = returns*2 > len(t.lines)
	return t
}

func (t text) String() string {
	if len(t.lines) == 0 {
		return ""
	}
	s := strings.Join(t.lines, "\n")
	if !t.open {
		s += "\n"
	}
	return s
}

// How alike two lines must be. Each is wider than the one before.
func sameExact(file, patch string) bool { return file == patch }

func sameTrailing(file, patch string) bool {
	return strings.TrimRight(file, " \t\r") == strings.TrimRight(patch, " \t\r")
}

// typographic are characters that models write in place of plain ones, or the
// other way round.
var typographic = strings.NewReplacer(
	"\u2010", "-", "\u2011", "-", "\u2012", "-", "\u2013", "-", "\u2014", "-", "\u2212", "-",
	"\u2018", "'", "\u2019", "'", "\u201c", `"`, "\u201d", `"`, "\u00a0", " ", "\u202f", " ",
)

func samePunctuation(file, patch string) bool {
	return sameTrailing(file, patch) || sameTrailing(typographic.Replace(file), typographic.Replace(patch))
}

func sameTrimmed(file, patch string) bool { return strings.TrimSpace(file) == strings.TrimSpace(patch) }

// findLines gives every index at which want stands in lines.
func findLines(lines, want []string, same func(file, patch string) bool) []int {
	var found []int
	for i := 0; len(want) > 0 && i+len(want) <= len(lines); i++ {
		if slices.EqualFunc(lines[i:i+len(want)], want, same) {
			found = append(found, i)
		}
	}
	return found
}

// splice replaces lines[from:to] of a file by its own lines.
type splice struct {
	from, to int
	lines    []string
	hunk     int
}

// applyHunks applies hunks to a file's content. White space at the ends of
// lines, typographic characters, a common difference in indentation, and up to
// two outer lines of context may differ; but each hunk must fit in one place
// only, and errors say of each that does not what is the matter.
func applyHunks(content string, hunks []hunk) (string, error) {
	t := splitLines(content)
	var splices []splice
	var faults []string
	cursor := 0
	for i, h := range hunks {
		s, err := h.place(t, cursor)
		if err != nil {
			faults = append(faults, fmt.Sprintf("hunk %d (line %d of the patch) %v", i+1, h.at, err))
			continue
		}
		s.hunk = i + 1
		splices = append(splices, s)
		cursor = s.to
	}
	if len(faults) > 0 {
		return "", misuse(strings.Join(faults, "\n"))
	}
	return t.spliced(splices, hunks)
}

// spliced puts the new lines in.
func (t text) spliced(splices []splice, hunks []hunk) (string, error) {
	slices.SortStableFunc(splices, func(a, b splice) int { return cmp.Compare(a.from, b.from) })
	empty := len(t.lines) == 0
	var out []string
	at := 0
	for i, s := range splices {
		if s.from < at {
			return "", misusef("hunks %d and %d change the same lines", splices[i-1].hunk, s.hunk)
		}
		out = append(append(out, t.lines[at:s.from]...), s.lines...)
		at = s.to
		h := hunks[s.hunk-1]
		if s.to == len(t.lines) && (h.oldOpen || h.newOpen) {
			t.open = h.newOpen
		}
	}
	t.lines = append(out, t.lines[at:]...)
	t.open = t.open && !empty
	return t.String(), nil
}

// old gives the lines that the hunk wants to find.
func (h hunk) old() []string {
	var old []string
	for _, l := range h.lines {
		if l.op != '+' {
			old = append(old, l.text)
		}
	}
	return old
}

// place finds where the hunk belongs and works out the lines to stand there.
// What comes before cursor belongs to the hunks before it, and is looked at only
// when the rest has no place.
func (h hunk) place(t text, cursor int) (splice, error) {
	starts, err := h.starts(t, cursor)
	if err != nil {
		return splice{}, err
	}
	if len(h.old()) == 0 {
		return h.insertion(t, starts)
	}
	var near error
	for fuzz := 0; fuzz <= 2; fuzz++ {
		g, ok := h.without(fuzz)
		if !ok {
			break
		}
		for _, level := range levels {
			found := g.candidates(t, starts, level.same)
			if len(found) == 0 {
				continue
			}
			if len(found) > 1 {
				return splice{}, ambiguous(found)
			}
			s, err := g.splice(t, found[0], level.indent)
			if err == nil {
				return s, nil
			}
			near = err
		}
	}
	if near != nil {
		return splice{}, near
	}
	return splice{}, h.missing(t)
}

var levels = []struct {
	same   func(file, patch string) bool
	indent bool // the indentation is to be carried over to added lines
}{
	{sameExact, false}, {sameTrailing, false}, {samePunctuation, false}, {sameTrimmed, true},
}

// starts gives the indices from which on the hunk may stand: after its header
// lines, wherever these are.
func (h hunk) starts(t text, cursor int) ([]int, error) {
	if len(h.headers) == 0 {
		return []int{cursor}, nil
	}
	starts := []int{cursor}
	for _, header := range h.headers {
		var next []int
		for _, s := range starts {
			for i := s; i < len(t.lines); i++ {
				if sameTrimmed(t.lines[i], header) {
					next = append(next, i+1)
				}
			}
		}
		slices.Sort(next)
		if starts = slices.Compact(next); len(starts) == 0 {
			starts = h.looseHeader(t, header)
		}
		if len(starts) == 0 {
			return nil, fmt.Errorf("does not fit: its @@ line %q is not in the file after the hunk before", header)
		}
	}
	return starts, nil
}

// looseHeader finds a header that is only the beginning of its line ("func
// greet"), or that comes before the hunk in front of this one.
func (h hunk) looseHeader(t text, header string) []int {
	var starts []int
	for i, line := range t.lines {
		if strings.HasPrefix(strings.TrimSpace(line), strings.TrimSpace(header)) {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// candidates gives the places that are possible, one if it is clear.
func (h hunk) candidates(t text, starts []int, same func(file, patch string) bool) []int {
	all := findLines(t.lines, h.old(), same)
	if h.end {
		all = slices.DeleteFunc(all, func(i int) bool { return i+len(h.old()) != len(t.lines) })
	}
	if h.line >= 0 && slices.Contains(all, h.line-1) {
		return []int{h.line - 1}
	}
	var found []int
	for _, s := range starts {
		after := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return i < s })
		if len(h.headers) > 0 && len(after) > 1 {
			after = after[:1] // the first below its header
		}
		found = append(found, after...)
	}
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 0 {
		return all
	}
	return found
}

// insertion places a hunk that only adds.
func (h hunk) insertion(t text, starts []int) (splice, error) {
	at := -1
	switch {
	case len(t.lines) == 0:
		at = 0
	case h.end:
		at = len(t.lines)
	case h.line >= 0 && h.line <= len(t.lines):
		at = h.line
	case len(h.headers) > 0 && len(starts) > 1:
		return splice{}, ambiguous(starts)
	case len(h.headers) > 0:
		at = starts[0]
	default:
		return splice{}, fmt.Errorf("only adds lines and does not say where; give it lines of context")
	}
	return h.splice(t, at, false)
}

// without gives the hunk with up to n lines of context less at each end.
func (h hunk) without(n int) (hunk, bool) {
	lines := h.lines
	for i := 0; i < n && len(lines) > 0 && lines[0].op == ' '; i++ {
		lines = lines[1:]
		if h.line > 0 {
			h.line++
		}
	}
	for i := 0; i < n && len(lines) > 0 && lines[len(lines)-1].op == ' '; i++ {
		lines = lines[:len(lines)-1]
	}
	if n > 0 && len(lines) == len(h.lines) {
		return h, false
	}
	h.lines = lines
	// What is left must still say where it belongs.
	solid := slices.ContainsFunc(h.old(), func(l string) bool { return len(strings.TrimSpace(l)) > 1 })
	return h, n == 0 || solid
}

// splice works out the new lines for the place at. Context stays as the file
// has it.
func (h hunk) splice(t text, at int, indent bool) (splice, error) {
	s := splice{from: at, to: at}
	var in indentation
	if indent {
		var err error
		if in, err = learnIndent(t.lines[at:at+len(h.old())], h.old()); err != nil {
			return s, err
		}
	}
	for _, l := range h.lines {
		if l.op != '+' {
			if l.op == ' ' {
				s.lines = append(s.lines, t.lines[s.to])
			}
			s.to++
			continue
		}
		line := l.text
		if indent {
			var ok bool
			if line, ok = in.apply(line); !ok {
				return s, wrongIndent(t.lines[at : at+len(h.old())])
			}
		}
		if t.crlf && !strings.HasSuffix(line, "\r") {
			line += "\r"
		}
		s.lines = append(s.lines, line)
	}
	return s, nil
}

// indentation turns lines as the patch indents them into lines as the file does.
type indentation struct {
	known    map[string]string // from the lines that both have
	add, cut string            // what all of these have more, or less, in the file
	regular  bool              // add and cut hold for all of these
}

// learnIndent compares the lines that both have. It fails where they contradict
// each other.
func learnIndent(file, patch []string) (indentation, error) {
	in := indentation{known: map[string]string{}, regular: true}
	for i, p := range patch {
		if strings.TrimSpace(p) == "" {
			continue
		}
		from, to := indentOf(p), indentOf(file[i])
		if old, ok := in.known[from]; ok && old != to {
			return in, wrongIndent(file)
		}
		add, isAdd := strings.CutSuffix(to, from)
		cut, isCut := strings.CutSuffix(from, to)
		switch {
		case isAdd:
			cut = ""
		case isCut:
			add = ""
		default:
			in.regular = false
		}
		if len(in.known) == 0 {
			in.add, in.cut = add, cut
		}
		in.regular = in.regular && in.add == add && in.cut == cut
		in.known[from] = to
	}
	return in, nil
}

// apply gives an added line as the file would have it; ok is false where that
// is not clear.
func (in indentation) apply(line string) (shifted string, ok bool) {
	if strings.TrimSpace(line) == "" {
		return "", true
	}
	from := indentOf(line)
	body := line[len(from):]
	if to, ok := in.known[from]; ok {
		return to + body, true
	}
	rest, ok := strings.CutPrefix(from, in.cut)
	return in.add + rest + body, ok && in.regular
}

func indentOf(line string) string {
	return line[:len(line)-len(strings.TrimLeft(line, " \t"))]
}

func wrongIndent(file []string) error {
	return fmt.Errorf("fits only if white space is ignored, and how to indent its new lines is not clear. The file has:\n%s", strings.Join(file, "\n"))
}

func ambiguous(at []int) error {
	var lines []string
	for _, i := range at[:min(len(at), 8)] {
		lines = append(lines, fmt.Sprint(i+1))
	}
	return fmt.Errorf("fits in %d places (lines %s); add lines of context, or name the enclosing function or class after @@", len(at), strings.Join(lines, ", "))
}

// missing says where the hunk fits best, so that the next try can be right.
func (h hunk) missing(t text) error {
	old := h.old()
	best, score := -1, 0
	for i := 0; i+len(old) <= len(t.lines); i++ {
		same := 0
		for j, l := range old {
			if strings.TrimSpace(l) != "" && sameTrimmed(t.lines[i+j], l) {
				same++
			}
		}
		if same > score {
			best, score = i, same
		}
	}
	if best < 0 || score*2 < len(old) {
		return fmt.Errorf("does not fit: its context and removed lines are not in the file. Read the file again")
	}
	for j, l := range old {
		if !sameTrimmed(t.lines[best+j], l) {
			return fmt.Errorf("does not fit: nearest is line %d, but line %d of the file is\n%s\nand the patch has\n%s", best+1, best+j+1, t.lines[best+j], l)
		}
	}
	return fmt.Errorf("does not fit")
}
