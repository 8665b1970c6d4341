package file

import (
	"path"
	"strings"

	"github.com/tailscale/hujson"
)

// strayBuild reads a key of "build" that stands at the top level; finishBuild
// takes it in.
func (r *reader) strayBuild(key string) func(spot, hujson.Value) error {
	return func(at spot, v hujson.Value) error {
		text, ok := r.text(key, at, v)
		switch {
		case !ok:
		case text == "":
			r.omit(r.warn(v.StartOffset, "%q is empty and has no effect.", key), at)
		default:
			r.stray[key] = text
		}
		return nil
	}
}

func (r *reader) build(at spot, v hujson.Value) error {
	object, ok := v.Value.(*hujson.Object)
	if !ok {
		if text, isText := literalText(v); isText && strings.TrimSpace(text) != "" {
			r.plain = r.warn(v.StartOffset, `"build" is an object; %q was understood as its Dockerfile.`, clip(text))
			r.env.Build = &BuildSpec{Dockerfile: r.dockerfile(v, strings.TrimSpace(text))}
			return nil
		}
		if isNothing(v) {
			r.omit(r.warn(v.StartOffset, `"build" is an object; %s was understood as none.`, kindOf(v)), at)
			delete(r.fields, "build")
			return nil
		}
		return r.refuse(v.StartOffset, `"build" is an object, { "dockerfile": "Dockerfile" }; this is %s.`, kindOf(v))
	}
	r.env.Build = &BuildSpec{}
	known := func(m hujson.ObjectMember) string { return buildKeys[fold(nameOf(m))] }
	for i, key := range r.members(v, known) {
		r.buildMember(spot{v, i}, object.Members[i], key)
		r.places["build."+key], r.fields["build."+key] = object.Members[i].Value, i
	}
	return nil
}

// buildKeys gives the key of "build" that each spelling means.
var buildKeys = map[string]string{
	"dockerfile": "dockerfile", "dockerfilecontents": "dockerfileContents", "context": "context",
}

func (r *reader) buildMember(at spot, m hujson.ObjectMember, key string) {
	b, name := r.env.Build, nameOf(m)
	switch {
	case key == "":
		r.omit(r.warn(m.Name.StartOffset, `%q is not a key of "build"; it has no effect.%s`, clip(name), meant(name, "dockerfile", "dockerfileContents", "context")), at)
		return
	case key != name:
		r.rename(r.warn(m.Name.StartOffset, "%q was understood as %q.", clip(name), key), m, key)
	}
	text, ok := r.text(name, at, m.Value)
	switch {
	case !ok:
	case text == "" && key != "context":
		r.omit(r.warn(m.Value.StartOffset, "%q is empty and has no effect.", key), at)
	case key == "dockerfile":
		b.Dockerfile = r.dockerfile(m.Value, text)
	case key == "dockerfileContents":
		b.Contents = text
	default:
		b.Context = r.contextPath(m.Value, text)
	}
}

// finishBuild takes in the keys of "build" that stand outside it, and settles
// what is built.
func (r *reader) finishBuild() {
	at, inside := r.fields["build"]
	if inside {
		r.oneDockerfile(r.top.Value.(*hujson.Object).Members[at].Value)
	}
	host := -1 // the member that becomes "build"
	var hosted *Finding
	for _, key := range []string{"dockerfileContents", "dockerfile", "context"} {
		text, ok := r.stray[key]
		if !ok {
			continue
		}
		v, field := r.places[key], r.fields[key]
		f, taken := r.takeStray(key, text, v)
		switch {
		case !taken:
			r.drop(f, r.top, field)
		case r.plain != nil:
			r.move(f, r.top, field)
		case inside:
			r.move(f, r.top, field)
			r.add(f, r.places["build"], quote(key)+": "+quote(r.env.Build.value(key)))
		case host < 0:
			host, hosted = field, f
		default:
			r.move(f, r.top, field)
		}
	}
	if inside && r.env.Build.Dockerfile == "" && r.env.Build.Contents == "" {
		v := r.places["build"]
		r.env.Build.Dockerfile = "Dockerfile"
		r.add(r.warn(v.StartOffset, `"build" names no Dockerfile; it was understood as "Dockerfile".`), v, `"dockerfile": "Dockerfile"`)
	}
	if r.plain != nil {
		r.write(r.plain, r.places["build"], r.env.Build.String())
	}
	if host >= 0 {
		m := r.top.Value.(*hujson.Object).Members[host]
		r.replace(hosted, m.Name.StartOffset, m.Value.EndOffset, `"build": `+r.env.Build.String())
		r.places["build"], r.fields["build"] = m.Value, host
	}
}

