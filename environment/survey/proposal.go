package survey

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/errand-dev/errand/environment/file"

	"github.com/errand-dev/errand"
)

// draft is an environment file in the order in which people read it.
type draft struct {
	User      string          `json:"user,omitempty"`
	Image     string          `json:"image,omitempty"`
	Build     *build          `json:"build,omitempty"`
	Install   string          `json:"install,omitempty"`
	Start     string          `json:"start,omitempty"`
	Terminals []draftTerminal `json:"terminals,omitempty"`
	Ports     []draftPort     `json:"ports,omitempty"`
}

type build struct {
	Dockerfile string `json:"dockerfile,omitempty"`
	Contents   string `json:"dockerfileContents,omitempty"`
	Context    string `json:"context,omitempty"`
}

type draftTerminal struct {
	Name    string `json:"name"`
	Command string `json:"command"`
}

type draftPort struct {
	Name string `json:"name,omitempty"`
	Port int    `json:"port"`
}

// addPort adds a port unless it is there, and says whether it did.
func (d *draft) addPort(name string, port int) bool {
	if slices.ContainsFunc(d.Ports, func(p draftPort) bool { return p.Port == port }) {
		return false
	}
	d.Ports = append(d.Ports, draftPort{name, port})
	return true
}

// propose makes the proposal of what was found.
func (l *look) propose() errand.Proposal {
	p := errand.Proposal{Path: file.Path, Reasons: []errand.Reason{}}
	var d draft
	if !l.devcontainer(&d, &p.Reasons) {
		l.toolchain(&d, &p.Reasons)
	}
	l.showInstall(&d, &p.Reasons)
	l.showServices(&d, &p.Reasons)
	l.showTerminals(&d, &p.Reasons)
	p.Verify = l.verify(&p.Reasons)
	if l.options.Programs == nil {
		l.note("Which programs the default image has is not known, so no other is proposed. The proof tells whether it is enough.")
	}
	if len(l.units) == 0 {
		l.note("No lockfile or project file that is known was found. Write the install command by hand, or let an agent find out.")
	}
	p.Text, p.Questions, p.Notes = encode(d), l.questions, l.notes
	return p
}

// showInstall puts the units' installs into a draft, and the dev container's
// where there are none.
func (l *look) showInstall(d *draft, r *[]errand.Reason) {
	var steps []string
	for _, u := range l.units {
		if u.install == "" {
			continue
		}
		step := inDir(u.dir, u.install)
		if u.dir != "" {
			step = "(" + step + ")"
		}
		steps = append(steps, step)
		why := u.why
		why.Key, why.Value = "install", step
		*r = append(*r, why)
	}
	install, start := l.devCommands()
	if len(steps) == 0 {
		for _, c := range install {
			steps = append(steps, c.Value)
			*r = append(*r, c)
		}
	} else if len(install) > 0 {
		l.note("The dev container runs %q after it is made (%s line %d); what the lockfiles say was taken in its place.", clip(install[0].Value), install[0].File, install[0].Line)
	}
	d.Install = strings.Join(steps, " && ")
	for _, c := range start {
		d.Start = c.Value
		*r = append(*r, c)
	}
}

// daemons are the services that a package of Debian brings, by the name of their
// images.
var daemons = map[string]struct{ packages, service string }{
	"postgres": {"postgresql", "postgresql"}, "postgis": {"postgresql", "postgresql"},
	"redis": {"redis-server", "redis-server"}, "valkey": {"redis-server", "redis-server"},
	"mysql": {"mariadb-server", "mariadb"}, "mariadb": {"mariadb-server", "mariadb"},
	"memcached": {"memcached", "memcached"}, "rabbitmq": {"rabbitmq-server", "rabbitmq-server"},
}

// showServices asks for each service beside the code whether machines should
// have it.
func (l *look) showServices(d *draft, r *[]errand.Reason) {
	asked := map[string]bool{}
	for _, s := range l.services {
		name, _, _ := strings.Cut(path.Base(s.image), ":")
		name, _, _ = strings.Cut(name, "@")
		if asked[name] {
			continue
		}
		asked[name] = true
		known, ok := daemons[name]
		if !ok {
			l.note("%s line %d runs %s beside the code. Machines have none; if tests need it, install it in install and start it in start.", s.from.file, s.from.line, clip(s.image))
			continue
		}
		q := "service:" + name
		if l.ask(errand.Question{ID: q, Choices: []string{"leave out", "install"}, Default: "leave out",
			Text: fmt.Sprintf("%s line %d runs %s beside the code. Should every machine run one?", s.from.file, s.from.line, clip(s.image))}) != "install" {
			continue
		}
		get := "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq " + known.packages
		d.Install = joined(get, d.Install)
		d.Start = joined(d.Start, "service "+known.service+" start")
		*r = append(*r,
			errand.Reason{Key: "install", Value: get, Text: "you asked for " + name, File: s.from.file, Line: s.from.line, Question: q},
			errand.Reason{Key: "start", Value: "service " + known.service + " start", Text: "you asked for " + name, File: s.from.file, Line: s.from.line, Question: q})
	}
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " && " + b
}

// verify gives the command that shows that the environment works: what CI tests
// with, or else what the projects' own files say, or else a target.
func (l *look) verify(r *[]errand.Reason) string {
	var steps []string
	take := func(value string, why errand.Reason) {
		steps = append(steps, value)
		why.Key, why.Value = "verify", value
		*r = append(*r, why)
	}
	for _, u := range l.units {
		step, why := u.test, u.testWhy
		if ci, from, ok := l.ciTest(u); ok {
			step, why = ci, errand.Reason{Text: "CI runs it", File: from.file, Line: from.line}
		}
		if step == "" {
			continue
		}
		step = inDir(u.dir, step)
		if u.dir != "" || strings.HasPrefix(step, ". ") {
			step = "(" + step + ")"
		}
		take(step, why)
	}
	if len(steps) == 0 {
		for _, t := range l.tests {
			take(t.command, errand.Reason{Text: "there is a target for it", File: t.from.file, Line: t.from.line})
			break
		}
	}
	if len(steps) == 0 {
		l.note("No way to test or build the repository was found. Name a command, so that the proof shows more than that install works.")
	}
	return strings.Join(steps, " && ")
}

// own makes the repository's own environment file the proposal, unless the
// person asked for a new one.
func (l *look) own(p *errand.Proposal) error {
	for _, at := range []string{file.Path, file.CursorPath} {
		text := l.read(at)
		if text == "" {
			continue
		}
		p.Path = at
		q := errand.Question{ID: "file", Choices: []string{"keep", "replace"}, Default: "keep", Text: fmt.Sprintf("%s is there already. Keep it or replace it?", at)}
		if _, _, err := file.Parse(at, []byte(text)); err != nil {
			q.Default = "replace"
			l.note("%s cannot be read: %v", at, err)
		}
		answer := l.ask(q)
		p.Questions, p.Notes = l.questions, l.notes
		if answer == "keep" {
			p.Text, p.Found = text, true
			p.Reasons = slices.DeleteFunc(p.Reasons, func(r errand.Reason) bool { return r.Key != "verify" })
			p.Reasons = slices.Insert(p.Reasons, 0, errand.Reason{Key: "file", Value: at, Text: "the repository has it already", File: at, Question: "file"})
			p.Questions = slices.DeleteFunc(slices.Clone(p.Questions), func(q errand.Question) bool { return q.ID != "file" })
		}
		return nil
	}
	return l.err
}
