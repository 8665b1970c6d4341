package secret

import (
	"bytes"
	"io"
	"maps"
	"slices"
)

// Finder finds named values in what is to be kept or passed on, in the forms
// that a Redactor knows. It may be used from many goroutines.
type Finder struct {
	matcher *matcher
	names   []string // of each value
}

// Found is a value that stands where it should not.
type Found struct {
	Name   string // of the secret
	Line   int    // where it begins, from 1; 0 with Packed
	Packed bool   // in what is compressed
}

// NewFinder gives what finds values, by name; one name may have had several. It
// is nil where there is nothing that could be found: no value is long enough.
func NewFinder(values map[string][]string) *Finder {
	var names, texts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[name] {
			names, texts = append(names, name), append(texts, value)
		}
	}
	m := newMatcher(texts)
	if m == nil {
		return nil
	}
	return &Finder{matcher: m, names: names}
}

// Find reads r to its end and gives the first place of each value in it, also in
// what is compressed there (see packed.go). Its memory does not grow with the
// stream.
func (f *Finder) Find(r io.Reader) ([]Found, error) {
	l := &looking{finder: f, seen: map[int]bool{}}
	return l.found, l.read(r, mostNested)
}

// looking is one Find under way.
type looking struct {
	finder *Finder
	seen   map[int]bool
	found  []Found
	outer  *source // what Find was given
	packed int64   // bytes that came out of compressed ones
}

// chunk is how much of a stream is looked at in one go, in bytes.
const chunk = 256 << 10

// scan looks through what is written to it.
type scan struct {
	*looking
	packed bool
	buf    []byte
	line   int // on which buf begins
}

func (s *scan) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), chunk+mostHeld-len(s.buf))
		s.buf, rest = append(s.buf, rest[:n]...), rest[n:]
		if len(s.buf) == chunk+mostHeld {
			s.look()
		}
	}
	return len(p), nil
}

// look looks through what there is and keeps what may be a beginning. It is
// called once more at the end.
func (s *scan) look() {
	m := s.finder.matcher
	for _, x := range m.find(s.buf) {
		if s.seen[x.value] {
			continue
		}
		s.seen[x.value] = true
		f := Found{Name: s.finder.names[x.value], Packed: s.packed}
		if !s.packed {
			f.Line = s.line + bytes.Count(s.buf[:x.from], []byte("\n"))
		}
		s.found = append(s.found, f)
	}
	keep := max(m.held(s.buf), min(len(s.buf), recalled))
	s.line += bytes.Count(s.buf[:len(s.buf)-keep], []byte("\n"))
	s.buf = append(s.buf[:0], s.buf[len(s.buf)-keep:]...)
}

// Hide gives text without the values.
func (f *Finder) Hide(text string) string {
	return string(cutOut([]byte(text), 0, len(text), merge(f.matcher.find([]byte(text)))))
}
