package survey

import (
	"path"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// command is one that CI runs.
type command struct {
	text string
	dir  string
	from source
}

// wish is a service that CI or compose stand beside the code.
type wish struct {
	image string
	from  source
}

// workflows reads GitHub Actions and GitLab CI: which commands they test with,
// which versions they set up and which services they start.
func (l *look) workflows() {
	n := 0
	for _, f := range l.tree.Files {
		if path.Dir(f) != ".github/workflows" || path.Ext(f) != ".yml" && path.Ext(f) != ".yaml" {
			continue
		}
		if n++; n > maxFlows {
			l.note("Only %d of the workflow files were looked at.", maxFlows)
			break
		}
		l.githubFlow(f)
	}
	l.gitlabFlow(".gitlab-ci.yml")
}

func (l *look) githubFlow(file string) {
	doc := l.yaml(file)
	base := scalar(at(doc, "defaults", "run", "working-directory"))
	pairs(at(doc, "jobs"), func(_, job *yaml.Node) {
		dir := base
		if d := scalar(at(job, "defaults", "run", "working-directory")); d != "" {
			dir = d
		}
		pairs(at(job, "services"), func(_, s *yaml.Node) { l.service(file, s) })
		for _, step := range items(at(job, "steps")) {
			l.githubStep(file, dir, job, step)
		}
	})
}

// setups are the actions that set up a toolchain, the parameter that has the
// version, and the program.
var setups = []struct{ action, key, program string }{
	{"actions/setup-node", "node-version", "node"}, {"actions/setup-go", "go-version", "go"},
	{"actions/setup-python", "python-version", "python3"}, {"actions/setup-java", "java-version", "java"},
	{"ruby/setup-ruby", "ruby-version", "ruby"}, {"actions/setup-dotnet", "dotnet-version", "dotnet"},
	{"shivammathur/setup-php", "php-version", "php"}, {"erlef/setup-beam", "elixir-version", "elixir"},
	{"pnpm/action-setup", "version", "pnpm"}, {"denoland/setup-deno", "deno-version", "deno"}, {"oven-sh/setup-bun", "bun-version", "bun"},
}

func (l *look) githubStep(file, dir string, job, step *yaml.Node) {
	action, _, _ := strings.Cut(scalar(at(step, "uses")), "@")
	for _, s := range setups {
		version := at(step, "with", s.key)
		if action != s.action || version == nil {
			continue
		}
		l.want(s.program, l.matrix(job, scalar(version)), source{file, version.Line}, 6)
	}
	if d := scalar(at(step, "working-directory")); d != "" {
		dir = d
	}
	l.script(file, dir, at(step, "run"))
}

var matrixKey = regexp.MustCompile(`^\$\{\{\s*matrix\.([A-Za-z0-9_-]+)\s*\}\}$`)

// matrix gives the last value of the matrix that an expression names, and a
// version that is none as "".
func (l *look) matrix(job *yaml.Node, version string) string {
	if m := matrixKey.FindStringSubmatch(version); m != nil {
		version = ""
		if all := items(at(job, "strategy", "matrix", m[1])); len(all) > 0 {
			version = scalar(all[len(all)-1])
		}
	}
	if !anyVersion.MatchString(version) || strings.Contains(version, "$") {
		return ""
	}
	return version
}

// script takes up the commands of a step, line by line.
func (l *look) script(file, dir string, run *yaml.Node) {
	dir = strings.Trim(path.Clean("/"+dir), "/")
	if strings.Contains(dir, "$") {
		return
	}
	line := 0
	if run != nil {
		line = run.Line
		if run.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			line++
		}
	}
	for text := range strings.Lines(scalar(run)) {
		text = strings.TrimSpace(text)
		if len(l.commands) < 500 && isPlain(text) {
			l.commands = append(l.commands, command{text, dir, source{file, line}})
		}
		line++
	}
}

// isPlain says whether a line is a command that means the same outside of CI.
func isPlain(text string) bool {
	return text != "" && len(text) < 200 && !strings.HasPrefix(text, "#") && !strings.ContainsAny(text, "$`\\<>|(){}")
}

func (l *look) gitlabFlow(file string) {
	doc := l.yaml(file)
	for _, s := range items(at(doc, "services")) {
		l.service(file, s)
	}
	pairs(doc, func(name, job *yaml.Node) {
		if at(job, "script") == nil {
			return
		}
		for _, s := range items(at(job, "services")) {
			l.service(file, s)
		}
		for _, run := range append(items(at(job, "before_script")), items(at(job, "script"))...) {
			l.script(file, "", run)
		}
		_ = name
	})
}

// service notes a service in the forms of Actions, GitLab and compose.
func (l *look) service(file string, s *yaml.Node) {
	image := scalar(s)
	for _, key := range []string{"image", "name"} {
		if v := scalar(at(s, key)); v != "" && image == "" {
			image = v
		}
	}
	if image != "" && !strings.ContainsAny(image, "$ \n") && len(image) < 200 && len(l.services) < 50 {
		l.services = append(l.services, wish{image, source{file, s.Line}})
	}
}

// tested says which commands test a project of a kind.
var tested = map[string]*regexp.Regexp{
	"node":   regexp.MustCompile(`^(npm (run )?(-s )?test\S*|npm t|(yarn|pnpm|bun)( run)? test\S*|npx (jest|vitest)( run)?)( |$)`),
	"go":     regexp.MustCompile(`^go test `),
	"python": regexp.MustCompile(`^(((uv|poetry|pipenv) run )?(python3? -m )?(pytest|unittest)|python3? manage\.py test)( |$)`),
	"rust":   regexp.MustCompile(`^cargo (test|nextest run)( |$)`),
	"ruby":   regexp.MustCompile(`^(bundle exec (rspec|rake( test| spec)?)|bin/rails test|bin/rspec)( |$)`),
	"php":    regexp.MustCompile(`^(composer (run )?test|(\./)?vendor/bin/(phpunit|pest))( |$)`),
	"maven":  regexp.MustCompile(`^(\./mvnw|mvn) .*(test|verify)( |$)`),
	"gradle": regexp.MustCompile(`^(\./gradlew|gradle) .*(test|check|build)( |$)`),
	"elixir": regexp.MustCompile(`^mix test( |$)`),
	"dotnet": regexp.MustCompile(`^dotnet test( |$)`),
	"deno":   regexp.MustCompile(`^deno (task )?test( |$)`),
}

var ownPython = regexp.MustCompile(`^(uv|poetry|pipenv) run `)

// ciTest gives the command by which CI tests a unit, if there is one.
func (l *look) ciTest(u *unit) (string, source, bool) {
	pattern := tested[u.kind]
	for _, c := range l.commands {
		if pattern == nil || c.dir != u.dir || !pattern.MatchString(c.text) {
			continue
		}
		text := c.text
		if u.enter != "" {
			text = ownPython.ReplaceAllString(text, "")
			if strings.HasPrefix(text, "python ") || strings.HasPrefix(text, "python3 ") || strings.HasPrefix(text, "pytest") || strings.HasPrefix(text, "unittest") {
				text = u.enter + text
			}
		}
		return text, c.from, true
	}
	return "", source{}, false
}
