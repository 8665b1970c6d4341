// Package secret keeps values that must not be seen: it takes them out of text
// that leaves the process (Redactor), finds them in what is to be kept or pushed
// (Finder), and seals them at rest (Envelope, KeyFile).
//
// A value is looked for in the forms in which it tends to leak: as it is, with
// line breaks, indentation, colours or a diff's marks between its characters, in
// base64 at any offset, once or twice over, in hex, escaped as in JSON, in URLs
// and in shells. Text that comes in pieces is held back where it may be the
// beginning of a value; at a terminal so little of it that typing is seen at once.
// A Finder also looks into what is compressed. At rest each value is under a data
// key of its own, which a key-encryption key wraps.
//
// What was encrypted is not seen through, and a value shorter than six characters
// is not looked for. Names and scopes are package vault's.
package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Redacted stands where a secret stood.
const Redacted = "[REDACTED]"

// Redactor replaces secrets in text. Its zero value knows none. It may be used
// from many goroutines.
type Redactor struct {
	mu      sync.Mutex
	values  map[string]int // how often each was added
	matcher atomic.Pointer[matcher]
}

// Add makes r know values, until as many Removes. Values shorter than six
// characters, white space not counted, are not taken out of text.
func (r *Redactor) Add(values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil {
		r.values = map[string]int{}
	}
	fresh := false
	for _, v := range values {
		r.values[v]++
		fresh = fresh || r.values[v] == 1
	}
	if fresh {
		r.rebuildLocked()
	}
}

// Remove takes back one Add of each value.
func (r *Redactor) Remove(values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := false
	for _, v := range values {
		if r.values[v]--; r.values[v] <= 0 {
			delete(r.values, v)
			gone = true
		}
	}
	if gone {
		r.rebuildLocked()
	}
}

func (r *Redactor) rebuildLocked() {
	r.matcher.Store(newMatcher(slices.Collect(maps.Keys(r.values))))
}

// String gives s without the secrets.
func (r *Redactor) String(s string) string {
	m := r.matcher.Load()
	if m == nil || len(s) < shortest {
		return s
	}
	spans := m.find([]byte(s))
	if len(spans) == 0 {
		return s
	}
	return string(cutOut([]byte(s), 0, len(s), merge(spans)))
}

// JSON gives b, a JSON text, without the secrets in its strings. It stays the
// same JSON otherwise: numbers and names of members are left as they are, for a
// secret may be "100000" or "status".
func (r *Redactor) JSON(b json.RawMessage) json.RawMessage {
	if r.matcher.Load() == nil {
		return b
	}
	clean := make(json.RawMessage, 0, len(b))
	for len(b) > 0 {
		if b[0] != '"' {
			n := bytes.IndexByte(b, '"')
			if n < 0 {
				n = len(b)
			}
			clean, b = append(clean, b[:n]...), b[n:]
			continue
		}
		n := stringEnd(b)
		if rest := bytes.TrimLeft(b[n:], " \t\r\n"); len(rest) > 0 && rest[0] == ':' {
			clean = append(clean, b[:n]...)
		} else {
			clean = append(clean, r.jsonString(b[:n])...)
		}
		b = b[n:]
	}
	return clean
}

// stringEnd gives the length of the JSON string that b begins with.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// jsonString cleans what a JSON string says, however it is escaped.
func (r *Redactor) jsonString(b []byte) []byte {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return []byte(`"` + Redacted + `"`)
	}
	clean := r.String(text)
	if clean == text {
		return b
	}
	again, err := json.Marshal(clean)
	if err != nil {
		return []byte(`"` + Redacted + `"`)
	}
	return again
}

// Log gives a slog handler that takes the secrets out of messages and
// attributes on their way to next.
func (r *Redactor) Log(next slog.Handler) slog.Handler { return redactedLog{r, next} }

type redactedLog struct {
	redactor *Redactor
	slog.Handler
}

func (h redactedLog) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, h.redactor.String(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.clean(a))
		return true
	})
	return h.Handler.Handle(ctx, clean)
}

func (h redactedLog) clean(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		var group []slog.Attr
		for _, g := range v.Group() {
			group = append(group, h.clean(g))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case slog.KindString, slog.KindAny:
		return slog.String(a.Key, h.redactor.String(v.String()))
	}
	return a
}

func (h redactedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.clean(a)
	}
	return redactedLog{h.redactor, h.Handler.WithAttrs(clean)}
}

func (h redactedLog) WithGroup(name string) slog.Handler {
	return redactedLog{h.redactor, h.Handler.WithGroup(name)}
}
