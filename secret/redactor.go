// Package secret keeps values that must not be seen: it takes them out of text
// that leaves the process (Redactor) and seals them at rest (Box).
//
// A Redactor stands before the journal, the log and the API. It knows each
// value in the forms in which it tends to leak: as it is, as a JSON string's
// content, URL-escaped and in base64.
//
// Scopes, kinds and key-encryption keys are not here yet.
package secret

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Redacted stands where a secret stood.
const Redacted = "[REDACTED]"

// shortest is the length below which a value is not taken out: hiding "1" or
// "dev" everywhere would destroy the text and hide nothing.
const shortest = 6

// Redactor replaces secrets in text. Its zero value knows none. It may be used
// from many goroutines.
type Redactor struct {
	mu       sync.Mutex
	values   map[string]int // how often each was added
	replacer atomic.Pointer[strings.Replacer]
}

// Add makes r know values, until as many Removes. Values shorter than six
// bytes are not taken out of text.
func (r *Redactor) Add(values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil {
		r.values = map[string]int{}
	}
	for _, v := range values {
		if len(v) >= shortest {
			r.values[v]++
		}
	}
	r.rebuildLocked()
}

// Remove takes back one Add of each value.
func (r *Redactor) Remove(values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range values {
		if r.values[v]--; r.values[v] <= 0 {
			delete(r.values, v)
		}
	}
	r.rebuildLocked()
}

func (r *Redactor) rebuildLocked() {
	if len(r.values) == 0 {
		r.replacer.Store(nil)
		return
	}
	var found []string
	for v := range r.values {
		found = append(found, forms(v)...)
	}
	// The Replacer takes the first of its arguments that matches, so a value
	// that contains another must come before it.
	slices.SortFunc(found, func(a, b string) int {
		if d := len(b) - len(a); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	found = slices.Compact(found)
	pairs := make([]string, 0, 2*len(found))
	for _, f := range found {
		pairs = append(pairs, f, Redacted)
	}
	r.replacer.Store(strings.NewReplacer(pairs...))
}

// forms gives the shapes in which v may stand in text.
func forms(v string) []string {
	all := []string{v, url.QueryEscape(v), url.PathEscape(v)}
	if b, err := json.Marshal(v); err == nil {
		all = append(all, string(b[1:len(b)-1]))
	}
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	if e.Encode(v) == nil {
		all = append(all, strings.Trim(strings.TrimSpace(plain.String()), `"`))
	}
	// Within a longer text base64 depends on the offset modulo 3: keep of each
	// the characters that the value alone decides.
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for skip := range 3 {
			s := enc.EncodeToString(append(make([]byte, skip), v...))
			from := (skip*8 + 5) / 6
			to := (skip + len(v)) * 8 / 6
			if to-from >= shortest {
				all = append(all, s[from:to])
			}
		}
	}
	return all
}

// String gives s without the secrets.
func (r *Redactor) String(s string) string {
	if p := r.replacer.Load(); p != nil {
		return p.Replace(s)
	}
	return s
}

// JSON gives b, a JSON text, without the secrets in its strings. It stays the
// same JSON otherwise: numbers and names of members are left as they are, for a
// secret may be "100000" or "status".
func (r *Redactor) JSON(b json.RawMessage) json.RawMessage {
	if r.replacer.Load() == nil {
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
