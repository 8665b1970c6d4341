package file

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tailscale/hujson"

	"github.com/errand-dev/errand"
)

const (
	// maxFile bounds a file in bytes.
	maxFile = 256 << 10
	// maxOpen bounds how often a file may open an object or an array, and with
	// it the parser's depth: it is recursive, and a stack that overflows cannot
	// be recovered.
	maxOpen = 10_000
	// maxRepairs bounds what is mended in one file; every repair parses anew.
	maxRepairs = 64
	// maxFindings bounds what one file has to say.
	maxFindings = 200
)

// source is the text of a file while it is read: it finds positions and
// collects findings and what corrects them.
type source struct {
	file     string
	original []byte // without a byte order mark
	skipped  int    // bytes of that mark
	text     []byte // original with the mends in it
	inserted []int  // offsets in text of bytes that original lacks, ascending
	findings []*Finding
	changes  []change
	lists    map[int]*list // by the offset of their composite
	applied  []Edit        // all that findings have, in order
}

// origin gives the offset in original of one in text.
func (s *source) origin(offset int) int {
	before, _ := slices.BinarySearch(s.inserted, offset)
	return min(max(offset-before, 0), len(s.original))
}

// position gives the line and column in the original of an offset in text.
func (s *source) position(offset int) (line, column int) {
	head := s.original[:s.origin(offset)]
	start := bytes.LastIndexByte(head, '\n') + 1
	return 1 + bytes.Count(head, []byte("\n")), 1 + utf8.RuneCount(head[start:])
}

// warn notes a finding. The caller says what corrects it.
func (s *source) warn(offset int, format string, args ...any) *Finding {
	switch {
	case len(s.findings) > maxFindings:
		return &Finding{}
	case len(s.findings) == maxFindings:
		s.findings = append(s.findings, &Finding{File: s.file, Severity: Warning, Text: "There are more oddities than are listed here."})
		return &Finding{}
	}
	line, column := s.position(offset)
	f := &Finding{File: s.file, Line: line, Column: column, Severity: Warning, Text: fmt.Sprintf(format, args...)}
	s.findings = append(s.findings, f)
	return f
}

// refuse makes the error for what cannot be understood, and notes it as a
// finding.
func (s *source) refuse(offset int, format string, args ...any) error {
	line, column := s.position(offset)
	return s.refused(Finding{File: s.file, Line: line, Column: column, Text: fmt.Sprintf(format, args...)}, errand.Invalid)
}

func (s *source) refused(f Finding, kind errand.Kind) error {
	f.Severity = Error
	s.findings = append(s.findings, &f)
	return errand.Errorf(kind, "invalid_environment", "%s", f.String())
}

// parse reads the text as JSON with comments. It mends what has one meaning
// only (a comma left out, a line break inside a string) with a warning. The
// value is nil for a file with nothing in it.
func (s *source) parse() (hujson.Value, error) {
	var none hujson.Value
	if err := s.bound(); err != nil {
		return none, err
	}
	if bytes.HasPrefix(s.original, []byte("\ufeff")) {
		s.skipped = len("\ufeff")
		s.original = s.original[s.skipped:]
	}
	// A comment on the last line needs its line break.
	s.text = append(slices.Clone(s.original), '\n')
	for range maxRepairs {
		value, err := hujson.Parse(s.text)
		if err == nil {
			s.text = bytes.Clone(s.text)
			return value, nil
		}
		offset := s.offsetOf(err)
		if s.blank() {
			f := s.warn(0, "The file is empty; it asks for nothing.")
			end := len(s.text) - 1
			text := "{}\n"
			if len(s.original) > 0 && s.original[len(s.original)-1] != '\n' {
				text = "\n{}\n"
			}
			s.replace(f, end, end, text)
			return none, nil
		}
		if !s.mend(offset, err.Error()) {
			return none, s.explain(offset, err)
		}
	}
	return none, s.refuse(len(s.text), "There are more than %d faults in the JSON of this file; run it through a JSON formatter.", maxRepairs)
}

