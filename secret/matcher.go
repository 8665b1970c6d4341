package secret

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
)

// shortest is the length below which a value is not looked for, in bytes
// without white space: hiding "1" or "dev" everywhere would destroy the text and
// hide nothing.
const shortest = 6

// pattern is one form of a value, as it is compared: without white space.
type pattern struct {
	text  string
	value int // whose form it is
	// spaces are the places in text before which the value has white space. A
	// text may have white space there, and elsewhere only with a line break.
	spaces []int
	loose  bool // white space may stand anywhere (dumps in hex)
}

// matcher finds values in text, in all their forms. It does not change once it
// is made and may be used from many goroutines.
//
// A text is looked at through views, in which white space, and in some what
// escapes and prefixes of lines add, are gone. Each window of six bytes of a view
// is hashed into a bitmap; what the bitmap knows is looked up and compared. So
// the cost hardly grows with the number of values.
type matcher struct {
	patterns []pattern
	starts   map[uint64][]int32 // patterns by their first six bytes
	shorts   [shortest]map[uint64]struct{}
	bits     []uint64
	shift    uint
	longest  int       // of the patterns
	escaped  bool      // a value holds what looks like an escape
	views    sync.Pool // of *view: memory that is used again
}

// newMatcher gives what finds values; nil where none is long enough.
func newMatcher(values []string) *matcher {
	m := &matcher{starts: map[uint64][]int32{}, views: sync.Pool{New: func() any { return new(view) }}}
	known := map[string]bool{}
	for i, v := range values {
		m.escaped = m.escaped || strings.ContainsAny(v, `\%&`)
		for _, p := range forms(v) {
			if p.value = i; !known[p.text] {
				known[p.text] = true
				m.patterns = append(m.patterns, p)
			}
		}
	}
	if len(m.patterns) == 0 {
		return nil
	}
	size := uint(12)
	for size < 21 && 1<<size < 64*len(m.patterns) {
		size++
	}
	m.bits, m.shift = make([]uint64, 1<<size/64), 64-size
	for n := range m.shorts {
		m.shorts[n] = map[uint64]struct{}{}
	}
	for i, p := range m.patterns {
		for n := 1; n < shortest; n++ {
			m.shorts[n][word(p.text[:n])] = struct{}{}
		}
		w := word(p.text[:shortest])
		m.starts[w] = append(m.starts[w], int32(i))
		h := m.hash(w)
		m.bits[h/64] |= 1 << (h % 64)
		m.longest = max(m.longest, len(p.text))
	}
	return m
}

func word(s string) uint64 {
	var b [8]byte
	copy(b[:], s)
	return binary.LittleEndian.Uint64(b[:])
}

const multiplier = 0x9E3779B97F4A7C15

func (m *matcher) hash(w uint64) uint64 { return w * multiplier >> m.shift }

// window is the part of eight bytes that is a pattern's beginning.
const window = 1<<(8*shortest) - 1

// span is where a value stands in a text: bytes from to to.
type span struct {
	from, to int
	value    int
}

// mostAtOnce bounds a text that find looks at in one go, in bytes.
const mostAtOnce = 256 << 10

// find gives where values stand in text, in order. Spans may overlap.
func (m *matcher) find(text []byte) []span {
	var found []span
	for from := 0; ; {
		piece := text[from:min(len(text), from+mostAtOnce)]
		for _, s := range m.findOnce(piece) {
			found = append(found, span{s.from + from, s.to + from, s.value})
		}
		if from+len(piece) == len(text) {
			break
		}
		from += len(piece) - min(m.suffix(piece, 1), len(piece)/2)
	}
	slices.SortFunc(found, func(a, b span) int { return cmp.Or(a.from-b.from, b.to-a.to) })
	return found
}

func (m *matcher) findOnce(text []byte) []span {
	var found []span
	bits, shift := m.bits, m.shift
	m.look(text, func(v *view) {
		b := v.padded()
		for i := 0; i+shortest <= v.n; i++ {
			w := binary.LittleEndian.Uint64(b[i:i+8]) & window
			h := w * multiplier >> shift
			if bits[h/64]&(1<<(h%64)) == 0 {
				continue
			}
			for _, p := range m.starts[w] {
				if s, ok := m.match(v, i, &m.patterns[p], text); ok {
					found = append(found, s)
				}
			}
		}
	})
	return found
}

// match says whether p stands at i of a view, and where that is in text.
func (m *matcher) match(v *view, i int, p *pattern, text []byte) (span, bool) {
	n := len(p.text)
	if i+n > v.n || string(v.text[i:i+n]) != p.text {
		return span{}, false
	}
	s := span{v.from(i), v.to(i + n - 1), p.value}
	if s.to-s.from == n || p.loose {
		return s, true
	}
	for k := 1; k < n; k++ {
		gap := text[v.to(i+k-1):max(v.from(i+k), v.to(i+k-1))]
		if len(gap) > 0 && !bytes.ContainsAny(gap, "\n\r\x1b\\") && !slices.Contains(p.spaces, k) {
			return span{}, false
		}
	}
	return s, true
}

// mostHeld bounds what held gives, in bytes: so far apart the parts of a value
// may stand when a text comes in pieces.
const mostHeld = 64 << 10

// held gives how many bytes at the end of text may be the beginning of a value
// whose rest is still to come. Of a text that ends with a line break less than
// four characters are not held back, so that whole lines are seen at once.
func (m *matcher) held(text []byte) int {
	if len(text) > 0 && text[len(text)-1] == '\n' {
		return m.suffix(text, 4)
	}
	return m.suffix(text, 1)
}

// live is held for a text that a person watches as it is typed: what begins
// fewer than four characters of a value is let go at once.
func (m *matcher) live(text []byte) int {
	held := m.begun(text, 4)
	if rest := unfinished(text); rest > 0 {
		if n := m.begun(text[:len(text)-rest], 4); n > 0 {
			held = max(held, n+rest)
		}
	}
	return held
}

// suffix is held for beginnings of at least so many characters.
func (m *matcher) suffix(text []byte, least int) int {
	return max(unfinished(text), m.begun(text, least))
}

// begun gives how many bytes at the end of text are at least so many characters
// that a value begins with.
func (m *matcher) begun(text []byte, least int) int {
	from := len(text)
	tail := text[max(0, len(text)-mostHeld):]
	skipped := len(text) - len(tail)
	m.look(tail, func(v *view) {
		b := v.padded()
		for i := max(0, v.n-m.longest+1); i <= v.n-least; i++ {
			if m.begins(b[i:], v.n-i) {
				from = min(from, skipped+v.from(i))
				return
			}
		}
	})
	return len(text) - from
}

// begins says whether the n bytes that b begins with begin a longer pattern.
func (m *matcher) begins(b []byte, n int) bool {
	w := binary.LittleEndian.Uint64(b)
	if n < shortest {
		_, ok := m.shorts[n][w&(1<<(8*n)-1)]
		return ok
	}
	w &= window
	if h := m.hash(w); m.bits[h/64]&(1<<(h%64)) == 0 {
		return false
	}
	return slices.ContainsFunc(m.starts[w], func(p int32) bool {
		text := m.patterns[p].text
		return len(text) > n && strings.HasPrefix(text, string(b[:n]))
	})
}

// unfinished gives how many bytes at the end of text begin an escape that is not
// there in full.
func unfinished(text []byte) int {
	const most = 12
	tail := text[max(0, len(text)-most):]
	if i := bytes.LastIndexAny(tail, "\\%\x1b&"); i >= 0 {
		if n, ok := escape(tail[i:], nil); ok && n == 0 {
			return len(tail) - i
		}
	}
	return 0
}
