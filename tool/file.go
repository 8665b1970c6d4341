package tool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/secret"
)

const (
	// readLines is how many lines read_file gives at once, if they fit.
	readLines = 2000
	// lineBytes bounds one line that is shown.
	lineBytes = 2000
	// around is how much of a file is looked at beside what is shown of it: a
	// secret of which a part is shown is then seen whole, and hidden.
	around = 16 << 10
	// maxScan bounds how far into a file read_file looks for its first line.
	maxScan = 256 << 20
	// maxImage bounds a picture: what all providers take.
	maxImage = 3_750_000
	// listEntries bounds one listing, searchMatches one search.
	listEntries   = 500
	searchMatches = 200
)

// FileResult is what reading did, for screens.
type FileResult struct {
	Path  string `json:"path"`
	First int    `json:"first,omitempty"` // lines shown, from 1
	Last  int    `json:"last,omitempty"`
}

func (s *Set) readFile(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Path   string `json:"path"`
		Offset int    `json:"offset"`
		Limit  int    `json:"limit"`
	}
	if err := decodeCall(c, &args, "path"); err != nil {
		return Result{}, err
	}
	root, rel, shown := s.place(args.Path)
	data, stat, err := s.o.Line.ReadFile(ctx, root, rel, 0, 0)
	if err != nil {
		return Result{}, s.explain(ctx, err, args.Path)
	}
	mime := http.DetectContentType(data)
	switch {
	case stat.Size == 0:
		return Result{Output: fmt.Sprintf("%s is empty.", shown), Structured: FileResult{Path: shown}}, nil
	case isPicture(mime):
		return picture(shown, mime, data, stat)
	case bytes.IndexByte(data[:min(len(data), 8<<10)], 0) >= 0:
		return Result{}, misusef("%q is a binary file (%s, %d bytes). Look at it with run_terminal_cmd: file, xxd, unzip -l.", shown, mime, stat.Size)
	}
	p := page{first: max(args.Offset, 1), most: cmp.Or(max(args.Limit, 0), readLines), bound: s.o.OutputBound}
	if err := s.turnPages(ctx, &p, root, rel, data, stat.Size); err != nil {
		return Result{}, err
	}
	if len(p.lines) == 0 {
		return Result{}, misusef("%q has %s; offset %d is past its end.", shown, count(p.line, "line"), p.first)
	}
	last, text := p.first+len(p.lines)-1, p.text(s.o.Redactor)
	if p.more() {
		text += fmt.Sprintf("[lines %d to %d; go on with offset %d]", p.first, last, last+1)
	}
	return Result{Output: text, Structured: FileResult{Path: shown, First: p.first, Last: last}}, nil
}

// turnPages gives a file to p, piece by piece, until it has what it shows.
func (s *Set) turnPages(ctx context.Context, p *page, root, rel string, data []byte, size int64) error {
	offset := int64(0)
	for {
		offset += int64(len(data))
		end := offset >= size || len(data) == 0
		if p.take(data, end) || end {
			return nil
		}
		if offset > maxScan {
			return misusef("line %d is more than %d MiB into the file; use run_terminal_cmd with sed -n or tail.", p.first, maxScan>>20)
		}
		var err error
		if data, _, err = s.o.Line.ReadFile(ctx, root, rel, offset, 0); err != nil {
			return err
		}
	}
}

// page is the lines of a file that are shown.
type page struct {
	first, most, bound int
	line               int      // lines seen so far
	lines              [][]byte // those shown, with their breaks, of long ones the first lineBytes+around bytes and one
	size               int      // bytes of lines that are shown
	rest               []byte   // the beginning of a line that is not whole yet
	ahead, after       []byte   // what stands around the lines that are shown
}

// more says whether there are lines after those shown.
func (p *page) more() bool { return len(p.after) > 0 }

// take reads a piece of the file and says whether no more is needed.
func (p *page) take(data []byte, end bool) bool {
	data = append(p.rest, data...)
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 && !end {
			// A line without end is shown cut, so that its rest need not be kept.
			n := min(len(data), lineBytes+around+1)
			p.rest = data[:n:n]
			return false
		}
		line, rest := data, []byte(nil)
		if i >= 0 {
			line, rest = data[:i+1], data[i+1:]
		}
		if !p.add(line) {
			p.after = data[:min(len(data), around)]
			return true
		}
		data = rest
	}
	p.rest = nil
	return false
}