// bound refuses what is not worth reading or could not be read safely.
func (s *source) bound() error {
	file := Finding{File: s.file}
	switch {
	case len(s.original) > maxFile:
		file.Text = fmt.Sprintf("This file has %d bytes; an environment file may have %d. Move long commands into a script.", len(s.original), maxFile)
		return s.refused(file, errand.TooLarge)
	case bytes.Count(s.original, []byte("["))+bytes.Count(s.original, []byte("{")) > maxOpen:
		file.Text = fmt.Sprintf("This file has more than %d brackets; it is no environment file.", maxOpen)
		return s.refused(file, errand.Invalid)
	case bytes.HasPrefix(s.original, []byte("\xff\xfe")), bytes.HasPrefix(s.original, []byte("\xfe\xff")):
		file.Text = "This file is in UTF-16; save it as UTF-8."
		return s.refused(file, errand.Invalid)
	}
	return nil
}

// offsetOf finds where in text the parser gave up. The parser tells it only as
// line and byte column at the head of its message.
func (s *source) offsetOf(err error) int {
	var line, column int
	if _, scanErr := fmt.Sscanf(err.Error(), "hujson: line %d, column %d:", &line, &column); scanErr != nil {
		return 0
	}
	offset := 0
	for ; line > 1; line-- {
		offset += bytes.IndexByte(s.text[offset:], '\n') + 1
	}
	return min(offset+column-1, len(s.text))
}

// blank says whether the text is nothing but space and comments.
func (s *source) blank() bool {
	value, err := hujson.Parse(append(bytes.Clone(s.text), "null"...))
	return err == nil && value.Value.Kind() == 'n'
}

// mend repairs the fault at offset if it has one meaning only, and says
// whether it did.
func (s *source) mend(offset int, fault string) bool {
	if offset >= len(s.text) {
		return false
	}
	switch c := s.text[offset]; {
	case c == '#':
		f := s.warn(offset, "A comment begins with // here; # was understood as one.")
		s.text[offset] = '/'
		s.insert(offset, '/')
		s.replace(f, offset, offset+2, "//")
		return true
	case c == '"' && strings.Contains(fault, "invalid literal") && s.closed(offset):
		return s.mendBreaks(offset)
	case strings.IndexByte(`"{[-0123456789tfn`, c) >= 0 && strings.Contains(fault, "expecting ','"):
		end := s.tokenEnd(offset)
		f := s.warn(end, "A comma is missing here; it was understood as if it were there.")
		s.insert(end, ',')
		s.replace(f, end, end+1, ",")
		return true
	}
	return false
}

// closed says whether the string at offset has a raw line break or tab and
// ends where a string may end. One that merely lacks its closing quote runs on
// into the next key and ends before a letter.
func (s *source) closed(offset int) bool {
	end := stringEnd(s.text, offset)
	if end < 0 || !bytes.ContainsAny(s.text[offset:end], "\n\r\t") {
		return false
	}
	rest := bytes.TrimLeft(s.text[end:], " \t\r\n")
	return len(rest) == 0 || strings.IndexByte(`,:}]/`, rest[0]) >= 0
}

