// Package survey looks at a repository and proposes an environment file for
// it: what to install, which terminals and ports, an image where a toolchain is
// missing, and a command that shows that the result works.
//
// It reads what people and tools have written down already: lockfiles, files
// that pin a toolchain, the steps and services of CI, Dockerfiles, dev
// containers, targets and scripts. Each thing that it proposes names the file
// and line it follows from; what it cannot know it asks, with a default, and
// the answers go into the next look. It reads through a Tree, so it is the same
// for a commit of a mirror and for a directory, and a pure function: the same
// tree, programs and answers give the same proposal.
//
// It runs nothing, reaches no network and decides nothing: whether a proposal
// works is shown by package setup in a machine. Repositories are written by
// others: what is too large or does not parse is left out with a note.
package survey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
)

// Options are what a look takes besides the tree. The zero value is ready.
type Options struct {
	// Programs are those of the image that machines stand on by default, with
	// their versions ("" is not known). Nil: the image is not known, and no
	// other is proposed for want of a toolchain.
	Programs map[string]string
	// Answers to Questions, by ID. One that is no choice counts as none.
	Answers map[string]string
}

// Bounds of what is looked at.
const (
	maxFiles = 200_000   // paths
	maxFile  = 512 << 10 // bytes of a file
	maxDepth = 4         // directories deep that a project may stand
	maxUnits = 8         // projects in one repository
	maxFlows = 20        // workflow files
)

// Look looks at a repository. An error is one of the tree's own (NotFound is
// none): whatever stands in the files gives a proposal.
func Look(tree Tree, o Options) (errand.Proposal, error) {
	l := &look{tree: tree, options: o, has: map[string]bool{}}
	if len(tree.Files) > maxFiles {
		l.note("The repository has %d files; only the first %d were looked at.", len(tree.Files), maxFiles)
		tree.Files = tree.Files[:maxFiles]
	}
	for _, f := range tree.Files {
		l.has[f] = true
	}
	for _, step := range []func(){
		l.toolchainFiles, l.workflows, l.containers, l.targets,
		l.nodeUnits, l.goUnits, l.pythonUnits, l.otherUnits, l.servers,
	} {
		step()
		if l.err != nil {
			return errand.Proposal{}, l.err
		}
	}
	p := l.propose()
	if err := l.own(&p); err != nil {
		return errand.Proposal{}, err
	}
	return p, l.err
}

// look is one Look under way.
type look struct {
	tree    Tree
	options Options
	has     map[string]bool // files
	err     error           // of the tree; what follows it does nothing

	units     []*unit
	wants     []want
	commands  []command
	services  []wish
	terminals []terminal
	container container
	tests     []target
	questions []errand.Question
	notes     []string
}

// unit is one project in the repository: a directory with a way to install it.
type unit struct {
	kind    string // "node", "go", …: its commands' family
	dir     string // "" is the root
	install string
	why     errand.Reason
	test    string // "" where there is none
	testWhy errand.Reason
	enter   string // goes before commands of CI, "" if nothing has to
}

// source is a place in the repository.
type source struct {
	file string
	line int
}

func (l *look) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(l.notes) < 40 && !slices.Contains(l.notes, text) {
		l.notes = append(l.notes, text)
	}
}

// ask notes a question and gives the answer that holds.
func (l *look) ask(q errand.Question) string {
	q.Answer = q.Default
	if a, ok := l.options.Answers[q.ID]; ok && slices.Contains(q.Choices, a) {
		q.Answer = a
	}
	l.questions = append(l.questions, q)
	return q.Answer
}

// read gives a file's text, "" where there is none or it is not worth reading.
func (l *look) read(file string) string {
	if l.err != nil || !l.has[file] {
		return ""
	}
	data, err := l.tree.Read(file)
	switch {
	case errand.KindOf(err) == errand.TooLarge || len(data) > maxFile:
		l.note("%s is too large to be looked at.", clip(file))
		return ""
	case errand.KindOf(err) == errand.NotFound || errors.Is(err, fs.ErrNotExist):
		return "" // a link out of the tree, a submodule
	case err != nil:
		l.err = fmt.Errorf("reading %s: %w", file, err)
		return ""
	case bytes.IndexByte(data, 0) >= 0:
		return ""
	}
	return strings.ToValidUTF8(string(data), "\uFFFD")
}

// named gives the paths of all files with one of these names, the nearest to the
// root first. Those of vendored, generated and example code are none.
func (l *look) named(names ...string) []string {
	var found []string
	for _, f := range l.tree.Files {
		dir, name := path.Split(f)
		if slices.ContainsFunc(names, func(n string) bool { ok, _ := path.Match(n, name); return ok }) && isProject(dir) {
			found = append(found, f)
		}
	}
	slices.SortFunc(found, func(a, b string) int {
		if d := strings.Count(a, "/") - strings.Count(b, "/"); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return found
}

// isProject says whether people work in a directory.
func isProject(dir string) bool {
	dir = strings.Trim(dir, "/")
	if dir == "" {
		return true
	}
	parts := strings.Split(dir, "/")
	if len(parts) > maxDepth {
		return false
	}
	return !slices.ContainsFunc(parts, func(p string) bool {
		switch p {
		case "node_modules", "vendor", "testdata", "fixtures", "__fixtures__", "examples", "example", "third_party", "dist", "build", "target", "templates":
			return true
		}
		return strings.HasPrefix(p, ".")
	})
}

// add takes a project up, unless there are too many.
func (l *look) add(u *unit) {
	if len(l.units) == maxUnits {
		l.note("There are more than %d projects in the repository; %s was left out. Add its install to the file if agents work there.", maxUnits, clip(u.dir))
		return
	}
	l.units = append(l.units, u)
}

// within says whether a unit of a kind stands in dir or above it.
func (l *look) within(kind, dir string) bool {
	return slices.ContainsFunc(l.units, func(u *unit) bool {
		return u.kind == kind && (u.dir == "" || u.dir == dir || strings.HasPrefix(dir, u.dir+"/"))
	})
}

// lineOf gives the number of the first line that contains text, 0 where none does.
func lineOf(content, text string) int {
	i := strings.Index(content, text)
	if i < 0 {
		return 0
	}
	return 1 + strings.Count(content[:i], "\n")
}

// clip bounds what a repository names when it goes into a sentence.
func clip(s string) string {
	if len(s) > 120 {
		return strings.ToValidUTF8(s[:120], "") + "…"
	}
	return s
}

// dirOf is path.Dir with "" for the root.
func dirOf(file string) string {
	if dir := path.Dir(file); dir != "." {
		return dir
	}
	return ""
}

// inDir gives a command as it is run from the repository's root.
func inDir(dir, command string) string {
	if dir == "" {
		return command
	}
	return "cd " + quote(dir) + " && " + command
}

// quote gives a path as a word of the shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/@+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// encode writes a value as people write it by hand.
func encode(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(err) // strings and numbers only
	}
	return element.ReplaceAllStringFunc(b.String(), func(text string) string {
		line := gap.ReplaceAllString(strings.TrimLeft(text, "\n "), " ")
		indent := text[:strings.IndexByte(text, '{')]
		if len(indent)+len(line) > 78 {
			return text
		}
		return indent + line
	})
}

var (
	// element is an element of an array that is an object of nothing but values.
	element = regexp.MustCompile(`\n +\{\n[^{}\[\]]*\n +\}`)
	gap     = regexp.MustCompile(`\n *`) // never inside of a string
)
