package file

import (
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// kindOf names the kind of a value for people.
func kindOf(v hujson.Value) string {
	switch v.Value.Kind() {
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't', 'f':
		return "true or false"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "null"
}

// isNothing says whether a value stands for "none": null, false or "".
func isNothing(v hujson.Value) bool {
	text, isText := literalText(v)
	return v.Value.Kind() == 'n' || v.Value.Kind() == 'f' || isText && strings.TrimSpace(text) == ""
}

// literalText gives a string value, and false for any other kind.
func literalText(v hujson.Value) (string, bool) {
	literal, ok := v.Value.(hujson.Literal)
	if !ok || literal.Kind() != '"' {
		return "", false
	}
	return strings.ToValidUTF8(literal.String(), "\ufffd"), true
}

// text reads a string where nothing depends on it: what is no string is left
// out with a warning.
func (r *reader) text(key string, at spot, v hujson.Value) (string, bool) {
	if text, ok := literalText(v); ok {
		return strings.TrimSpace(text), true
	}
	if v.Value.Kind() == '0' {
		text := v.Value.(hujson.Literal).String()
		r.write(r.warn(v.StartOffset, "%q is a string; the number was understood as %q.", clip(key), clip(text)), v, quote(text))
		return text, true
	}
	r.omit(r.warn(v.StartOffset, "%q is a string; this is %s and was left out.", clip(key), kindOf(v)), at)
	return "", false
}

// needed reads a string without which the environment would be another one.
func (r *reader) needed(key string, at spot, v hujson.Value, into *string) error {
	if k := v.Value.Kind(); k == '{' || k == '[' || k == 't' {
		return r.refuse(v.StartOffset, `%q is a string, as in { %q: "…" }; this is %s.`, key, key, kindOf(v))
	}
	*into, _ = r.text(key, at, v)
	return r.noZero(key, v, *into)
}

// noZero refuses a zero byte, which no argument of a command can hold.
func (r *reader) noZero(key string, v hujson.Value, text string) error {
	if strings.ContainsRune(text, 0) {
		return r.refuse(v.StartOffset, `%q holds a zero byte (\u0000); remove it.`, key)
	}
	return nil
}

// command reads the text of install or start. An array of commands is one
// after another until one fails.
func (r *reader) command(key string, v hujson.Value, into *string) error {
	text, ok := literalText(v)
	if !ok {
		var err error
		if text, err = r.commandIn(key, v); err != nil {
			return err
		}
	}
	if *into = text; strings.TrimSpace(text) == "" {
		*into = ""
	}
	return r.noZero(key, v, text)
}

// commandIn finds the command in what is no string.
func (r *reader) commandIn(key string, v hujson.Value) (string, error) {
	switch composite := v.Value.(type) {
	case *hujson.Object:
		for _, m := range composite.Members {
			if name := nameOf(m); name == "command" || name == "run" || name == "cmd" {
				f := r.warn(v.StartOffset, "%q is a string; its %q was understood as the command.", key, name)
				text := ""
				err := r.command(key, m.Value, &text)
				r.write(f, v, quote(text))
				return text, err
			}
		}
	case *hujson.Array:
		return r.commandList(key, v, composite)
	case hujson.Literal:
		if isNothing(v) {
			r.write(r.warn(v.StartOffset, "%q is a string; %s was understood as none.", key, kindOf(v)), v, `""`)
			return "", nil
		}
	}
	return "", r.refuse(v.StartOffset, `%q is a command in a string, as in { %q: "npm ci" }; this is %s.`, key, key, kindOf(v))
}

func (r *reader) commandList(key string, v hujson.Value, array *hujson.Array) (string, error) {
	var lines []string
	for _, element := range array.Elements {
		text, isText := literalText(element)
		if !isText {
			return "", r.refuse(element.StartOffset, `%q is a command in a string, as in { %q: "npm ci && npm run build" }; this array holds %s.`, key, key, kindOf(element))
		}
		if strings.TrimSpace(text) != "" {
			lines = append(lines, text)
		}
	}
	text := strings.Join(lines, "\n")
	if len(lines) > 1 {
		text = "set -e\n" + text
	}
	r.write(r.warn(v.StartOffset, "%q is a string; the array was understood as commands to run one after another.", key), v, quote(text))
	return text, nil
}

// texts reads an array of strings where nothing depends on it.
func (r *reader) texts(key string, at spot, v hujson.Value) []string {
	array, ok := v.Value.(*hujson.Array)
	if !ok {
		if text, isText := literalText(v); isText && text != "" {
			r.wrap(r.warn(v.StartOffset, "%q is an array; %q was understood as its one entry.", key, clip(text)), v, "[", "]")
			return []string{text}
		}
		r.omit(r.warn(v.StartOffset, "%q is an array of strings; this is %s and was left out.", key, kindOf(v)), at)
		return nil
	}
	var all []string
	for i, element := range array.Elements {
		if text, isText := literalText(element); isText {
			all = append(all, text)
		} else {
			r.omit(r.warn(element.StartOffset, "%q holds strings; this is %s and was left out.", key, kindOf(element)), spot{v, i})
		}
	}
	return all
}

// truth reads true or false, also where it is written as a string.
func (r *reader) truth(key string, at spot, v hujson.Value) *bool {
	var b bool
	text, isText := literalText(v)
	switch {
	case v.Value.Kind() == 't' || v.Value.Kind() == 'f':
		b = v.Value.Kind() == 't'
	case isText && (strings.EqualFold(text, "true") || strings.EqualFold(text, "false")):
		b = strings.EqualFold(text, "true")
		r.write(r.warn(v.StartOffset, "%q is true or false without quotes; %q was understood as %t.", key, text, b), v, strconv.FormatBool(b))
	default:
		r.omit(r.warn(v.StartOffset, "%q is true or false; this is %s and was left out.", key, kindOf(v)), at)
		return nil
	}
	return &b
}

// keep puts a value away as standard JSON.
func (r *reader) keep(key string, v hujson.Value) {
	v = v.Clone()
	v.Minimize()
	packed := v.Pack()
	// A literal may hold bytes that are no UTF-8; encoding/json mends them.
	var compact bytes.Buffer
	if json.Compact(&compact, bytes.ToValidUTF8(packed, []byte("\ufffd"))) == nil {
		r.env.Extra[strings.ToValidUTF8(key, "\ufffd")] = compact.Bytes()
	}
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// elsewhere matches what a value takes from the machine of the one who
	// wrote it, as in ${localEnv:TOKEN}.
	elsewhere = regexp.MustCompile(`\$\{(localEnv|env|containerEnv|secrets?)[:.][^}]*\}|\$\{\{.*\}\}`)
)

// variables reads the object of variables.
func (r *reader) variables(at spot, v hujson.Value) error {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		r.omit(r.warn(v.StartOffset, `"env" is an object, { "NAME": "value" }; this is %s and was left out.`, kindOf(v)), at)
		return nil
	}
	for i := range r.members(v, nameOf) {
		m := object.Members[i]
		name := nameOf(m)
		literal, isLiteral := m.Value.Value.(hujson.Literal)
		if !isLiteral || literal.Kind() == 'n' || !variableName.MatchString(name) {
			r.omit(r.warn(m.Name.StartOffset, "The variable %q was left out: it needs a name of letters, digits and _, and a string.", clip(name)), spot{v, i})
			continue
		}
		text := strings.ToValidUTF8(literal.String(), "\ufffd")
		if found := elsewhere.FindString(text); found != "" {
			r.omit(r.warn(m.Value.StartOffset, "The variable %q was left out: %s has no value here. Give it to the agent as a variable or a secret.", clip(name), clip(found)), spot{v, i})
			continue
		}
		if strings.ContainsRune(text, 0) {
			r.omit(r.warn(m.Value.StartOffset, `The variable %q was left out: it holds a zero byte (\u0000).`, clip(name)), spot{v, i})
			continue
		}
		if r.env.Env == nil {
			r.env.Env = map[string]string{}
		}
		r.env.Env[name] = text
	}
	return nil
}

// members gives the indexes of an object's members, each with what known makes
// of it, without those that a later one of the same meaning replaces. A member
// that known gives "" for is one by its own name.
func (r *reader) members(v hujson.Value, known func(hujson.ObjectMember) string) iter.Seq2[int, string] {
	members := v.Value.(*hujson.Object).Members
	last := map[string]int{}
	id := func(m hujson.ObjectMember) string { return cmp.Or(known(m), "\x00"+nameOf(m)) }
	for i, m := range members {
		last[id(m)] = i
	}
	return func(yield func(int, string) bool) {
		for i, m := range members {
			if last[id(m)] != i {
				f := r.warn(m.Name.StartOffset, "%q is given more than once; the last one counts.", clip(nameOf(m)))
				r.omit(f, spot{v, i})
			} else if !yield(i, known(m)) {
				return
			}
		}
	}
}

// trailingCommas warns of the commas before a closing bracket.
func (r *reader) trailingCommas(v *hujson.Value) {
	for at := range v.All() {
		var last *hujson.Value
		switch composite := at.Value.(type) {
		case *hujson.Object:
			if n := len(composite.Members); n > 0 {
				last = &composite.Members[n-1].Value
			}
		case *hujson.Array:
			if n := len(composite.Elements); n > 0 {
				last = &composite.Elements[n-1]
			}
		}
		if last != nil && last.AfterExtra != nil {
			comma := last.EndOffset + len(last.AfterExtra)
			r.replace(r.warn(comma, "There is a comma after the last entry; it was understood as if it were not there."), comma, comma+1, "")
		}
	}
}

// fold gives a key in the form in which spellings are compared.
func fold(key string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(key))
}

// meant gives, as a further sentence, the key that a wrong one may stand for, or
// "".
func meant(name string, keys ...string) string {
	canonical := map[string]string{}
	for _, key := range keys {
		canonical[fold(key)] = key
	}
	if near := nearest(fold(name), canonical); near != "" {
		return " Did you mean " + strconv.Quote(near) + "?"
	}
	return ""
}

// nearest gives the known key that differs from a folded one by one letter
// more, less or other, or "".
func nearest(folded string, canonical map[string]string) string {
	for _, known := range slices.Sorted(maps.Keys(canonical)) {
		if len(known) > 3 && oneApart(folded, known) {
			return canonical[known]
		}
	}
	return ""
}

// oneApart says whether one letter added, left out, changed or swapped with
// its neighbour makes a into b.
func oneApart(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch len(b) - len(a) {
	case 1:
		return a[i:] == b[i+1:]
	case 0:
		swapped := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		return i < len(a) && (a[i+1:] == b[i+1:] || swapped)
	}
	return false
}
