package survey

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// target is what a file of targets offers.
type target struct {
	command string
	from    source
}

var (
	makeTarget = regexp.MustCompile(`^([A-Za-z0-9_.-]+)[ \t]*:([^=]|$)`)
	justRecipe = regexp.MustCompile(`^@?([A-Za-z0-9_-]+)(?:[ \t]+[^:=]*)?:([^=]|$)`)
)

// targets reads Makefiles, Taskfiles and justfiles for what tests.
func (l *look) targets() {
	for _, file := range []string{"GNUmakefile", "Makefile", "makefile"} {
		l.lineTargets(file, "make ", makeTarget)
	}
	for _, file := range []string{"justfile", "Justfile", ".justfile"} {
		l.lineTargets(file, "just ", justRecipe)
	}
	for _, file := range []string{"Taskfile.yml", "Taskfile.yaml"} {
		pairs(at(l.yaml(file), "tasks"), func(name, _ *yaml.Node) { l.target("task ", name.Value, source{file, name.Line}) })
	}
}

func (l *look) lineTargets(file, tool string, pattern *regexp.Regexp) {
	n := 0
	for line := range strings.Lines(l.read(file)) {
		n++
		if m := pattern.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			l.target(tool, m[1], source{file, n})
		}
	}
}

func (l *look) target(tool, name string, from source) {
	if (name == "test" || name == "check") && len(l.tests) < 10 {
		l.tests = append(l.tests, target{tool + name, from})
	}
}
