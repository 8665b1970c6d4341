package survey

import (
	"path"
	"regexp"
	"strings"

	"github.com/errand-dev/errand"
)

// language is a way to install and test a project whose files say all of it.
type language struct {
	kind     string
	files    []string // any of which makes a project
	programs []string // what the commands run; the first is what a version is of
	install  func(l *look, dir string) string
	test     func(l *look, dir string) string
}

// languages are those besides Node, Go and Python.
func languages() []language {
	fixed := func(command string) func(*look, string) string { return func(*look, string) string { return command } }
	return []language{
		{"rust", []string{"Cargo.toml"}, []string{"cargo"}, cargoInstall, fixed("cargo test")},
		{"ruby", []string{"Gemfile"}, []string{"ruby", "bundle"}, fixed("bundle install"), rubyTest},
		{"php", []string{"composer.json"}, []string{"php", "composer"}, fixed("composer install --no-interaction"), phpTest},
		{"maven", []string{"pom.xml"}, []string{"java", "mvn"}, wrapped("mvnw", "mvn", " -B -q dependency:go-offline"), wrapped("mvnw", "mvn", " -B -q test")},
		{"gradle", []string{"build.gradle", "build.gradle.kts"}, []string{"java", "gradle"}, wrapped("gradlew", "gradle", " --no-daemon -q testClasses"), wrapped("gradlew", "gradle", " --no-daemon -q test")},
		{"elixir", []string{"mix.exs"}, []string{"elixir", "mix"}, fixed("mix local.hex --force && mix local.rebar --force && mix deps.get"), fixed("mix test")},
		{"dotnet", []string{"*.sln", "*.slnx", "*.csproj", "*.fsproj"}, []string{"dotnet"}, fixed("dotnet restore"), fixed("dotnet test")},
		{"deno", []string{"deno.json", "deno.jsonc"}, []string{"deno"}, fixed("deno install"), fixed("deno test -A")},
	}
}

func cargoInstall(l *look, dir string) string {
	if l.has[path.Join(dir, "Cargo.lock")] {
		return "cargo fetch --locked"
	}
	return "cargo fetch"
}

func rubyTest(l *look, dir string) string {
	switch {
	case l.has[path.Join(dir, ".rspec")] || l.has[path.Join(dir, "spec/spec_helper.rb")]:
		return "bundle exec rspec"
	case l.has[path.Join(dir, "bin/rails")]:
		return "bin/rails test"
	case l.has[path.Join(dir, "Rakefile")]:
		return "bundle exec rake test"
	}
	return ""
}

func phpTest(l *look, dir string) string {
	var p struct {
		Scripts map[string]any `json:"scripts"`
	}
	l.json(path.Join(dir, "composer.json"), &p)
	switch {
	case p.Scripts["test"] != nil:
		return "composer test"
	case l.has[path.Join(dir, "phpunit.xml")] || l.has[path.Join(dir, "phpunit.xml.dist")]:
		return "vendor/bin/phpunit"
	}
	return ""
}

// wrapped gives a command by the project's wrapper script, if it has one.
func wrapped(wrapper, program, rest string) func(*look, string) string {
	return func(l *look, dir string) string {
		if l.has[path.Join(dir, wrapper)] {
			return "./" + wrapper + rest
		}
		return program + rest
	}
}

// otherUnits takes up the projects of languages, the nearest to the root of
// each kind.
func (l *look) otherUnits() {
	for _, lang := range languages() {
		for _, file := range l.named(lang.files...) {
			dir := dirOf(file)
			if l.within(lang.kind, dir) {
				continue
			}
			u := &unit{kind: lang.kind, dir: dir, install: lang.install(l, dir), test: lang.test(l, dir)}
			u.why = errand.Reason{Text: path.Base(file) + " is here", File: file}
			u.testWhy = u.why
			for _, program := range lang.programs {
				if !strings.HasPrefix(u.install, "./") || program == lang.programs[0] {
					l.want(program, "", source{file, 0}, 9)
				}
			}
			l.pinned(lang.kind, file)
			l.add(u)
		}
	}
}

var (
	javaVersion = regexp.MustCompile(`<(?:maven\.compiler\.release|java\.version|maven\.compiler\.source)>\s*(?:1\.)?([0-9]+)\s*<|(?:languageVersion|jvmToolchain)\D{0,60}?([0-9]+)|sourceCompatibility\D{0,40}?(?:1\.)?([0-9]+)`)
	rubyVersion = regexp.MustCompile(`(?m)^\s*ruby\s+["']([0-9][0-9.]*)["']`)
	dotnetFrame = regexp.MustCompile(`<TargetFramework>net([0-9]+\.[0-9]+)<`)
)

// pinned reads the version of a language from its project file.
func (l *look) pinned(kind, file string) {
	text := l.read(file)
	var pattern *regexp.Regexp
	program := ""
	switch kind {
	case "maven", "gradle":
		pattern, program = javaVersion, "java"
	case "ruby":
		pattern, program = rubyVersion, "ruby"
	case "dotnet":
		pattern, program = dotnetFrame, "dotnet"
	case "rust":
		if v, line := tomlLine(text, "package", "rust-version"); v != "" {
			l.want("cargo", ">="+v, source{file, line}, 4)
		}
		return
	default:
		return
	}
	if m := pattern.FindStringSubmatch(text); m != nil {
		l.want(program, strings.Join(m[1:], ""), source{file, lineOf(text, m[0])}, 4)
	}
}
