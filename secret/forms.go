package secret

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strings"
)

// forms gives the patterns by which v is found: as it is, in base64 at any
// offset, also that in base64 again, in hex, as a form's field, and in what a view
// makes of it. Escapes (of JSON, URLs, shells) are the views' doing. It gives none
// for a value that is too short.
func forms(v string) []pattern {
	v = strings.TrimSpace(v)
	plain := squeezed(v, false)
	if len(plain.text) < shortest {
		return nil
	}
	all := []pattern{plain, squeezed(hex.EncodeToString([]byte(v)), true), squeezed(strings.ToUpper(hex.EncodeToString([]byte(v))), true)}
	for _, text := range loosened(v) {
		all = append(all, squeezed(text, true))
	}
	if strings.ContainsAny(v, " \t\r\n") {
		all = append(all, squeezed(url.QueryEscape(v), false), squeezed(strings.ReplaceAll(v, " ", "+"), false))
	}
	// What base64 makes of a value alone, or as a line, is all its own, to the end.
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		all = append(all, pattern{text: enc.EncodeToString([]byte(v))}, pattern{text: enc.EncodeToString([]byte(v + "\n"))})
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for _, once := range inBase64(enc, v) {
			all = append(all, pattern{text: once})
			for _, twice := range inBase64(enc, once) {
				all = append(all, pattern{text: twice})
			}
		}
	}
	var long []pattern
	for _, p := range all {
		if len(p.text) >= shortest {
			long = append(long, p)
		}
	}
	return long
}

// inBase64 gives what v is in base64. Within a longer text that depends on the
// offset modulo 3: of each are the characters that v alone decides.
func inBase64(enc *base64.Encoding, v string) [3]string {
	var all [3]string
	for skip := range all {
		s := enc.EncodeToString(append(make([]byte, skip), v...))
		all[skip] = s[(skip*8+5)/6 : (skip+len(v))*8/6]
	}
	return all
}

// squeezed gives the pattern of a text.
func squeezed(s string, loose bool) pattern {
	p := pattern{loose: loose}
	var b strings.Builder
	for i := range len(s) {
		if ink[s[i]] == 1 {
			b.WriteByte(s[i])
		} else if n := len(p.spaces); b.Len() > 0 && (n == 0 || p.spaces[n-1] != b.Len()) {
			p.spaces = append(p.spaces, b.Len())
		}
	}
	p.text = b.String()
	return p
}

// loosened gives what the loose views make of a value that itself looks escaped,
// or has lines that look prefixed.
func loosened(v string) []string {
	var once, twice view
	if !once.loosen([]byte(v), nil, &anySpecial) {
		return nil
	}
	all := []string{string(once.text[:once.n])}
	if twice.loosen(once.text[:once.n], &once, &anySpecial) {
		all = append(all, string(twice.text[:twice.n]))
	}
	return all
}
