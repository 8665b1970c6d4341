package inside

import (
	"bytes"
	"cmp"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/errand-dev/errand/guest/wire"
)

// Bounds of a search.
const (
	defaultMatches = 200
	mostMatches    = 2000
	mostContext    = 20
	maxSearched    = 8 << 20 // bytes of one file
	maxSearchedAll = 1 << 30 // bytes of all
	maxLine        = 1000    // bytes of a line in a result
	maxFound       = 8 << 20 // bytes of all lines in a result
)

// searcher looks for lines in one file after the other.
type searcher struct {
	root    *os.Root
	re      *regexp.Regexp
	literal []byte // what every match begins with; nil where that is not known
	context int
	limit   int
	left    int64 // bytes that may still be read
	found   int   // bytes in the result
	result  wire.SearchResult
}

// search looks for a pattern in a file, or in all files below a directory.
func search(r *os.Root, start string, opts wire.SearchOptions) (wire.SearchResult, error) {
	re, err := regexp.Compile(opts.Pattern)
	if err != nil {
		return wire.SearchResult{}, faultf(wire.CodeInvalid, "reading the pattern: %v", err)
	}
	s := &searcher{
		root: r, re: re, left: maxSearchedAll,
		context: min(max(opts.Context, 0), mostContext),
		limit:   min(cmp.Or(max(opts.Limit, 0), defaultMatches), mostMatches),
		result:  wire.SearchResult{Matches: []wire.Match{}},
	}
	if prefix, _ := re.LiteralPrefix(); prefix != "" {
		s.literal = []byte(prefix)
	}
	var glob *globber
	if opts.Glob != "" {
		if glob, err = newGlobber(opts.Glob); err != nil {
			return wire.SearchResult{}, err
		}
	}
	stat, err := r.Stat(start)
	if err != nil {
		return wire.SearchResult{}, err
	}
	if !stat.IsDir() {
		s.result.Truncated = s.file(start) != nil
		return s.result, nil
	}
	w := &walk{root: r, depth: -1, ignored: opts.Ignored}
	w.visit = func(name string, e fs.DirEntry) error {
		if !e.Type().IsRegular() || glob != nil && !glob.match(below(start, name)) {
			return nil
		}
		return s.file(name)
	}
	whole, err := w.run(start)
	s.result.Truncated = !whole
	return s.result, err
}

// file looks into one file. It fails only with errEnough.
func (s *searcher) file(name string) error {
	f, stat, err := openFile(s.root, name)
	if err != nil || stat.Size() > maxSearched {
		if f != nil {
			f.Close()
		}
		return nil
	}
	defer f.Close()
	if s.left -= stat.Size(); s.left < 0 {
		return errEnough
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSearched))
	if err != nil || isBinary(data) {
		return nil
	}
	s.result.Files++
	if s.literal != nil && !bytes.Contains(data, s.literal) {
		return nil
	}
	return s.lines(name, data)
}

// isBinary says whether data looks like anything but text, as git decides it.
func isBinary(data []byte) bool {
	return bytes.IndexByte(data[:min(len(data), 8000)], 0) >= 0
}

// lines looks at each line of a file.
func (s *searcher) lines(name string, data []byte) error {
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	for i, line := range lines {
		if !s.re.Match(bytes.TrimSuffix(line, []byte("\r"))) {
			continue
		}
		if len(s.result.Matches) == s.limit || s.found > maxFound {
			return errEnough
		}
		m := wire.Match{Path: name, Line: i + 1, Text: s.cut(line)}
		for _, before := range lines[max(0, i-s.context):i] {
			m.Before = append(m.Before, s.cut(before))
		}
		for _, after := range lines[i+1 : min(len(lines), i+1+s.context)] {
			m.After = append(m.After, s.cut(after))
		}
		s.result.Matches = append(s.result.Matches, m)
	}
	return nil
}

// cut gives a line for a result.
func (s *searcher) cut(line []byte) string {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > maxLine {
		line = line[:maxLine]
		for range utf8.UTFMax - 1 {
			if r, size := utf8.DecodeLastRune(line); r == utf8.RuneError && size == 1 {
				line = line[:len(line)-1]
			}
		}
	}
	s.found += len(line)
	return strings.ToValidUTF8(string(line), "\uFFFD")
}
