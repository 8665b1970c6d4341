package secret

import (
	"bytes"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// view is a text without what may stand between the characters of a value: white
// space, and in a loose view escapes, colours and the prefixes of lines.
type view struct {
	text []byte // n bytes and some of padding
	n    int
	pos  []int32 // of each byte: where it begins in the text
	end  []int32 // and ends; unused in a strict view, where each is one byte
	wide bool    // end is used
}

func (v *view) from(i int) int { return int(v.pos[i]) }

func (v *view) to(i int) int {
	if v.wide {
		return int(v.end[i])
	}
	return int(v.pos[i]) + 1
}

// padded gives the view's text with eight zero bytes after it.
func (v *view) padded() []byte {
	b := v.text[:v.n+8]
	clear(b[v.n:])
	return b
}

func (v *view) reserve(n int) {
	if cap(v.text) < n+8 {
		v.text, v.pos = make([]byte, n+8), make([]int32, n+8)
	}
	v.text, v.pos, v.n = v.text[:cap(v.text)], v.pos[:cap(v.pos)], 0
	if v.wide && len(v.end) < len(v.pos) {
		v.end = make([]int32, len(v.pos))
	}
}

// ink is 0 for white space and 1 for all else.
var ink = func() (t [256]uint8) {
	for c := range t {
		t[c] = 1
	}
	for _, c := range " \t\n\r\v\f" {
		t[c] = 0
	}
	return t
}()

// strict makes v the view of text without white space.
func (v *view) strict(text []byte) {
	v.wide = false
	v.reserve(len(text))
	n, out, pos := 0, v.text, v.pos
	for i, c := range text {
		out[n], pos[n] = c, int32(i)
		n += int(ink[c])
	}
	v.n = n
}

// put adds bytes that stand for from to to of the text.
func (v *view) put(b []byte, from, to int) {
	for _, c := range b {
		if ink[c] == 1 {
			v.text[v.n], v.pos[v.n], v.end[v.n] = c, int32(from), int32(to)
			v.n++
		}
	}
}

// prefixes of lines: of diffs, quotations, comments and tables.
const prefixes = "+->|#*"

// loosen makes v the view of text in which the special bytes are looked at:
// escapes are what they stand for, and colours and the prefixes of lines are
// gone. below, if not nil, is a view whose text that is. It says whether there
// was anything of the kind.
func (v *view) loosen(text []byte, below *view, special *[256]bool) (changed bool) {
	v.wide = true
	v.reserve(len(text))
	var decoded []byte
	for i := 0; i < len(text); {
		c := text[i]
		if !special[c] {
			from, to := int32(i), int32(i+1)
			if below != nil {
				from, to = below.pos[i], below.end[i]
			}
			v.text[v.n], v.pos[v.n], v.end[v.n] = c, from, to
			v.n += int(ink[c])
			i++
			continue
		}
		n := 1
		decoded = append(decoded[:0], c)
		if c == '\n' {
			n += prefix(text[i+1:])
			changed = changed || n > 1
		} else if length, ok := escape(text[i:], nil); ok && length > 0 {
			decoded = decoded[:0]
			n, _ = escape(text[i:], &decoded)
			changed = true
		}
		from, to := i, i+n
		if below != nil {
			from, to = below.from(i), below.to(i+n-1)
		}
		v.put(decoded, from, to)
		i += n
	}
	return changed
}

// anySpecial are all bytes that loosen can look at.
var anySpecial = [256]bool{'\\': true, '%': true, '\x1b': true, '&': true, '\n': true}

// oneSpecial are the kinds of escapes by themselves. A value that holds what
// looks like an escape of one kind may stand in a text that is escaped in another.
var oneSpecial = [...][256]bool{{'\\': true}, {'%': true}, {'&': true}}

// prefix gives the length of what stands before a line's own text, 0 for white
// space alone.
func prefix(line []byte) int {
	n, found := 0, false
	for n < len(line) && n < 64 {
		switch c := line[n]; {
		case c == ' ' || c == '\t':
		case strings.IndexByte(prefixes, c) >= 0:
			found = true
		default:
			if found {
				return n
			}
			return 0
		}
		n++
	}
	return 0
}

var entities = [...]struct{ name, text string }{
	{"&quot;", `"`}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&#39;", "'"}, {"&#34;", `"`}, {"&apos;", "'"},
}

// escape reads the escape that b begins with: its length, and in out, if not
// nil, what it stands for. ok is false where there is none, and n is 0 where b
// ends within it.
func escape(b []byte, out *[]byte) (n int, ok bool) {
	put := func(c ...byte) {
		if out != nil {
			*out = append(*out, c...)
		}
	}
	switch b[0] {
	case '%':
		return hexEscape(b, 1, 2, put)
	case '\x1b':
		return ansi(b)
	case '&':
		for _, e := range entities {
			if bytes.HasPrefix(b, []byte(e.name)) {
				put([]byte(e.text)...)
				return len(e.name), true
			}
			if len(b) < len(e.name) && strings.HasPrefix(e.name, string(b)) {
				return 0, true
			}
		}
		return 0, false
	}
	if len(b) < 2 {
		return 0, true
	}
	switch c := b[1]; {
	case strings.IndexByte("nrtfbv\n", c) >= 0:
		return 2, true
	case c == 'x':
		return hexEscape(b, 2, 2, put)
	case c == 'u':
		return unicodeEscape(b, put)
	case c < '0' || c > '9' && c < 'A' || c > 'Z' && c < 'a' || c > 'z' && c < utf8.RuneSelf:
		put(c)
		return 2, true
	}
	return 0, false
}

func digit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// hexValue reads digits; ok is false for others, n is 0 where b ends.
func hexValue(b []byte, digits int) (value, n int, ok bool) {
	for n < digits {
		if n == len(b) {
			return 0, 0, true
		}
		d := digit(b[n])
		if d < 0 {
			return 0, 0, false
		}
		value, n = value<<4|d, n+1
	}
	return value, n, true
}

func hexEscape(b []byte, skip, digits int, put func(...byte)) (int, bool) {
	value, n, ok := hexValue(b[skip:], digits)
	if !ok || n == 0 {
		return 0, ok
	}
	put(byte(value))
	return skip + n, true
}

func unicodeEscape(b []byte, put func(...byte)) (int, bool) {
	value, n, ok := hexValue(b[2:], 4)
	if !ok || n == 0 {
		return 0, ok
	}
	r, length := rune(value), 6
	if utf16.IsSurrogate(r) && bytes.HasPrefix(b[6:], []byte(`\u`)) {
		if low, m, ok := hexValue(b[8:], 4); ok && m == 4 {
			r, length = utf16.DecodeRune(r, rune(low)), 12
		}
	}
	put(utf8.AppendRune(nil, r)...)
	return length, true
}

// ansi reads a terminal's sequence for colours and the cursor, or one that
// chooses a set of characters, as goes with them.
func ansi(b []byte) (int, bool) {
	if len(b) < 2 {
		return 0, true
	}
	if b[1] == '(' || b[1] == ')' {
		if len(b) < 3 {
			return 0, true
		}
		return 3, true
	}
	if b[1] != '[' {
		return 0, false
	}
	for i := 2; i < len(b) && i < 32; i++ {
		if b[i] >= 0x40 && b[i] <= 0x7e {
			return i + 1, true
		}
		if b[i] < 0x20 {
			return 0, false
		}
	}
	return 0, len(b) < 32
}

// look calls f with each view of text that differs from those before. A view is
// valid until f returns.
func (m *matcher) look(text []byte, f func(*view)) {
	first := m.views.Get().(*view)
	defer m.views.Put(first)
	first.strict(text)
	f(first)
	if !mayLoosen(text) {
		return
	}
	second := m.views.Get().(*view)
	defer m.views.Put(second)
	if m.escaped {
		for i := range oneSpecial {
			if second.loosen(text, nil, &oneSpecial[i]) {
				f(second)
			}
		}
	}
	if !second.loosen(text, nil, &anySpecial) {
		return
	}
	f(second)
	if inner := second.text[:second.n]; bytes.IndexByte(inner, '\\') >= 0 || bytes.IndexByte(inner, '%') >= 0 {
		if first.loosen(inner, second, &anySpecial) { // JSON within JSON
			f(first)
		}
	}
}

// mayLoosen says whether text may have what loosen takes away.
func mayLoosen(text []byte) bool {
	for _, c := range []byte("\\%\x1b&") {
		if bytes.IndexByte(text, c) >= 0 {
			return true
		}
	}
	for {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			return false
		}
		if text = text[i+1:]; prefix(text) > 0 {
			return true
		}
	}
}
