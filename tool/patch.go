package tool

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/errand-dev/errand/guest"
)

// filePatch is what a patch says of one file.
type filePatch struct {
	kind    guest.ChangeKind
	path    string
	to      string      // where it moves, "" if it stays
	content string      // of a created file
	mode    fs.FileMode // of a created file, 0 if nothing is said
	hunks   []hunk      // of an edited or moved one
}

// hunk is one place of a file with its new text.
type hunk struct {
	at       int      // where it stands in the patch's text, a line from 1
	headers  []string // enclosing lines that come before it in the file
	line     int      // where the file has it, from 1, as the patch claims; -1 if it does not
	anchored bool     // the patch claims that the file has lines of it
	end      bool     // it ends at the end of the file
	lines    []hunkLine
	bare     int // how many of the last lines are blank without even a space
	// oldOpen and newOpen: the last line has no newline, before and after.
	oldOpen, newOpen bool
}

// hunkLine is a line of context (' '), a removed one ('-') or an added one ('+').
type hunkLine struct {
	op   byte
	text string
}

// parsePatch reads a patch in either form. Errors name the line of the patch.
func parsePatch(text string) ([]filePatch, error) {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	p := &patchParser{lines: lines}
	var err error
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.TrimSpace(l) == "*** Begin Patch" }); i >= 0 {
		p.i = i + 1
		err = p.sections()
	} else if slices.ContainsFunc(lines, func(l string) bool { return isSection(l) }) {
		err = p.sections()
	} else {
		err = p.unified()
	}
	if err != nil {
		return nil, err
	}
	if len(p.files) == 0 {
		return nil, errors.New(`it names no file; begin it with "*** Begin Patch" and "*** Update File: path", or give a unified diff`)
	}
	return p.merged()
}

type patchParser struct {
	lines []string
	i     int // the next line
	files []filePatch
}

func (p *patchParser) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", p.i+1, fmt.Sprintf(format, args...))
}

const (
	addMark    = "*** Add File:"
	updateMark = "*** Update File:"
	deleteMark = "*** Delete File:"
	moveMark   = "*** Move to:"
	endMark    = "*** End Patch"
	eofMark    = "*** End of File"
)

func isSection(line string) bool {
	return strings.HasPrefix(line, addMark) || strings.HasPrefix(line, updateMark) || strings.HasPrefix(line, deleteMark)
}

// sections reads the "*** Begin Patch" form.
func (p *patchParser) sections() error {
	for ; p.i < len(p.lines); p.i++ {
		line := p.lines[p.i]
		mark, name, _ := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		switch {
		case strings.TrimSpace(line) == endMark:
			return nil
		case isSection(line) && name == "":
			return p.errorf("%q names no file", line)
		case mark+":" == addMark:
			p.files = append(p.files, p.added(name))
		case mark+":" == deleteMark:
			p.files = append(p.files, filePatch{kind: guest.ChangeDelete, path: name})
		case mark+":" == updateMark:
			f, err := p.updated(name)
			if err != nil {
				return err
			}
			p.files = append(p.files, f)
		case strings.TrimSpace(line) == "" || len(p.files) == 0:
		default:
			return p.errorf("%q belongs to no file; a section begins with *** Add File:, *** Update File: or *** Delete File:", line)
		}
	}
	return nil
}

// added reads the lines of a new file.
func (p *patchParser) added(name string) filePatch {
	var b strings.Builder
	for p.i+1 < len(p.lines) {
		line := p.lines[p.i+1]
		// A blank line whose + got lost, if more of the file follows.
		blank := line == "" && p.i+2 < len(p.lines) && strings.HasPrefix(p.lines[p.i+2], "+")
		if !blank && !strings.HasPrefix(line, "+") {
			break
		}
		p.i++
		b.WriteString(strings.TrimPrefix(line, "+"))
		b.WriteByte('\n')
	}
	return filePatch{kind: guest.ChangeCreate, path: name, content: b.String()}
}

// updated reads the hunks of a section.
func (p *patchParser) updated(name string) (filePatch, error) {
	f := filePatch{kind: guest.ChangeEdit, path: name}
	if p.i+1 < len(p.lines) && strings.HasPrefix(p.lines[p.i+1], moveMark) {
		p.i++
		f.kind, f.to = guest.ChangeMove, strings.TrimSpace(strings.TrimPrefix(p.lines[p.i], moveMark))
	}
	err := p.hunks(&f, func(i int) bool {
		return isSection(p.lines[i]) || strings.TrimSpace(p.lines[i]) == endMark
	})
	if err == nil && len(f.hunks) == 0 && f.kind == guest.ChangeEdit {
		err = p.errorf("the section of %s has no change", name)
	}
	return f, err
}

