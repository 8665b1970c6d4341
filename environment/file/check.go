package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tailscale/hujson"

	"github.com/errand-dev/errand/dockerfile"
)

// Report is what a check of a file found.
type Report struct {
	File string `json:"file"`
	// Environment is the file as it was understood; nil where it was not.
	Environment *Environment `json:"environment,omitempty"`
	Findings    []Finding    `json:"findings"` // by line and column

	data   []byte
	around Around
	edits  []Edit
}

// Around is what a check may look at beside the file itself. With the zero
// Around it looks at nothing.
type Around struct {
	// Repository is the tree in which the file stands; nil: it is not looked at.
	Repository fs.FS
	// Snapshot says whether there is a snapshot of that name; nil: nobody knows.
	Snapshot func(name string) bool
	// Linter looks at the Dockerfile; nil: only what cannot be built is told.
	Linter dockerfile.Linter
}

// Check reads an environment file as Parse does and tells all that is odd about
// it, each with what corrects it. Beyond Parse it tells what is certain to go
// wrong later: a Dockerfile that is not there, a context outside the repository,
// an install that never ends. Of the Dockerfile it tells what its own linter says.
func Check(file string, data []byte, around Around) Report {
	r := newReader(file, data)
	r.around = &around
	report := Report{File: file, Findings: []Finding{}, data: data, around: around}
	if err := r.readAll(); err == nil {
		report.Environment = r.env
	}
	for _, f := range r.findings {
		report.Findings = append(report.Findings, *f)
	}
	report.edits = r.applied
	return report
}

// Failed says whether there is an error among the findings.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error })
}

// Corrected gives the file with all edits made, and again those of what comes
// to light then. It means the same as the file did; comments stay, and what has
// no effect becomes one. It is the file itself where nothing can be corrected.
func (r Report) Corrected() []byte {
	const rounds = 64 // a fault of the JSON hides what is behind it
	for range rounds {
		if len(r.edits) == 0 {
			break
		}
		next := Check(r.File, apply(r.data, r.edits), r.around)
		if bytes.Equal(next.data, r.data) {
			break
		}
		r = next
	}
	return r.data
}

// Shown gives the lines that a finding of this report is about as they are when
// its edits are made, without those that stay as they were. It is "" where it
// has none.
func (r Report) Shown(f Finding) string {
	if len(f.Edits) == 0 {
		return ""
	}
	before := bytes.Split(r.data, []byte("\n"))
	after := bytes.Split(apply(r.data, f.Edits), []byte("\n"))
	same := func(a, b []byte) bool { return bytes.Equal(a, b) }
	for len(before) > 0 && len(after) > 0 && same(before[0], after[0]) {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && same(before[len(before)-1], after[len(after)-1]) {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	return string(bytes.Join(after, []byte("\n")))
}

// look adds findings about what the file names.
func (r *reader) look() {
	if r.around == nil {
		return
	}
	if b := r.env.Build; b != nil && r.env.Image == "" {
		r.lookDockerfile(b)
		r.lookContext(b)
		r.lint(b)
	}
	if name := r.env.Snapshot; name != "" && r.around.Snapshot != nil && !r.around.Snapshot(name) {
		r.drop(r.warn(r.places["snapshot"].StartOffset, "There is no snapshot %q here; the environment starts from its image.", clip(name)), r.top, r.fields["snapshot"])
	}
	if server := serves(r.env.Install); server != "" {
		r.warn(r.places["install"].StartOffset, `"install" does not end: %s runs until it is stopped. Put it into "start" or "terminals".`, clip(server))
	}
}

// place gives where a key of "build" is read.
func (r *reader) place(key string) hujson.Value {
	for _, known := range []string{"build." + key, key, "build"} {
		if v, ok := r.places[known]; ok {
			return v
		}
	}
	return r.top
}

func (r *reader) fail(v hujson.Value, format string, args ...any) {
	r.warn(v.StartOffset, format, args...).Severity = Error
}

func (r *reader) lookDockerfile(b *BuildSpec) {
	if b.Dockerfile == "" {
		return
	}
	v, file := r.place("dockerfile"), r.env.Dockerfile()
	switch {
	case outside(file):
		r.fail(v, "The Dockerfile %q is outside the repository. Its path is relative to %s.", clip(b.Dockerfile), r.folder())
	case r.around.Repository == nil || r.is(file, false):
	case r.is(path.Clean(b.Dockerfile), false):
		meant := r.fromRoot(b.Dockerfile)
		f := r.warn(v.StartOffset, "A Dockerfile's path is relative to %s; %q was found in the repository's root and understood as %q.", r.folder(), clip(b.Dockerfile), clip(meant))
		if _, literal := r.places["build.dockerfile"]; literal {
			r.write(f, v, quote(meant))
		}
		b.Dockerfile = meant
	default:
		r.fail(v, "There is no Dockerfile %s in the repository, and no %s.", clip(file), clip(path.Clean(b.Dockerfile)))
	}
}

// lint says what is odd about the Dockerfile itself. Where it is not there,
// lookDockerfile has said so.
func (r *reader) lint(b *BuildSpec) {
	if b.Contents != "" {
		line, column := r.position(r.place("dockerfileContents").StartOffset)
		r.tellOdd([]byte(b.Contents), func(odd int) Finding {
			return Finding{File: r.file, Line: line, Column: column, Text: fmt.Sprintf("Line %d of \"dockerfileContents\": ", odd)}
		})
		return
	}
	name := r.env.Dockerfile()
	if r.around.Repository == nil || outside(name) {
		return
	}
	f, err := r.around.Repository.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, dockerfile.MaxSize+1))
	if err != nil {
		return
	}
	r.tellOdd(text, func(odd int) Finding { return Finding{File: name, Line: odd, Column: min(odd, 1)} })
}