// add takes the next line, and says false when it would be one too many.
func (p *page) add(line []byte) bool {
	if p.line+1 >= p.first && (len(p.lines) >= p.most || p.size > p.bound) {
		return false
	}
	p.line++
	if p.line < p.first {
		p.ahead = append(p.ahead, line[max(0, len(line)-around):]...)
		if over := len(p.ahead) - around; over > around {
			p.ahead = append(p.ahead[:0], p.ahead[over:]...)
		}
		return true
	}
	p.lines = append(p.lines, line[:min(len(line), lineBytes+around+1)])
	p.size += min(len(line), lineBytes)
	return true
}

// text gives the lines with their numbers and without the secrets that redactor
// knows.
func (p *page) text(redactor *secret.Redactor) string {
	clean := redactor.Pieces(nil, append(append([][]byte{p.ahead}, p.lines...), p.after)...)
	var b strings.Builder
	for i, line := range p.lines {
		whole := bytes.TrimSuffix(bytes.TrimSuffix(clean[i+1], []byte("\n")), []byte("\r"))
		text := strings.ToValidUTF8(string(whole[:min(len(whole), lineBytes)]), "\uFFFD")
		if len(whole) > lineBytes || len(line) > lineBytes+around {
			text += " [… the line is longer]"
		}
		fmt.Fprintf(&b, "%6d|%s\n", p.first+i, text)
	}
	return b.String()
}

func isPicture(mime string) bool {
	switch mime {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return true
	}
	return false
}

func picture(shown, mime string, data []byte, stat guest.Stat) (Result, error) {
	if stat.Size > maxImage || int64(len(data)) < stat.Size {
		return Result{}, misusef("%q is a picture of %d bytes; at most %d can be shown. Make it smaller first.", shown, stat.Size, maxImage)
	}
	return Result{
		Output:     fmt.Sprintf("%s: %s, %d bytes.", shown, mime, stat.Size),
		Images:     []errand.Image{{MIME: mime, Data: data}},
		Structured: FileResult{Path: shown},
	}, nil
}

// isRefusal says whether err is the guest's answer and not a loss of the line.
func isRefusal(err error) bool {
	var refused *guest.Error
	return errors.As(err, &refused)
}

// explain says what to do about a file that cannot be read or changed as asked.
func (s *Set) explain(ctx context.Context, err error, path string) error {
	switch {
	case !isRefusal(err):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return misusef("%q does not exist.%s", path, s.similar(ctx, path))
	case errors.Is(err, fs.ErrInvalid):
		root, rel, _ := s.place(path)
		if stat, serr := s.o.Line.Stat(ctx, root, rel); serr == nil && stat.Mode.IsDir() {
			return misusef("%q is a directory; list it with list_dir.", path)
		}
	case errors.Is(err, guest.ErrOutside):
		return misusef("%q is reached through a symbolic link that is absolute or leaves the repository; name the file itself, or use run_terminal_cmd.", path)
	}
	return err
}

// similar names files of the same name elsewhere in the repository.
func (s *Set) similar(ctx context.Context, path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if name == "" || strings.ContainsAny(name, "*?[{") {
		return ""
	}
	found, err := s.o.Line.List(ctx, s.o.Root, ".", guest.ListOptions{Glob: name, Limit: 3})
	if err != nil || len(found.Entries) == 0 {
		return ""
	}
	var names []string
	for _, e := range found.Entries {
		names = append(names, e.Path)
	}
	return " There is " + strings.Join(names, ", ") + "."
}