var ranges = regexp.MustCompile(`^@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@`)

// hunks reads hunks until stop says that line i is no longer theirs. The line
// that stopped it is the next one.
func (p *patchParser) hunks(f *filePatch, stop func(i int) bool) error {
	var h *hunk
	begin := func() {
		f.hunks = append(f.hunks, hunk{at: p.i + 1, line: -1})
		h = &f.hunks[len(f.hunks)-1]
	}
	for p.i+1 < len(p.lines) && !stop(p.i+1) {
		p.i++
		line := p.lines[p.i]
		switch {
		case strings.HasPrefix(line, "@@"):
			if h == nil || len(h.lines) > 0 {
				begin()
			}
			h.head(line)
		case strings.TrimSpace(line) == eofMark:
			if h != nil {
				h.end = true
			}
		case strings.HasPrefix(line, `\`):
			if h != nil {
				h.open()
			}
		case line == "" || line[0] == ' ' || line[0] == '+' || line[0] == '-':
			if h == nil {
				begin()
			}
			h.add(line)
		case strings.HasPrefix(line, "```") || p.i+1 == len(p.lines):
			// The fence or the heredoc's last word around the patch.
		default:
			return p.errorf("%q begins with neither a space, + nor -", line)
		}
	}
	return p.trim(f)
}

// head takes a hunk's first line.
func (h *hunk) head(line string) {
	if m := ranges.FindStringSubmatch(line); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			h.line, h.anchored = n, m[2] != "0"
		}
		return
	}
	name := strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(line, "@@")), "@@"))
	if name != "" {
		h.headers = append(h.headers, name)
	}
}

func (h *hunk) add(line string) {
	if line == "" {
		// A blank line of context whose space got lost, or one that separates.
		h.bare++
		h.lines = append(h.lines, hunkLine{' ', ""})
		return
	}
	h.bare = 0
	h.lines = append(h.lines, hunkLine{line[0], line[1:]})
}

// open takes the note that the line before has no newline.
func (h *hunk) open() {
	if len(h.lines) == 0 {
		return
	}
	op := h.lines[len(h.lines)-1].op
	h.oldOpen = h.oldOpen || op != '+'
	h.newOpen = h.newOpen || op != '-'
}

// trim takes away blank lines that only separate hunks and sections, and
// refuses hunks that change nothing.
func (p *patchParser) trim(f *filePatch) error {
	for i := range f.hunks {
		h := &f.hunks[i]
		trimmed := *h
		trimmed.lines = h.lines[:len(h.lines)-h.bare]
		if !h.anchored || len(trimmed.old()) > 0 {
			h.lines = trimmed.lines
		}
		h.bare = 0
		if !slices.ContainsFunc(h.lines, func(l hunkLine) bool { return l.op != ' ' }) {
			return fmt.Errorf("line %d: the hunk has no line that begins with + or -", h.at)
		}
	}
	return nil
}

// unified reads a unified diff of one or more files.
func (p *patchParser) unified() error {
	var next filePatch // what a "diff --git" block said so far
	begun := false
	flush := func() {
		if begun && (next.to != "" || next.kind == guest.ChangeDelete || next.kind == guest.ChangeCreate) {
			p.files = append(p.files, next)
		}
		next, begun = filePatch{}, false
	}
	for ; p.i < len(p.lines); p.i++ {
		line := p.lines[p.i]
		switch {
		case strings.HasPrefix(line, "diff --git "):
			flush()
			next, begun = gitHeader(line), true
		case begun && strings.HasPrefix(line, "new file mode "):
			next.kind, next.mode = guest.ChangeCreate, fileMode(line)
		case begun && strings.HasPrefix(line, "deleted file mode "):
			next.kind = guest.ChangeDelete
		case begun && strings.HasPrefix(line, "rename from "):
			next.kind, next.path = guest.ChangeMove, strings.TrimPrefix(line, "rename from ")
		case begun && strings.HasPrefix(line, "rename to "):
			next.to = strings.TrimPrefix(line, "rename to ")
		case strings.HasPrefix(line, "GIT binary patch") || strings.HasPrefix(line, "Binary files "):
			return p.errorf("binary files cannot be patched")
		case p.fileHeader(p.i):
			f, err := p.unifiedFile(next)
			if err != nil {
				return err
			}
			p.files = append(p.files, f)
			next, begun = filePatch{}, false
		case strings.HasPrefix(line, "@@"):
			return p.errorf("a hunk comes before any file is named by --- and +++ lines")
		}
	}
	flush()
	return nil
}

