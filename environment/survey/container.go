package survey

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/errand-dev/errand"
)

// container is what the repository says of its containers.
type container struct {
	file  string // the dev container's
	dev   devContainer
	doc   jsonFile
	build string // its Dockerfile, from the root; "" for none
}

// devContainer is what is read of a devcontainer.json.
type devContainer struct {
	Image      string `json:"image"`
	DockerFile string `json:"dockerFile"`
	Build      struct {
		Dockerfile string `json:"dockerfile"`
		Context    string `json:"context"`
	} `json:"build"`
	Features          map[string]any    `json:"features"`
	OnCreateCommand   any               `json:"onCreateCommand"`
	UpdateCommand     any               `json:"updateContentCommand"`
	PostCreateCommand any               `json:"postCreateCommand"`
	PostStartCommand  any               `json:"postStartCommand"`
	ForwardPorts      []any             `json:"forwardPorts"`
	RemoteUser        string            `json:"remoteUser"`
	ContainerEnv      map[string]string `json:"containerEnv"`
}

var fromLine = regexp.MustCompile(`(?im)^[ \t]*FROM[ \t]+(?:--\S+[ \t]+)*(\S+)`)

// containers reads the dev container, Dockerfiles and compose files.
func (l *look) containers() {
	for _, file := range []string{".devcontainer/devcontainer.json", ".devcontainer.json"} {
		var d devContainer
		if doc, ok := l.json(file, &d); ok {
			l.container = container{file: file, dev: d, doc: doc}
			if name := orElse(d.Build.Dockerfile, d.DockerFile); name != "" {
				l.container.build = path.Join(path.Dir(file), name)
			}
			l.features(file, d, doc)
			break
		}
	}
	for _, file := range []string{"Dockerfile.dev", "Dockerfile", "docker/Dockerfile"} {
		text := l.read(file)
		if m := fromLine.FindStringSubmatch(text); m != nil {
			l.dockerBase(file, lineOf(text, strings.TrimSpace(m[0])), m[1])
		}
	}
	for _, file := range []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"} {
		pairs(at(l.yaml(file), "services"), func(_, s *yaml.Node) {
			if at(s, "build") == nil {
				l.service(file, s)
			}
		})
	}
}

// features are the dev container features that bring a toolchain.
func (l *look) features(file string, d devContainer, doc jsonFile) {
	for _, name := range slices.Sorted(maps.Keys(d.Features)) {
		options := d.Features[name]
		tool, _, _ := strings.Cut(path.Base(name), ":")
		program := map[string]string{"node": "node", "go": "go", "python": "python3", "rust": "cargo", "ruby": "ruby", "java": "java", "php": "php", "dotnet": "dotnet"}[tool]
		if program == "" {
			l.note("The dev container's feature %s is not applied; add what it brings to install if agents need it.", clip(name))
			continue
		}
		version := ""
		if m, ok := options.(map[string]any); ok {
			version, _ = m["version"].(string)
		}
		if !anyVersion.MatchString(version) {
			version = ""
		}
		l.want(program, version, source{file, doc.line("features", name)}, 5)
	}
}

// dockerBase takes the version of a toolchain from a Dockerfile's base.
func (l *look) dockerBase(file string, line int, ref string) {
	name, tag, _ := strings.Cut(path.Base(ref), ":")
	program := map[string]string{"node": "node", "golang": "go", "python": "python3", "rust": "cargo", "ruby": "ruby", "php": "php", "elixir": "elixir", "eclipse-temurin": "java"}[name]
	if version := anyVersion.FindString(tag); program != "" && version != "" {
		l.want(program, version, source{file, line}, 7)
	}
}

// devcontainer lets the dev container decide what it says, and says whether
// machines are to stand on its image. By default they are where the default
// image lacks something.
func (l *look) devcontainer(d *draft, r *[]errand.Reason) (image bool) {
	c := l.container
	if c.file == "" {
		return false
	}
	if c.dev.Image != "" || l.has[c.build] {
		choice := "default image"
		if len(l.missing()) > 0 {
			choice = "dev container"
		}
		image = l.ask(errand.Question{ID: "image", Choices: []string{"default image", "dev container"}, Default: choice,
			Text: fmt.Sprintf("%s names an image. Should machines stand on it?", c.file)}) == "dev container"
	}
	if image {
		l.devImage(d, r)
	}
	for _, p := range c.dev.ForwardPorts {
		if n := portOf(p); n > 0 && d.addPort("", n) {
			*r = append(*r, errand.Reason{Key: "ports", Value: strconv.Itoa(n), Text: "the dev container forwards it", File: c.file, Line: c.doc.line("forwardPorts")})
		}
	}
	return image
}

func (l *look) devImage(d *draft, r *[]errand.Reason) {
	c := l.container
	if l.has[c.build] {
		d.Build = &build{Dockerfile: relative(c.build), Context: relative(path.Join(path.Dir(c.file), orElse(c.dev.Build.Context, ".")))}
		*r = append(*r, errand.Reason{Key: "build", Value: c.build, Text: "the dev container's Dockerfile", File: c.file, Line: max(c.doc.line("build", "dockerfile"), c.doc.line("dockerFile"))})
	} else {
		d.Image = c.dev.Image
		*r = append(*r, errand.Reason{Key: "image", Value: d.Image, Text: "the dev container's image", File: c.file, Line: c.doc.line("image")})
	}
	if c.dev.RemoteUser != "" && c.dev.RemoteUser != "root" {
		d.User = c.dev.RemoteUser
		*r = append(*r, errand.Reason{Key: "user", Value: d.User, Text: "the dev container's remoteUser", File: c.file, Line: c.doc.line("remoteUser")})
	}
}

// relative gives a path of the repository as an environment file names it: from
// the folder that it stands in.
func relative(file string) string {
	if file == "." || file == "" {
		return ".."
	}
	return "../" + file
}

// devCommands gives the dev container's commands that install, and that start.
func (l *look) devCommands() (install, start []errand.Reason) {
	c := l.container
	for _, k := range []struct {
		key   string
		value any
	}{{"onCreateCommand", c.dev.OnCreateCommand}, {"updateContentCommand", c.dev.UpdateCommand}, {"postCreateCommand", c.dev.PostCreateCommand}} {
		if text := shellOf(k.value); text != "" {
			install = append(install, errand.Reason{Key: "install", Value: text, Text: "the dev container's " + k.key, File: c.file, Line: c.doc.line(k.key)})
		}
	}
	if text := shellOf(c.dev.PostStartCommand); text != "" {
		start = append(start, errand.Reason{Key: "start", Value: text, Text: "the dev container's postStartCommand", File: c.file, Line: c.doc.line("postStartCommand")})
	}
	return install, start
}

// shellOf gives a dev container's command, which is a text or an array of words.
func shellOf(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) < 2000 {
			return strings.TrimSpace(v)
		}
	case []any:
		var words []string
		for _, w := range v {
			s, ok := w.(string)
			if !ok {
				return ""
			}
			words = append(words, quote(s))
		}
		return strings.Join(words, " ")
	}
	return ""
}

func portOf(v any) int {
	n := 0
	switch v := v.(type) {
	case float64:
		n = int(v)
	case string:
		n, _ = strconv.Atoi(v) // "db:5432" is another container's
	}
	if n < 1 || n > 65535 {
		return 0
	}
	return n
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