func (s *Set) listDir(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Path    string `json:"path"`
		Depth   int    `json:"depth"`
		Glob    string `json:"glob"`
		Ignored bool   `json:"ignored"`
	}
	if err := decodeCall(c, &args); err != nil {
		return Result{}, err
	}
	root, rel, shown := s.place(cmp.Or(args.Path, "."))
	list, err := s.o.Line.List(ctx, root, rel, guest.ListOptions{
		Depth: args.Depth, Glob: args.Glob, Ignored: args.Ignored, Limit: listEntries,
	})
	if err != nil {
		return Result{}, s.explain(ctx, err, args.Path)
	}
	var b strings.Builder
	for _, e := range list.Entries {
		name := e.Path
		if root == "/" {
			name = "/" + name
		}
		switch {
		case e.Mode.IsDir():
			fmt.Fprintf(&b, "%s/\n", name)
		case e.Link != "":
			fmt.Fprintf(&b, "%s -> %s\n", name, e.Link)
		default:
			fmt.Fprintf(&b, "%s  %s\n", name, bytesText(e.Size))
		}
	}
	switch {
	case len(list.Entries) == 0 && args.Glob != "":
		fmt.Fprintf(&b, "No file in %s matches %s.", shown, args.Glob)
	case len(list.Entries) == 0:
		fmt.Fprintf(&b, "%s is empty.", shown)
	case list.Truncated:
		fmt.Fprintf(&b, "[only the first %d entries; list a directory below, or use glob]", len(list.Entries))
	}
	text, err := s.fit(ctx, c.Op, b.String())
	return Result{Output: text, Structured: FileResult{Path: shown}}, err
}

// bytesText writes a file's size for people.
func bytesText(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d KB", n/1000)
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}

func (s *Set) search(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Pattern string `json:"pattern"`
		Path    string `json:"path"`
		Glob    string `json:"glob"`
		Context int    `json:"context"`
		Ignored bool   `json:"ignored"`
	}
	if err := decodeCall(c, &args, "pattern"); err != nil {
		return Result{}, err
	}
	if args.Pattern == "" {
		return Result{}, misusef("the pattern is empty.")
	}
	root, rel, shown := s.place(cmp.Or(args.Path, "."))
	found, err := s.o.Line.Search(ctx, root, guest.SearchOptions{
		Pattern: args.Pattern, Path: rel, Glob: args.Glob, Context: args.Context, Ignored: args.Ignored, Limit: searchMatches,
	})
	if err != nil {
		return Result{}, s.explain(ctx, err, cmp.Or(args.Path, args.Pattern))
	}
	var b strings.Builder
	prefix := ""
	if root == "/" {
		prefix = "/"
	}
	for i, m := range found.Matches {
		s.writeMatch(&b, prefix, m, args.Context > 0 && i > 0)
	}
	switch {
	case len(found.Matches) == 0:
		fmt.Fprintf(&b, "No match in %s of %s.", count(found.Files, "file"), shown)
	case found.Truncated:
		fmt.Fprintf(&b, "[only the first %s; make the pattern, the path or the glob narrower]", count(len(found.Matches), "match"))
	}
	text, err := s.fit(ctx, c.Op, b.String())
	return Result{Output: text}, err
}

// writeMatch writes one match as grep does: ":" on the line itself, "-" on those
// around it.
func (s *Set) writeMatch(b *strings.Builder, prefix string, m guest.Match, apart bool) {
	if apart {
		b.WriteString("--\n")
	}
	var lines [][]byte
	for _, line := range slices.Concat(m.Before, []string{m.Text}, m.After) {
		lines = append(lines, []byte(line+"\n"))
	}
	for i, line := range s.o.Redactor.Pieces(nil, lines...) {
		mark := '-'
		if i == len(m.Before) {
			mark = ':'
		}
		text := s.clipLine(strings.TrimRight(string(line), "\r\n"), len(lines[i]) > matchBytes)
		fmt.Fprintf(b, "%s%s%c%d%c %s\n", prefix, m.Path, mark, m.Line-len(m.Before)+i, mark, text)
	}
}

// matchBytes bounds a line of a match: minified files have very long ones.
const matchBytes = 400

// clipLine bounds a line that is free of whole secrets. A long one may end in the
// middle of one, because the guest has cut it already.
func (s *Set) clipLine(line string, long bool) string {
	if !long {
		return line
	}
	line = line[:len(line)-s.o.Redactor.Held([]byte(line))]
	if len(line) > matchBytes {
		line = headOf(line, matchBytes)
	}
	return line + " […]"
}