// takeStray takes one key of the top level into the build, unless it has
// something there already.
func (r *reader) takeStray(key, text string, v hujson.Value) (*Finding, bool) {
	b := r.env.Build
	switch {
	case key == "context" && b == nil:
		return r.warn(v.StartOffset, `"context" without a Dockerfile has no effect.`), false
	case b != nil && (key == "context" && b.Context != "" || key != "context" && b.Dockerfile+b.Contents != ""):
		return r.warn(v.StartOffset, `%q has no effect beside what else says how to build.`, key), false
	}
	if r.env.Build == nil {
		r.env.Build = &BuildSpec{}
	}
	f := r.warn(v.StartOffset, `%q belongs inside "build"; it was understood as { "build": { %q: … } }.`, key, key)
	switch key {
	case "dockerfile":
		r.env.Build.Dockerfile = r.dockerfile(v, text)
	case "dockerfileContents":
		r.env.Build.Contents = text
	default:
		r.env.Build.Context = r.contextPath(v, text)
	}
	return f, true
}

// oneDockerfile settles between two that one build names.
func (r *reader) oneDockerfile(v hujson.Value) {
	if b := r.env.Build; b.Dockerfile != "" && b.Contents != "" {
		r.drop(r.warn(v.StartOffset, `"build" has a "dockerfile" and "dockerfileContents"; the contents are used.`), v, r.fields["build.dockerfile"])
		b.Dockerfile = ""
	}
}

// dockerfile reads the path of a Dockerfile, which is relative to the file's
// own folder although people write it from the repository's root.
func (r *reader) dockerfile(v hujson.Value, file string) string {
	folder := r.folder()
	meant := file
	if strings.HasPrefix(file, "/") {
		meant = r.fromRoot(file)
	} else if rest, ok := below(file, folder); ok {
		meant = rest
	}
	if meant != file && meant != "" {
		r.write(r.warn(v.StartOffset, "A Dockerfile's path is relative to %s; %q was understood as %q.", folder, clip(file), clip(meant)), v, quote(meant))
		return meant
	}
	return file
}

// contextPath reads the path of a build's context. The folder's own name and
// absolute paths are meant from the repository's root.
func (r *reader) contextPath(v hujson.Value, dir string) string {
	if !strings.HasPrefix(dir, "/") {
		return dir
	}
	meant := r.fromRoot(dir)
	r.write(r.warn(v.StartOffset, "A build's context is relative to the folder of this file; %q was understood as %q.", clip(dir), clip(meant)), v, quote(meant))
	return meant
}

// fromRoot gives an absolute path, which is one of the repository in a machine,
// as seen from the file's folder.
func (r *reader) fromRoot(file string) string {
	file = path.Clean(file)
	if rest, ok := strings.CutPrefix(file+"/", "/workspace/"); ok {
		file = "/" + rest
	}
	file = strings.Trim(file, "/")
	folder := r.folder()
	if rest, ok := below(file, folder); ok {
		return rest
	}
	for range strings.Count(folder, "/") + min(len(folder), 1) {
		file = path.Join("..", file)
	}
	return file
}

// value gives what a key of "build" has.
func (b *BuildSpec) value(key string) string {
	return map[string]string{"dockerfile": b.Dockerfile, "dockerfileContents": b.Contents, "context": b.Context}[key]
}

// String gives the build as a file has it.
func (b *BuildSpec) String() string {
	var members []string
	for _, key := range []string{"dockerfile", "dockerfileContents", "context"} {
		if value := b.value(key); value != "" {
			members = append(members, quote(key)+": "+quote(value))
		}
	}
	return "{ " + strings.Join(members, ", ") + " }"
}

// Dockerfile gives the path of the Dockerfile from the repository's root, with
// slashes. It begins with ".." where it is outside, and is "" without one.
func (e *Environment) Dockerfile() string {
	if e.Build == nil || e.Build.Dockerfile == "" {
		return ""
	}
	return path.Join(folderOf(e.File), e.Build.Dockerfile)
}

// BuildContext gives the path of the build's context from the repository's
// root, "." being the root. It begins with ".." where it is outside.
func (e *Environment) BuildContext() string {
	folder := folderOf(e.File)
	if e.Build == nil || e.Build.Context == "" {
		return path.Join(folder, ".")
	}
	switch dir := path.Clean(e.Build.Context); {
	case dir == ".", dir == ".." && folder != "":
		return "."
	default:
		return path.Join(folder, dir)
	}
}
