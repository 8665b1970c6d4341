package file

import (
	"cmp"
	"encoding/json"
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
// and, where possible, the right form. On an error the warnings up to there
// are given as well.
func Parse(file string, data []byte) (*Environment, []Finding, error) {
	s := &source{file: file, original: data}
	r := &reader{source: s, env: &Environment{File: file, Extra: map[string]json.RawMessage{}}}
	value, err := s.parse()
	if err == nil {
		err = r.read(value)
	}
	slices.SortStableFunc(s.warnings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if err != nil {
		return nil, s.warnings, err
	}
	if len(r.env.Extra) == 0 {
		r.env.Extra = nil
	}
	return r.env, s.warnings, nil
}

// reader turns the value of a file into an Environment.
type reader struct {
	*source
	env     *Environment
	context *hujson.Value // a "context" at the top level
	update  int           // where "agentCanUpdateSnapshot" stands
}

// keys are the keys of the format, each with what reads it.
func (r *reader) keys() map[string]func(hujson.Value) error {
	e := r.env
	return map[string]func(hujson.Value) error{
		"$schema":   func(hujson.Value) error { return nil },
		"name":      func(v hujson.Value) error { e.Name, _ = r.text("name", v); return nil },
		"user":      func(v hujson.Value) error { return r.needed("user", v, &e.User) },
		"install":   func(v hujson.Value) error { return r.command("install", v, &e.Install) },
		"start":     func(v hujson.Value) error { return r.command("start", v, &e.Start) },
		"image":     func(v hujson.Value) error { return r.needed("image", v, &e.Image) },
		"snapshot":  r.snapshot,
		"build":     r.build,
		"terminals": r.terminals,
		"ports":     r.ports,
		"repositoryDependencies": func(v hujson.Value) error {
			e.RepositoryDependencies = r.texts("repositoryDependencies", v)
			return nil
		},
		"agentCanUpdateSnapshot": func(v hujson.Value) error {
			e.AgentCanUpdateSnapshot, r.update = r.truth("agentCanUpdateSnapshot", v), v.StartOffset
			return nil
		},
		"egressAllowlist": func(v hujson.Value) error {
			return r.allowed("egressAllowlist", v, &e.EgressAllowlist)
		},
		"egressMode":           r.egressMode,
		"disableAllMcpServers": r.disableMCP,
		"mcpServerAllowlist":   r.allowMCP,
		"chromeExecutablePath": func(v hujson.Value) error { return r.keep("chromeExecutablePath", v) },
		"enable_testing":       func(v hujson.Value) error { return r.keep("enable_testing", v) },
		"env":                  func(v hujson.Value) error { return r.variables("env", v) },
		// Not keys of the format, but their meaning is plain.
		"dockerfile":         func(v hujson.Value) error { return r.topLevelBuild("dockerfile", v) },
		"dockerfileContents": func(v hujson.Value) error { return r.topLevelBuild("dockerfileContents", v) },
		"context":            func(v hujson.Value) error { r.context = &v; return nil },
	}
}

// aliases are keys that people write for others. They count only where the
// value fits; else the key is an unknown one.
var aliases = map[string]string{
	"environment": "env", "environments": "env", "environmentvariables": "env", "envvars": "env",
	"containerenv": "env", "remoteenv": "env", "remoteuser": "user", "baseimage": "image",
	"installcommand": "install", "startcommand": "start", "terminal": "terminals", "port": "ports",
}

func (r *reader) read(value hujson.Value) error {
	if value.Value == nil {
		return nil
	}
	object, ok := value.Value.(*hujson.Object)
	if !ok {
		if value.Value.Kind() == 'n' {
			r.warn(value.StartOffset, "The file holds null; it was understood as empty.")
			return nil
		}
		return r.refuse(value.StartOffset, `An environment file is an object, { "install": "…" }; this is %s.`, kindOf(value))
	}
	r.trailingCommas(&value)
	keys := r.keys()
	canonical := map[string]string{}
	for name := range keys {
		canonical[fold(name)] = name
	}
	for _, m := range r.members(object) {
		if err := r.member(m, keys, canonical); err != nil {
			return err
		}
	}
	r.finish()
	return nil
}

// member reads one key of the top level.
func (r *reader) member(m hujson.ObjectMember, keys map[string]func(hujson.Value) error, canonical map[string]string) error {
	name := m.Name.Value.(hujson.Literal).String()
	if read, ok := keys[name]; ok {
		if name == "env" {
			r.warn(m.Name.StartOffset, `"env" is not a key of the format; it was understood as variables of the machine.`)
		}
		return read(m.Value)
	}
	if known, ok := canonical[fold(name)]; ok {
		r.warn(m.Name.StartOffset, "%q was understood as %q.", clip(name), known)
		return keys[known](m.Value)
	}
	if known, ok := aliases[fold(name)]; ok && fitsAlias(known, m.Value) {
		r.warn(m.Name.StartOffset, "%q is not a key of the format; it was understood as %q.", clip(name), known)
		return keys[known](m.Value)
	}
	hint := ""
	if near := nearest(fold(name), canonical); near != "" {
		hint = " Did you mean " + strconv.Quote(near) + "?"
	}
	r.warn(m.Name.StartOffset, "%q is not a key of the format; it is kept and has no effect.%s", clip(name), hint)
	return r.keep(name, m.Value)
}

// fitsAlias says whether a value under another name can be what known means.
func fitsAlias(known string, value hujson.Value) bool {
	if known == "env" {
		object, ok := value.Value.(*hujson.Object)
		if !ok {
			return false
		}
		for _, m := range object.Members {
			if _, scalar := m.Value.Value.(hujson.Literal); !scalar {
				return false
			}
		}
		return true
	}
	if known == "terminals" || known == "ports" {
		return true
	}
	return value.Value.Kind() == '"'
}

// finish looks at what only all keys together tell.
func (r *reader) finish() {
	e := r.env
	if r.context != nil {
		if e.Build == nil {
			r.warn(r.context.StartOffset, `"context" without a Dockerfile has no effect.`)
		} else if text, ok := r.text("context", *r.context); ok && e.Build.Context == "" {
			r.warn(r.context.StartOffset, `"context" belongs inside "build"; it was understood so.`)
			e.Build.Context = text
		}
	}
	if may := e.AgentCanUpdateSnapshot; may != nil && *may && !e.CanUpdateSnapshot() {
		r.warn(r.update, `"agentCanUpdateSnapshot" has no effect beside "build" or "image", whose snapshots are made by their key alone.`)
	}
}

// topLevelBuild reads a key of "build" that stands outside it.
func (r *reader) topLevelBuild(key string, v hujson.Value) error {
	text, ok := r.text(key, v)
	if !ok || text == "" {
		return nil
	}
	r.warn(v.StartOffset, `%q belongs inside "build"; it was understood as { "build": { %q: … } }.`, key, key)
	if r.env.Build == nil {
		r.env.Build = &BuildSpec{}
	}
	if key == "dockerfile" {
		r.env.Build.Dockerfile = r.dockerfile(v.StartOffset, text)
	} else {
		r.env.Build.Contents = text
	}
	return nil
}

func (r *reader) build(v hujson.Value) error {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		if text, isText := literalText(v); isText && text != "" {
			r.warn(v.StartOffset, `"build" is an object; %q was understood as its Dockerfile.`, clip(text))
			r.env.Build = &BuildSpec{Dockerfile: r.dockerfile(v.StartOffset, text)}
			return nil
		}
		if isNothing(v) {
			r.warn(v.StartOffset, `"build" is an object; %s was understood as none.`, kindOf(v))
			return nil
		}
		return r.refuse(v.StartOffset, `"build" is an object, { "dockerfile": "Dockerfile" }; this is %s.`, kindOf(v))
	}
	if r.env.Build == nil {
		r.env.Build = &BuildSpec{}
	}
	for _, m := range r.members(object) {
		r.buildMember(m)
	}
	switch b := r.env.Build; {
	case b.Dockerfile != "" && b.Contents != "":
		r.warn(v.StartOffset, `"build" has a "dockerfile" and "dockerfileContents"; the contents are used.`)
		b.Dockerfile = ""
	case b.Dockerfile == "" && b.Contents == "":
		r.warn(v.StartOffset, `"build" names no Dockerfile; it was understood as "Dockerfile".`)
		b.Dockerfile = "Dockerfile"
	}
	return nil
}

func (r *reader) buildMember(m hujson.ObjectMember) {
	b, name := r.env.Build, m.Name.Value.(hujson.Literal).String()
	switch fold(name) {
	case "dockerfile":
		if text, ok := r.text(name, m.Value); ok {
			b.Dockerfile = r.dockerfile(m.Value.StartOffset, text)
		}
	case "dockerfilecontents":
		b.Contents, _ = r.text(name, m.Value)
	case "context":
		b.Context, _ = r.text(name, m.Value)
		if strings.HasPrefix(b.Context, "/") {
			r.warn(m.Value.StartOffset, "%q is an absolute path; a build's context is relative to the folder of this file.", clip(b.Context))
		}
	default:
		r.warn(m.Name.StartOffset, `%q is not a key of "build"; it has no effect.`, clip(name))
		return
	}
	if want := map[string]string{"dockerfile": "dockerfile", "dockerfilecontents": "dockerfileContents", "context": "context"}[fold(name)]; want != name {
		r.warn(m.Name.StartOffset, "%q was understood as %q.", clip(name), want)
	}
}

// dockerfile reads the path of a Dockerfile, which is relative to the file's
// own folder although people write it from the repository's root.
func (r *reader) dockerfile(offset int, path string) string {
	folder, _, _ := strings.Cut(r.file, "/")
	clean := strings.TrimPrefix(path, "./")
	switch {
	case strings.HasPrefix(path, "/"):
		r.warn(offset, "%q is an absolute path; a Dockerfile's path is relative to the folder of this file.", clip(path))
	case strings.HasPrefix(folder, ".") && strings.HasPrefix(clean, folder+"/"):
		rest := strings.TrimPrefix(clean, folder+"/")
		r.warn(offset, "A Dockerfile's path is relative to %s; %q was understood as %q.", folder, clip(path), clip(rest))
		return rest
	}
	return path
}

func (r *reader) snapshot(v hujson.Value) error {
	text, ok := r.text("snapshot", v)
	if ok && text != "" {
		r.env.Snapshot = text
		r.warn(v.StartOffset, "The snapshot %q is not known here; the environment starts from its image instead.", clip(text))
	}
	return nil
}