// fileHeader says whether a file's part begins at line i: "---", "+++", "@@". A
// removed line may look like the first of these, so all three are asked for.
func (p *patchParser) fileHeader(i int) bool {
	return i+1 < len(p.lines) && strings.HasPrefix(p.lines[i], "--- ") && strings.HasPrefix(p.lines[i+1], "+++ ") &&
		(i+2 >= len(p.lines) || strings.HasPrefix(p.lines[i+2], "@@") || strings.TrimSpace(p.lines[i+2]) == "")
}

// unifiedFile reads one file's part, from its "---" line on.
func (p *patchParser) unifiedFile(f filePatch) (filePatch, error) {
	from, to := diffNames(p.lines[p.i], p.lines[p.i+1])
	p.i++
	switch {
	case from == "" && to == "":
		return f, p.errorf("both names are /dev/null")
	case from == "":
		f.kind, f.path = guest.ChangeCreate, to
	case to == "":
		f.kind, f.path = guest.ChangeDelete, from
	case from != to:
		f.kind, f.path, f.to = guest.ChangeMove, from, to
	default:
		f.kind, f.path, f.to = guest.ChangeEdit, to, ""
	}
	err := p.hunks(&f, func(i int) bool {
		return p.fileHeader(i) || strings.HasPrefix(p.lines[i], "diff --git ")
	})
	switch {
	case err != nil:
		return f, err
	case f.kind == guest.ChangeDelete:
		f.hunks = nil
	case f.kind == guest.ChangeCreate:
		f.content, f.hunks = f.newText(), nil
	}
	return f, nil
}

// newText gives the content of a created file: all added lines.
func (f filePatch) newText() string {
	var b strings.Builder
	open := false
	for _, h := range f.hunks {
		open = h.newOpen
		for _, l := range h.lines {
			if l.op != '-' {
				b.WriteString(l.text)
				b.WriteByte('\n')
			}
		}
	}
	if open {
		return strings.TrimSuffix(b.String(), "\n")
	}
	return b.String()
}

// diffNames gives the names in a "---" and a "+++" line, "" for /dev/null.
func diffNames(minus, plus string) (from, to string) {
	name := func(line string) string {
		line, _, _ = strings.Cut(line[4:], "\t")
		line = strings.TrimSpace(line)
		if unquoted, err := strconv.Unquote(line); err == nil {
			return unquoted
		}
		return line
	}
	from, to = name(minus), name(plus)
	a, b := strings.HasPrefix(from, "a/"), strings.HasPrefix(to, "b/")
	none := func(s string) bool { return s == "/dev/null" }
	if (a || none(from)) && (b || none(to)) {
		from, to = strings.TrimPrefix(from, "a/"), strings.TrimPrefix(to, "b/")
	}
	if none(from) {
		from = ""
	}
	if none(to) {
		to = ""
	}
	return from, to
}

// gitHeader reads the names of a "diff --git" line, for changes without hunks.
func gitHeader(line string) filePatch {
	rest := strings.TrimPrefix(line, "diff --git ")
	if i := strings.Index(rest, " b/"); i >= 0 {
		return filePatch{path: rest[i+len(" b/"):]}
	}
	return filePatch{}
}

func fileMode(line string) fs.FileMode {
	if strings.HasSuffix(line, "755") {
		return 0o755
	}
	return 0
}

// merged joins the parts that concern one file, so that each file is worked out
// once, and refuses parts that contradict each other.
func (p *patchParser) merged() ([]filePatch, error) {
	var files []filePatch
	for _, f := range p.files {
		i := slices.IndexFunc(files, func(g filePatch) bool { return g.path == f.path })
		switch {
		case i < 0:
			files = append(files, f)
		case f.kind == guest.ChangeEdit && files[i].kind == guest.ChangeEdit:
			files[i].hunks = append(files[i].hunks, f.hunks...)
		default:
			return nil, fmt.Errorf("%s stands in it twice; give each file one section", f.path)
		}
	}
	return files, nil
}
