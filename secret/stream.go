package secret

import "io"

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
	spans := merge(m.find(all))
	for i, s := range spans {
		if s.from < len(before) && s.to > len(before) {
			spans[i].from = len(before) // its beginning was let go
		}
	}
	clean := make([][]byte, len(pieces))
	from := len(before)
	for i, p := range pieces {
		clean[i] = cutOut(all, from, from+len(p), spans)
		from += len(p)
	}
	return clean
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
	before   []byte // the end of what was let go
	held     []byte
}

// Stream gives a Stream that writes to to.
func (r *Redactor) Stream(to io.Writer) *Stream { return &Stream{redactor: r, to: to} }

// Write takes p. An error is that of the writer behind.
func (s *Stream) Write(p []byte) (int, error) {
	s.held = append(s.held, p...)
	all := append(append([]byte(nil), s.before...), s.held...)
	keep := min(s.redactor.Held(all), len(s.held))
	return len(p), s.release(len(s.held) - keep)
}

// Flush lets go what is held back: nothing follows it.
func (s *Stream) Flush() error { return s.release(len(s.held)) }

func (s *Stream) release(n int) error {
	if n == 0 {
		return nil
	}
	clean := s.redactor.Pieces(s.before, s.held[:n])[0]
	s.before = append(s.before, s.held[:n]...)
	s.before = append([]byte(nil), s.before[max(0, len(s.before)-recalled):]...)
	s.held = append(s.held[:0], s.held[n:]...)
	_, err := s.to.Write(clean)
	return err
}
