package survey

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/tailscale/hujson"
	"go.yaml.in/yaml/v3"
)

// maxOpen bounds how often a JSON file may open an object or an array: the
// parser is recursive.
const maxOpen = 20_000

// jsonFile is a JSON file, with comments or without, that tells the lines of
// what is in it.
type jsonFile struct {
	text string
	tree hujson.Value
}

// json reads a file into v. It says false for one that is missing or does not
// parse, the latter with a note.
func (l *look) json(file string, v any) (jsonFile, bool) {
	text := strings.TrimPrefix(l.read(file), "\ufeff")
	if text == "" {
		return jsonFile{}, false
	}
	if strings.Count(text, "[")+strings.Count(text, "{") > maxOpen {
		l.note("%s is too deep to be looked at.", clip(file))
		return jsonFile{}, false
	}
	tree, err := hujson.Parse([]byte(text))
	if err != nil {
		l.note("%s is not valid JSON and was left out: %s.", clip(file), clip(err.Error()))
		return jsonFile{}, false
	}
	plain := tree.Clone()
	plain.Standardize()
	if err := json.Unmarshal(plain.Pack(), v); err != nil {
		l.note("%s has another form than its tool reads: %s.", clip(file), clip(err.Error()))
	}
	return jsonFile{text, tree}, true
}

// line gives the line of what a path of keys leads to, 0 where nothing is.
func (f jsonFile) line(keys ...string) int {
	pointer := ""
	for _, k := range keys {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
	}
	v := f.tree.Find(pointer)
	if v == nil {
		return 0
	}
	return 1 + strings.Count(f.text[:min(v.StartOffset, len(f.text))], "\n")
}

// yaml reads a file's first document, nil for one that is missing or does not
// parse, the latter with a note. Aliases are not followed.
func (l *look) yaml(file string) *yaml.Node {
	text := l.read(file)
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
		l.note("%s is not valid YAML and was left out.", clip(file))
		return nil
	}
	return doc.Content[0]
}

// at gives what a path of keys leads to in a tree of mappings, nil where nothing
// is.
func at(n *yaml.Node, keys ...string) *yaml.Node {
	for _, k := range keys {
		if n == nil || n.Kind != yaml.MappingNode {
			return nil
		}
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == k {
				next = n.Content[i+1]
			}
		}
		n = next
	}
	return n
}

// scalar gives a node's text, "" for what has none.
func scalar(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// pairs calls each with the keys and values of a mapping.
func pairs(n *yaml.Node, each func(key, value *yaml.Node)) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		each(n.Content[i], n.Content[i+1])
	}
}

// items gives the elements of a sequence.
func items(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

var (
	tomlSection = regexp.MustCompile(`^\s*\[+\s*([^\[\]]+?)\s*\]+\s*(?:#.*)?$`)
	tomlKey     = regexp.MustCompile(`^\s*"?([A-Za-z0-9_.-]+)"?\s*=\s*(.*)$`)
)

// tomlLine finds a key in a section of a TOML file ("" is above the first) and
// gives its value's text and line. It looks at lines alone, which is enough for
// the one-line settings that are asked for, and tells the line, which decoders
// do not.
func tomlLine(text, section, key string) (value string, line int) {
	in, n := "", 0
	for s := range strings.Lines(text) {
		n++
		if m := tomlSection.FindStringSubmatch(strings.TrimRight(s, "\r\n")); m != nil {
			in = m[1]
			continue
		}
		if m := tomlKey.FindStringSubmatch(strings.TrimRight(s, "\r\n")); m != nil && in == section && m[1] == key {
			value, _, _ = strings.Cut(m[2], " #")
			return strings.Trim(strings.TrimSpace(value), `"'`), n
		}
	}
	return "", 0
}

// tomlHas gives the line on which a section begins, 0 where it does not.
func tomlHas(text, section string) int {
	n := 0
	for s := range strings.Lines(text) {
		n++
		if m := tomlSection.FindStringSubmatch(strings.TrimRight(s, "\r\n")); m != nil && m[1] == section {
			return n
		}
	}
	return 0
}