// tellOdd adds what is odd about a Dockerfile. at gives a finding for one of its
// lines, to which the text is added.
func (r *reader) tellOdd(text []byte, at func(line int) Finding) {
	for _, odd := range dockerfile.Lint(text, r.around.Linter) {
		if len(r.findings) >= maxFindings {
			return
		}
		f := at(odd.Line)
		f.Severity = Warning
		f.Text += odd.Text
		if odd.Rule != "" {
			f.Text += " (" + odd.Rule + ", " + odd.URL + ")"
		}
		if odd.Fatal {
			f.Severity = Error
		}
		r.findings = append(r.findings, &f)
	}
}

func (r *reader) lookContext(b *BuildSpec) {
	v, dir := r.place("context"), r.env.BuildContext()
	switch {
	case outside(dir):
		r.fail(v, "The build's context %q is outside the repository. Its path is relative to %s; \"..\" is the repository itself.", clip(b.Context), r.folder())
	case r.around.Repository != nil && !r.is(dir, true):
		r.fail(v, "There is no directory %s in the repository, which is the build's context.", clip(dir))
	}
}

// is says whether there is a directory, or a file that is none, in the
// repository. What cannot be looked at is taken to be there.
func (r *reader) is(file string, dir bool) bool {
	info, err := fs.Stat(r.around.Repository, file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return false
	}
	return err != nil || info.IsDir() == dir
}

func outside(file string) bool { return file == ".." || strings.HasPrefix(file, "../") }

// servers are commands that run until they are stopped, by their first words.
var servers = []string{
	"sleep infinity", "tail -f", "tail -F", "dockerd", "sudo dockerd",
	"python -m http.server", "python3 -m http.server", "php -S", "flask run", "uvicorn", "gunicorn",
	"python manage.py runserver", "python3 manage.py runserver", "rails server", "bin/rails server", "rails s", "bin/rails s",
	"next dev", "npx next dev", "vite", "npx vite", "npx serve", "npx http-server", "webpack serve", "npx webpack serve",
}

// serves gives the command by which an install never ends, or "". It is sure of
// itself: only the last command counts, as it stands there, and only where
// nothing puts it into the background, bounds it or reads what it prints.
func serves(install string) string {
	text := strings.TrimSpace(install)
	if text == "" || strings.ContainsAny(text, "`") {
		return ""
	}
	at := strings.LastIndexAny(text, "\n;&|")
	if at == len(text)-1 || at > 0 && text[at] == '|' {
		return ""
	}
	last := strings.TrimSpace(text[at+1:])
	words := strings.Fields(last)
	for _, server := range servers {
		first := strings.Fields(server)
		if len(words) < len(first) || !slices.Equal(words[:len(first)], first) {
			continue
		}
		rest := words[len(first):]
		ends := func(word string) bool {
			return slices.Contains([]string{"--version", "--help", "-h", "-v", "-V", "version", "build", "-D", "--daemon", "--help-all", "optimize", "preview"}, word) ||
				strings.ContainsAny(word, "()<'\"")
		}
		if !slices.ContainsFunc(rest, ends) {
			return last
		}
	}
	return ""
}
