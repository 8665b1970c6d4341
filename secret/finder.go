package secret

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
)

// Finder finds named values in what is to be kept or passed on, in the forms
// that a Redactor knows. It may be used from many goroutines.
type Finder struct {
	matcher *matcher
	names   []string
}

// Found is a value that stands where it should not.
type Found struct {
	Name string // of the secret
	Line int    // where it begins, from 1
}

// NewFinder gives what finds values, by name. It is nil where there is nothing
// that could be found: no value is long enough.
func NewFinder(values map[string]string) *Finder {
	names := slices.Sorted(maps.Keys(values))
	var texts []string
	for _, name := range names {
		texts = append(texts, values[name])
	}
	m := newMatcher(texts)
	if m == nil {
		return nil
	}
	return &Finder{matcher: m, names: names}
}

// chunk is how much of a stream is looked at in one go, in bytes.
const chunk = 256 << 10

// Find reads r to its end and gives the first place of each secret in it. Its
// memory does not grow with the stream.
func (f *Finder) Find(r io.Reader) ([]Found, error) {
	var found []Found
	seen := map[int]bool{}
	buf := make([]byte, 0, chunk+mostHeld)
	line := 1
	for {
		n, err := io.ReadFull(r, buf[len(buf):min(len(buf)+chunk, cap(buf))])
		buf = buf[:len(buf)+n]
		for _, s := range f.matcher.find(buf) {
			if !seen[s.value] {
				seen[s.value] = true
				found = append(found, Found{f.names[s.value], line + bytes.Count(buf[:s.from], []byte("\n"))})
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		keep := max(f.matcher.held(buf), min(len(buf), recalled))
		line += bytes.Count(buf[:len(buf)-keep], []byte("\n"))
		buf = append(buf[:0], buf[len(buf)-keep:]...)
	}
}

// Hide gives text without the values.
func (f *Finder) Hide(text string) string {
	return string(cutOut([]byte(text), 0, len(text), merge(f.matcher.find([]byte(text)))))
}
