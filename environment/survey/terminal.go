package survey

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
)

// terminal is a development server that could run in a terminal.
type terminal struct {
	name, command string
	from          source
	why           string
	port          int // 0 is not known
	portWhy       string
}

var procLine = regexp.MustCompile(`^([A-Za-z0-9_-]+):[ \t]*(.+)$`)

// servers proposes the development servers of what is not Node.
func (l *look) servers() {
	n := 0
	for line := range strings.Lines(l.read("Procfile.dev")) {
		n++
		if m := procLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil && len(l.terminals) < 10 {
			l.terminals = append(l.terminals, terminal{name: m[1], command: m[2], from: source{"Procfile.dev", n}, why: "Procfile.dev names it"})
		}
	}
	if n > 0 {
		return
	}
	for _, u := range l.units {
		at := func(name string) string { return path.Join(u.dir, name) }
		switch {
		case u.kind == "python" && l.has[at("manage.py")]:
			run, _, _ := strings.Cut(u.test, " -m ")
			run = strings.TrimSuffix(run, " manage.py test")
			l.terminals = append(l.terminals, terminal{name: "web", command: inDir(u.dir, run+" manage.py runserver 0.0.0.0:8000"), from: source{at("manage.py"), 0}, why: "manage.py is Django's", port: 8000, portWhy: "what runserver is told to listen on"})
		case u.kind == "ruby" && l.has[at("bin/rails")]:
			l.terminals = append(l.terminals, terminal{name: "web", command: inDir(u.dir, "bin/rails server -b 0.0.0.0"), from: source{at("bin/rails"), 0}, why: "bin/rails is here", port: 3000, portWhy: "what Rails listens on by default"})
		case u.kind == "elixir" && strings.Contains(l.read(at("mix.exs")), ":phoenix"):
			l.terminals = append(l.terminals, terminal{name: "web", command: inDir(u.dir, "mix phx.server"), from: source{at("mix.exs"), lineOf(l.read(at("mix.exs")), ":phoenix")}, why: "Phoenix is named", port: 4000, portWhy: "what Phoenix listens on by default"})
		}
	}
}

// showTerminals puts the terminals that are wanted into a draft.
func (l *look) showTerminals(d *draft, r *[]errand.Reason) {
	if len(l.terminals) == 0 {
		return
	}
	const query = "terminals"
	if l.ask(errand.Question{ID: query, Choices: []string{"yes", "no"}, Default: "yes",
		Text: "Should the development server run in a terminal of every machine?"}) == "no" {
		return
	}
	taken := map[string]bool{}
	for _, t := range l.terminals {
		name := t.name
		for i := 2; taken[name]; i++ {
			name = t.name + "-" + strconv.Itoa(i)
		}
		taken[name] = true
		d.Terminals = append(d.Terminals, draftTerminal{Name: name, Command: t.command})
		*r = append(*r, errand.Reason{Key: "terminals", Value: name + ": " + t.command, Text: t.why, File: t.from.file, Line: t.from.line, Question: query})
		if t.port > 0 && d.addPort(name, t.port) {
			*r = append(*r, errand.Reason{Key: "ports", Value: strconv.Itoa(t.port), Text: t.portWhy, File: t.from.file, Line: t.from.line, Question: query})
		}
	}
}