// stringEnd gives the offset after the string that begins at offset, or -1.
func stringEnd(text []byte, offset int) int {
	for i := offset + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// mendBreaks writes the raw line breaks and tabs of a string as escapes.
func (s *source) mendBreaks(offset int) bool {
	f := s.warn(offset, `This string has a line break or a tab in it, which JSON writes as \n or \t; it was understood so.`)
	for i := offset; i < stringEnd(s.text, offset); i++ {
		if at := strings.IndexByte("\n\r\t", s.text[i]); at >= 0 {
			s.text[i] = "nrt"[at]
			s.insert(i, '\\')
			i++
		}
	}
	end := stringEnd(s.text, offset)
	s.replace(f, offset, end, string(s.text[offset:end]))
	return true
}

// tokenEnd gives the end of what stands before offset, comments and space left
// out.
func (s *source) tokenEnd(offset int) int {
	end := 0
	for i := 0; i < offset; i++ {
		switch rest := s.text[i:offset]; {
		case rest[0] == '"':
			i = max(stringEnd(s.text, i), i+1) - 1
			end = i + 1
		case bytes.HasPrefix(rest, []byte("//")):
			i += max(bytes.IndexByte(rest, '\n'), 1)
		case bytes.HasPrefix(rest, []byte("/*")):
			i += max(bytes.Index(rest, []byte("*/"))+1, 1)
		case strings.IndexByte(" \t\r\n", rest[0]) < 0:
			end = i + 1
		}
	}
	return min(end, offset)
}

// insert puts a byte into text that original lacks. What was mended behind it
// moves along.
func (s *source) insert(offset int, c byte) {
	s.text = slices.Insert(s.text, offset, c)
	at, _ := slices.BinarySearch(s.inserted, offset)
	for i := range s.inserted[at:] {
		s.inserted[at+i]++
	}
	s.inserted = slices.Insert(s.inserted, at, offset)
	for i := range s.changes {
		if change := &s.changes[i]; change.start >= offset {
			change.start++
			change.end++
		}
	}
}

// explain makes the parser's error into one that shows the right form, and
// corrects it where there is one only.
func (s *source) explain(offset int, err error) error {
	refused := s.reason(offset, err)
	f := s.findings[len(s.findings)-1]
	if start, end, text, ok := s.rightForm(offset, err); ok {
		s.replace(f, start, end, text)
	}
	return refused
}

// reason makes the parser's error into one that shows the right form.
func (s *source) reason(offset int, err error) error {
	if offset >= len(s.text)-1 {
		return s.refuse(len(s.text)-1, "The file ends too early; %s is missing.", s.missing())
	}
	word := s.wordAt(offset)
	lower := strings.ToLower(word)
	switch c := s.text[offset]; {
	case strings.Contains(err.Error(), "after object name"):
		return s.refuse(offset, `Between a key and its value stands a colon, as in "key": "value".`)
	case strings.Contains(err.Error(), "after top-level value"):
		return s.refuse(offset, "The object has ended before this; remove what follows it.")
	case strings.Contains(err.Error(), "parsing comment"):
		return s.refuse(offset, "This comment is not closed; add */ at its end.")
	case c == '}' || c == ']':
		return s.refuse(offset, "A value is missing here.")
	case c == '\'':
		return s.refuse(offset, `Strings stand in double quotes: "%s" in place of '%s'.`, strings.Trim(word, "'"), strings.Trim(word, "'"))
	case lower == "true" || lower == "false":
		return s.refuse(offset, "Write %s in place of %s.", lower, word)
	case lower == "none" || lower == "undefined" || lower == "nil":
		return s.refuse(offset, "Write null in place of %s, or leave the key out.", word)
	case c == '"' && s.unclosed(offset):
		return s.refuse(offset, "This string is not closed; add a double quote at its end.")
	case c == '"':
		return s.refuse(offset, `This string has an escape that JSON does not know; a backslash is written \\, so: %s`, clip(fixEscapes(s.text[offset:stringEnd(s.text, offset)])))
	case c == '=' || c == ';':
		return s.refuse(offset, "Members of an object or an array are divided by commas; write , in place of %c.", c)
	case c == ',':
		return s.refuse(offset, "There is a comma too many; remove it.")
	case isLetter(c):
		bare := clip(s.bareAt(offset))
		return s.refuse(offset, `Strings and keys stand in double quotes: "%s" in place of %s.`, bare, bare)
	}
	reason := err
	if inner := errors.Unwrap(err); inner != nil {
		reason = inner
	}
	return s.refuse(offset, "The JSON cannot be understood: %v.", reason)
}

// unclosed says whether the string at offset does not end on its line.
func (s *source) unclosed(offset int) bool {
	end := stringEnd(s.text, offset)
	return end < 0 || bytes.IndexByte(s.text[offset:end], '\n') >= 0
}

// rightForm gives what to write in place of which part of text, where the fault
// at offset has one right form.
func (s *source) rightForm(offset int, err error) (start, end int, text string, ok bool) {
	if offset >= len(s.text)-1 {
		closing := s.missing()
		return len(s.text) - 1, len(s.text) - 1, closing, strings.Trim(closing, "}]") == ""
	}
	word := s.wordAt(offset)
	lower := strings.ToLower(word)
	switch c := s.text[offset]; {
	case strings.Contains(err.Error(), "after object name"):
		return offset, offset + 1, ":", c == '='
	case strings.Contains(err.Error(), "after top-level value"), strings.Contains(err.Error(), "parsing comment"):
		return 0, 0, "", false
	case c == '\'':
		length := bytes.IndexAny(s.text[offset+1:], "'\n\"")
		if length < 0 || s.text[offset+1+length] != '\'' {
			return 0, 0, "", false
		}
		inner := s.text[offset+1 : offset+1+length]
		return offset, offset + length + 2, `"` + string(inner) + `"`, !bytes.ContainsRune(inner, '\\')
	case lower == "true" || lower == "false":
		return offset, offset + len(word), lower, true
	case lower == "none" || lower == "undefined" || lower == "nil":
		return offset, offset + len(word), "null", true
	case c == '"' && !s.unclosed(offset):
		end := stringEnd(s.text, offset)
		return offset, end, fixEscapes(s.text[offset:end]), true
	case c == ';':
		return offset, offset + 1, ",", true
	case c == ',':
		return offset, offset + 1, "", true
	case isLetter(c):
		bare := s.bareAt(offset)
		return offset, offset + len(bare), quote(bare), utf8.ValidString(bare) && s.tokenEnd(offset) > 0
	}
	return 0, 0, "", false
}

// missing names what would close the file: what its last bytes have open.
func (s *source) missing() string {
	var open []byte
	for i := 0; i < len(s.text); i++ {
		switch c := s.text[i]; c {
		case '"':
			end := stringEnd(s.text, i)
			if end < 0 {
				return "a double quote"
			}
			i = end - 1
		case '/':
			if i+1 < len(s.text) && s.text[i+1] == '/' {
				i += bytes.IndexByte(s.text[i:], '\n')
			} else if n := bytes.Index(s.text[i:], []byte("*/")); n >= 0 {
				i += n + 1
			} else {
				return "the end of a comment, */,"
			}
		case '{':
			open = append(open, '}')
		case '[':
			open = append(open, ']')
		case '}', ']':
			open = open[:max(len(open)-1, 0)]
		}
	}
	if len(open) == 0 {
		return "a value"
	}
	slices.Reverse(open)
	return clip(string(open))
}

// wordAt gives the run of word characters and single quotes at offset.
func (s *source) wordAt(offset int) string {
	rest := s.text[offset:]
	end := bytes.IndexFunc(rest, func(r rune) bool {
		return r != '\'' && r != '_' && r != '-' && (r >= utf8.RuneSelf || !isLetter(byte(r)))
	})
	if end < 0 {
		end = len(rest)
	}
	return clip(string(rest[:end]))
}

// bareAt gives what was meant as a string at offset and has no quotes.
func (s *source) bareAt(offset int) string {
	rest := s.text[offset:]
	if end := bytes.IndexAny(rest, "\n,:}]\""); end >= 0 {
		rest = rest[:end]
	}
	return string(bytes.TrimSpace(rest))
}

// fixEscapes doubles the backslashes of a JSON string that begin no escape.
func fixEscapes(literal []byte) string {
	var fixed strings.Builder
	for i := 0; i < len(literal); i++ {
		fixed.WriteByte(literal[i])
		if literal[i] != '\\' || i+1 == len(literal) {
			continue
		}
		if strings.IndexByte(`"\/bfnrtu`, literal[i+1]) < 0 {
			fixed.WriteByte('\\')
		} else {
			i++
			fixed.WriteByte(literal[i])
		}
	}
	return fixed.String()
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// clip bounds what a message repeats of a file.
func clip(text string) string {
	const most = 120
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
