package file

import (
	"cmp"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// Parse reads an environment file as people write it. file names it in
// messages and gives the folder that paths are relative to.
//
// Every departure from the format that has a plain meaning is taken as meant,
// with a Finding that says how it was understood. The error, of kind Invalid
// or TooLarge, is for what cannot be understood; it names the line and column
// and, where possible, the right form. On an error the findings up to there
// are given as well.
func Parse(file string, data []byte) (*Environment, []Finding, error) {
	r := newReader(file, data)
	err := r.readAll()
	var warnings []Finding
	for _, f := range r.findings {
		if f.Severity == Warning {
			warnings = append(warnings, *f)
		}
	}
	if err != nil {
		return nil, warnings, err
	}
	return r.env, warnings, nil
}

// reader turns the value of a file into an Environment.
type reader struct {
	*source
	env    *Environment
	around *Around                 // nil: only read
	top    hujson.Value            // the whole file
	places map[string]hujson.Value // of the values that a later look points to, by key
	fields map[string]int          // of top: the index of the member with a key
	stray  map[string]string       // what keys of "build" have at the top level
	plain  *Finding                // tells that "build" is no object
	spots  []terminalSpot          // where env.Terminals were read
}

func newReader(file string, data []byte) *reader {
	return &reader{
		source: &source{file: file, original: data},
		env:    &Environment{File: file, Extra: map[string]json.RawMessage{}},
		places: map[string]hujson.Value{}, fields: map[string]int{}, stray: map[string]string{},
	}
}

// readAll reads the file, and puts the findings in order.
func (r *reader) readAll() error {
	value, err := r.parse()
	if err == nil {
		err = r.read(value)
		r.look()
	}
	r.edits()
	slices.SortStableFunc(r.findings, func(a, b *Finding) int {
		return cmp.Or(r.foreign(a)-r.foreign(b), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if len(r.env.Extra) == 0 {
		r.env.Extra = nil
	}
	return err
}

// foreign is 1 for a finding about another file than the one that is read.
func (r *reader) foreign(f *Finding) int {
	if f.File == r.file {
		return 0
	}
	return 1
}

// keys are the keys of the format, each with what reads it.
func (r *reader) keys() map[string]func(at spot, v hujson.Value) error {
	e := r.env
	text := func(key string, into *string) func(spot, hujson.Value) error {
		return func(at spot, v hujson.Value) error { *into, _ = r.text(key, at, v); return nil }
	}
	return map[string]func(spot, hujson.Value) error{
		"$schema":   text("$schema", new(string)),
		"name":      text("name", &e.Name),
		"user":      func(at spot, v hujson.Value) error { return r.needed("user", at, v, &e.User) },
		"install":   func(_ spot, v hujson.Value) error { return r.command("install", v, &e.Install) },
		"start":     func(_ spot, v hujson.Value) error { return r.command("start", v, &e.Start) },
		"image":     func(at spot, v hujson.Value) error { return r.needed("image", at, v, &e.Image) },
		"snapshot":  text("snapshot", &e.Snapshot),
		"build":     r.build,
		"terminals": func(_ spot, v hujson.Value) error { return r.terminals(v) },
		"ports":     r.ports,
		"repositoryDependencies": func(at spot, v hujson.Value) error {
			e.RepositoryDependencies = r.texts("repositoryDependencies", at, v)
			return nil
		},
		"agentCanUpdateSnapshot": func(at spot, v hujson.Value) error {
			e.AgentCanUpdateSnapshot = r.truth("agentCanUpdateSnapshot", at, v)
			return nil
		},
		"egressAllowlist": func(_ spot, v hujson.Value) error {
			return r.allowed("egressAllowlist", v, &e.EgressAllowlist)
		},
		"egressMode":           func(_ spot, v hujson.Value) error { return r.egressMode(v) },
		"disableAllMcpServers": r.disableMCP,
		"mcpServerAllowlist":   func(_ spot, v hujson.Value) error { return r.allowMCP(v) },
		"chromeExecutablePath": r.chrome,
		"enable_testing":       r.testing,
		"env":                  r.variables,
		// Not keys of the format, but their meaning is plain.
		"dockerfile":         r.strayBuild("dockerfile"),
		"dockerfileContents": r.strayBuild("dockerfileContents"),
		"context":            r.strayBuild("context"),
	}
}

// aliases are keys that people write for others. They count only where the
// value fits; else the key is an unknown one.
var aliases = map[string]string{
	"environment": "env", "environments": "env", "environmentvariables": "env", "envvars": "env",
	"containerenv": "env", "remoteenv": "env", "remoteuser": "user", "baseimage": "image",
	"installcommand": "install", "startcommand": "start", "terminal": "terminals", "port": "ports",
}

// spot is where a value stands: an entry of an object or an array.
type spot struct {
	in    hujson.Value
	index int
}

// omit notes that f is corrected by making the entry at a spot a comment.
func (r *reader) omit(f *Finding, at spot) { r.drop(f, at.in, at.index) }

func (r *reader) read(value hujson.Value) error {
	if value.Value == nil {
		return nil
	}
	object, ok := value.Value.(*hujson.Object)
	if !ok {
		if value.Value.Kind() == 'n' {
			r.write(r.warn(value.StartOffset, "The file holds null; it was understood as empty."), value, "{}")
			return nil
		}
		return r.refuse(value.StartOffset, `An environment file is an object, { "install": "…" }; this is %s.`, kindOf(value))
	}
	r.top = value
	r.trailingCommas(&value)
	keys := r.keys()
	canonical := map[string]string{}
	for name := range keys {
		canonical[fold(name)] = name
	}
	known := func(m hujson.ObjectMember) string {
		name := nameOf(m)
		if _, ok := keys[name]; ok {
			return name
		}
		if key, ok := canonical[fold(name)]; ok {
			return key
		}
		if key, ok := aliases[fold(name)]; ok && fitsAlias(key, m.Value) {
			return key
		}
		return ""
	}
	var first error // the keys behind a wrong one are read too, for what there is to say of them
	for i, key := range r.members(value, known) {
		m := object.Members[i]
		r.places[key], r.fields[key] = m.Value, i
		if key == "" {
			r.unknown(spot{value, i}, m, canonical)
		} else if err := r.member(spot{value, i}, m, key, keys[key]); first == nil {
			first = err
		}
	}
	if first != nil {
		return first
	}
	return r.finish()
}

// member reads one known key of the top level.
func (r *reader) member(at spot, m hujson.ObjectMember, key string, read func(spot, hujson.Value) error) error {
	switch name := nameOf(m); {
	case name == key:
	case fold(name) == fold(key):
		r.rename(r.warn(m.Name.StartOffset, "%q was understood as %q.", clip(name), key), m, key)
	default:
		r.rename(r.warn(m.Name.StartOffset, "%q is not a key of the format; it was understood as %q.", clip(name), key), m, key)
	}
	return read(at, m.Value)
}

// unknown keeps a key that is none of the format.
func (r *reader) unknown(at spot, m hujson.ObjectMember, canonical map[string]string) {
	name := nameOf(m)
	hint := meant(name, slices.Collect(maps.Values(canonical))...)
	r.omit(r.warn(m.Name.StartOffset, "%q is not a key of the format; it is kept and has no effect.%s", clip(name), hint), at)
	r.keep(name, m.Value)
}

func nameOf(m hujson.ObjectMember) string { return m.Name.Value.(hujson.Literal).String() }

// fitsAlias says whether a value under another name can be what known means.
func fitsAlias(known string, value hujson.Value) bool {
	switch known {
	case "env":
		object, ok := value.Value.(*hujson.Object)
		return ok && !slices.ContainsFunc(object.Members, func(m hujson.ObjectMember) bool {
			_, scalar := m.Value.Value.(hujson.Literal)
			return !scalar
		})
	case "terminals", "ports":
		return true
	}
	return value.Value.Kind() == '"'
}

// finish looks at what only all keys together tell.
func (r *reader) finish() error {
	r.finishBuild()
	e := r.env
	if e.Image != "" && e.Build != nil {
		f := r.warn(r.places["build"].StartOffset, `"image" and a Dockerfile are both given; the image is used.`)
		if at, ok := r.fields["build"]; ok {
			r.drop(f, r.top, at)
		}
		e.Build = nil
	}
	if e.Snapshot == placeholder {
		f := r.warn(r.places["snapshot"].StartOffset, "%q stands for a setting of another product; the environment starts from its image.", placeholder)
		r.drop(f, r.top, r.fields["snapshot"])
		e.Snapshot = ""
	}
	if may := e.AgentCanUpdateSnapshot; may != nil && *may && !e.CanUpdateSnapshot() {
		v := r.places["agentCanUpdateSnapshot"]
		r.write(r.warn(v.StartOffset, `"agentCanUpdateSnapshot" has no effect beside "build" or "image", whose snapshots are made by their key alone.`), v, "false")
	}
	return nil
}

// placeholder stands in many files where a snapshot's name would.
const placeholder = "POPULATED_FROM_SETTINGS"

func (r *reader) chrome(at spot, v hujson.Value) error {
	if text, ok := r.text("chromeExecutablePath", at, v); ok {
		r.env.Extra["chromeExecutablePath"] = json.RawMessage(quote(text))
	}
	return nil
}

func (r *reader) testing(at spot, v hujson.Value) error {
	text, isText := literalText(v)
	if isText && (text == "true" || text == "false") {
		r.keep("enable_testing", v) // the format has both forms
	} else if b := r.truth("enable_testing", at, v); b != nil {
		r.env.Extra["enable_testing"] = json.RawMessage(strconv.FormatBool(*b))
	}
	return nil
}

// folder is where paths in the file are relative to, "" for the repository's
// root.
func (r *reader) folder() string { return folderOf(r.file) }

func folderOf(file string) string {
	if dir := path.Dir(file); dir != "." {
		return dir
	}
	return ""
}

// below says whether a path begins in folder, and gives the rest.
func below(file, folder string) (string, bool) {
	if folder == "" {
		return file, false
	}
	return strings.CutPrefix(strings.TrimPrefix(file, "./"), folder+"/")
}
