package file

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// Edit is a change of a file's text.
type Edit struct {
	Offset int    `json:"offset"` // in bytes, of the file as it was read
	Length int    `json:"length"` // of what is replaced, in bytes; 0 inserts
	Text   string `json:"text"`   // what takes its place
}

// change is an edit while the file is read: its offsets are of source.text,
// which has the mends in it already.
type change struct {
	start, end int
	text       string
	by         *Finding
}

// replace notes that f is corrected by putting text in place of a part.
func (s *source) replace(f *Finding, start, end int, text string) {
	s.changes = append(s.changes, change{start: start, end: end, text: text, by: f})
}

// write is replace for a value.
func (s *source) write(f *Finding, v hujson.Value, text string) {
	s.replace(f, v.StartOffset, v.EndOffset, text)
}

// rename is replace for the name of a member.
func (s *source) rename(f *Finding, m hujson.ObjectMember, name string) {
	s.replace(f, m.Name.StartOffset, m.Name.EndOffset, quote(name))
}

// wrap puts text before and after a value.
func (s *source) wrap(f *Finding, v hujson.Value, before, after string) {
	s.replace(f, v.StartOffset, v.StartOffset, before)
	s.replace(f, v.EndOffset, v.EndOffset, after)
}

// list is an object or an array of which entries are to go, or to which some
// are to be added. What becomes of its commas is known when all of that is.
type list struct {
	open    int // offset after its opening bracket
	entries []entry
	added   []addition
}

// entry is a member of an object or an element of an array.
type entry struct {
	before, start, end int // the end of what stands before it, and its own extent
	comma              int // offset of the comma after it, -1 without one
	drop               *Finding
	moved              bool // it is told elsewhere and leaves nothing behind
}

type addition struct {
	by   *Finding
	text string
}

// listOf gives what is noted of a composite. v is its value.
func (s *source) listOf(v hujson.Value) *list {
	if l := s.lists[v.StartOffset]; l != nil {
		return l
	}
	l := &list{open: v.StartOffset + 1}
	before := l.open
	put := func(start int, last hujson.Value, more bool) {
		e := entry{before: before, start: start, end: last.EndOffset, comma: -1}
		if before = e.end; more || last.AfterExtra != nil {
			e.comma = last.EndOffset + len(last.AfterExtra)
			before = e.comma + 1
		}
		l.entries = append(l.entries, e)
	}
	switch c := v.Value.(type) {
	case *hujson.Object:
		for i, m := range c.Members {
			put(m.Name.StartOffset, m.Value, i+1 < len(c.Members))
		}
	case *hujson.Array:
		for i, e := range c.Elements {
			put(e.StartOffset, e, i+1 < len(c.Elements))
		}
	}
	if s.lists == nil {
		s.lists = map[int]*list{}
	}
	s.lists[v.StartOffset] = l
	return l
}

// drop notes that f is corrected by making an entry a comment.
func (s *source) drop(f *Finding, in hujson.Value, index int) {
	if e := &s.listOf(in).entries[index]; e.drop == nil {
		e.drop = f
	}
}

// move notes that f is corrected by taking an entry out.
func (s *source) move(f *Finding, in hujson.Value, index int) {
	s.drop(f, in, index)
	s.listOf(in).entries[index].moved = true
}

// add notes that f is corrected by an entry more, which goes first.
func (s *source) add(f *Finding, in hujson.Value, text string) {
	l := s.listOf(in)
	l.added = append(l.added, addition{f, text})
}

// settle turns what is noted of lists into changes.
func (s *source) settle() {
	for _, at := range slices.Sorted(maps.Keys(s.lists)) {
		s.settleList(s.lists[at])
	}
	s.lists = nil
}

func (s *source) settleList(l *list) {
	last := -1 // that stays
	for i, e := range l.entries {
		if e.drop == nil {
			last = i
			continue
		}
		end := e.end
		if e.comma >= 0 {
			end = e.comma + 1
		}
		if e.moved && len(bytes.TrimSpace(s.text[e.before:e.start])) == 0 {
			s.replace(e.drop, e.before, end, "")
			continue
		}
		// What would end the comment is written as JSON may write it as well.
		text := strings.ReplaceAll(strings.ToValidUTF8(string(s.text[e.start:end]), "\ufffd"), "*/", `*\/`)
		if e.moved {
			s.replace(e.drop, e.start, end, "")
		} else {
			s.replace(e.drop, e.start, end, "/* "+text+" */")
		}
	}
	if last >= 0 && last+1 < len(l.entries) {
		comma := l.entries[last].comma
		s.replace(l.entries[last+1].drop, comma, comma+1, "")
	}
	for i, a := range l.added {
		text := " " + a.text
		if last >= 0 || i+1 < len(l.added) {
			text += ","
		} else if l.open < len(s.text) && s.text[l.open] == '}' {
			text += " "
		}
		s.replace(a.by, l.open, l.open, text)
	}
}

// edits hands every finding the edits that correct it. A change inside another
// one is part of it.
func (s *source) edits() {
	s.settle()
	slices.SortStableFunc(s.changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end))
	})
	var kept []change
	end, start := 0, -1 // of the last one that replaces something
	for _, c := range s.changes {
		inserts := c.start == c.end
		if c.start < end && (!inserts || c.start != start) {
			continue
		}
		if !inserts {
			start, end = c.start, c.end
		}
		kept = append(kept, c)
	}
	// An insertion goes before what is replaced at the same place.
	slices.SortStableFunc(kept, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(min(a.end-a.start, 1), min(b.end-b.start, 1)))
	})
	for _, c := range kept {
		from, to := s.origin(c.start), s.origin(c.end)
		c.by.Edits = append(c.by.Edits, Edit{Offset: from + s.skipped, Length: to - from, Text: c.text})
		s.applied = append(s.applied, Edit{Offset: from + s.skipped, Length: to - from, Text: c.text})
	}
}

// apply gives data with edits made, which are in order and do not overlap.
func apply(data []byte, edits []Edit) []byte {
	var out []byte
	at := 0
	for _, e := range edits {
		out = append(append(out, data[at:e.Offset]...), e.Text...)
		at = e.Offset + e.Length
	}
	return append(out, data[at:]...)
}

// quote gives text as JSON writes it.
func quote(text string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.Encode(text) // a string always can be
	return strings.TrimSuffix(b.String(), "\n")
}
