package secret

import (
	"io"
	"unicode/utf8"
)

// recalled is how much of what was let go a Stream and Pieces still see, in
// bytes, so that a value is found of which held let the first characters pass.
const recalled = 128

// Held gives how many bytes at the end of text may be the beginning of a value
// whose rest is still to come; at most 64 KiB.
func (r *Redactor) Held(text []byte) int {
	m := r.matcher.Load()
	if m == nil {
		return 0
	}
	return m.held(text)
}

// Pieces gives a text that came in pieces without the secrets, also those that
// stand in several: each piece's own part of it. before is what came just ahead
// and was let go.
func (r *Redactor) Pieces(before []byte, pieces ...[]byte) [][]byte {
	m := r.matcher.Load()
	if m == nil {
		return pieces
	}
	before = before[max(0, len(before)-recalled):]
	all := append([]byte(nil), before...)
	for _, p := range pieces {
		all = append(all, p...)
	}
	spans := m.after(all, len(before))
	clean := make([][]byte, len(pieces))
	from := len(before)
	for i, p := range pieces {
		clean[i] = cutOut(all, from, from+len(p), spans)
		from += len(p)
	}
	return clean
}

// after gives the spans of text, of which the first n bytes were let go.
func (m *matcher) after(text []byte, n int) []span {
	spans := merge(m.find(text))
	for i, s := range spans {
		if s.from < n && s.to > n {
			spans[i].from = n // its beginning was let go
		}
	}
	return spans
}

// cutOut gives text[from:to] without spans. The mark of one stands where it
// begins.
func cutOut(text []byte, from, to int, spans []span) []byte {
	var clean []byte
	for _, s := range spans {
		if s.to <= from || s.from >= to {
			continue
		}
		if s.from >= from {
			clean = append(clean, text[from:s.from]...)
			clean = append(clean, Redacted...)
		}
		from = min(s.to, to)
	}
	return append(clean, text[from:to]...)
}

// merge joins spans that overlap.
func merge(spans []span) []span {
	var all []span
	for _, s := range spans {
		if n := len(all); n > 0 && s.from < all[n-1].to {
			all[n-1].to = max(all[n-1].to, s.to)
			continue
		}
		all = append(all, s)
	}
	return all
}

// Stream takes the secrets out of what is written to it, also those that come
// in pieces: what may be the beginning of one is held back until it is clear, or
// Flush. It is used from one goroutine at a time.
type Stream struct {
	redactor *Redactor
	to       io.Writer
	screen   bool
	before   []byte // the end of what was let go
	held     []byte
}

// Stream gives a Stream that writes to to.
func (r *Redactor) Stream(to io.Writer) *Stream { return &Stream{redactor: r, to: to} }

// Screen gives a Stream for the screen of a person who types. What is typed is
// seen at once: only what is four or more characters of a secret's beginning is
// held back, so that a secret that comes in pieces may show its first three. The
// mark is written over the value, as long as that is, and what moves the cursor
// in between is let through, so that the screen keeps its shape.
func (r *Redactor) Screen(to io.Writer) *Stream { return &Stream{redactor: r, to: to, screen: true} }

// Write takes p. An error is that of the writer behind.
func (s *Stream) Write(p []byte) (int, error) {
	s.held = append(s.held, p...)
	all := append(append([]byte(nil), s.before...), s.held...)
	keep := s.redactor.Held
	if s.screen {
		keep = s.redactor.live
	}
	return len(p), s.release(len(s.held) - min(keep(all), len(s.held)))
}

// live is Held for a screen.
func (r *Redactor) live(text []byte) int {
	m := r.matcher.Load()
	if m == nil {
		return 0
	}
	return m.live(text)
}

// Flush lets go what is held back: nothing follows it.
func (s *Stream) Flush() error { return s.release(len(s.held)) }

func (s *Stream) release(n int) error {
	if n == 0 {
		return nil
	}
	var clean []byte
	if s.screen {
		clean = s.redactor.masked(s.before, s.held[:n])
	} else {
		clean = s.redactor.Pieces(s.before, s.held[:n])[0]
	}
	s.before = append(s.before, s.held[:n]...)
	s.before = append([]byte(nil), s.before[max(0, len(s.before)-recalled):]...)
	_, err := s.to.Write(clean)
	s.held = append(s.held[:0], s.held[n:]...)
	return err
}

// masked gives text, of which before was let go, with the secrets written over.
func (r *Redactor) masked(before, text []byte) []byte {
	m := r.matcher.Load()
	if m == nil {
		return text
	}
	all := append(append([]byte(nil), before...), text...)
	clean, from := []byte(nil), len(before)
	for _, s := range m.after(all, from) {
		if s.from >= len(before) {
			clean = append(append(clean, all[from:s.from]...), mask(all[s.from:s.to])...)
			from = s.to
		}
	}
	return append(clean, all[from:]...)
}

// mask gives text with the mark over its characters. White space, and sequences
// that move the cursor, stay.
func mask(text []byte) []byte {
	const mark = Redacted + "*"
	var clean []byte
	for i, n := 0, 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\x1b':
			if length, ok := ansi(text[i:]); ok && length > 0 {
				clean = append(clean, text[i:i+length]...)
				i += length - 1
			}
		case c <= ' ':
			clean = append(clean, c)
		case utf8.RuneStart(c):
			clean = append(clean, mark[min(n, len(mark)-1)])
			n++
		}
	}
	return clean
}
