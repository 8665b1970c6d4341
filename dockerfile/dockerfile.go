// Package dockerfile reads a Dockerfile before it is built: which images it
// stands on, what it takes of its context, which secrets it asks for, what is
// odd about it, and what decides its outcome.
//
// Two ideas carry it. The text is read by BuildKit's own parser, so that what is
// said here of a line is what the build will make of it. And an image is built
// once for each Key, which depends on as little as can be known for certain: the
// files that COPY and ADD name, not the repository around them; all of the
// context where that cannot be told.
//
// The package does no I/O and builds nothing.
package dockerfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"github.com/errand-dev/errand"
)

// Scratch is the base that is no image.
const Scratch = "scratch"

// MaxSize is how many bytes a Dockerfile may have.
const MaxSize = 512 << 10

// File is what a Dockerfile asks for.
type File struct {
	Name   string // as people know it, for messages
	Stages []Stage
	// Images are the images that it needs from registries, each once, in the
	// order of the text.
	Images  []Image
	Context Context
	Secrets []Secret

	lines []string
	lint  int // what the linter has to fill in weighs
}

// Stage is one FROM and what follows it.
type Stage struct {
	Name  string // after AS; "" for none
	Base  string // the image or stage after FROM, with its variables filled in
	Line  int    // of FROM, from 1
	Steps []int  // the lines of the instructions that the build numbers, in order
}

// Image is an image that the file names.
type Image struct {
	Name string // with its variables filled in
	Line int    // from 1
}

// Secret is a build secret that a RUN mounts.
type Secret struct {
	ID       string
	Required bool // the build fails without it
	Line     int  // from 1
}

// Parse reads text, a Dockerfile that people know as name. With args, the
// values of build arguments, it fills in what FROM and COPY --from name.
//
// The error for what cannot be read is an *errand.Error of kind Invalid that
// names file and line and shows the line.
func Parse(name string, text []byte, args map[string]string) (*File, error) {
	if len(text) > MaxSize {
		return nil, errand.Errorf(errand.TooLarge, "invalid_dockerfile", "%s has %d bytes; a Dockerfile may have %d. Move long commands into scripts.", name, len(text), MaxSize)
	}
	f := &File{Name: name, lines: strings.Split(string(text), "\n")}
	if err := f.parse(text, args); err != nil {
		return nil, f.refuse(err)
	}
	return f, nil
}

// parse fills the file in. Its errors are the parser's.
func (f *File) parse(text []byte, args map[string]string) error {
	tree, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return err
	}
	stages, globals, err := instructions.Parse(tree.AST, nil)
	if err != nil {
		return err
	}
	r := reader{file: f, lex: shell.NewLex(tree.EscapeToken), args: args}
	return r.read(stages, globals)
}

func lineOf(where []parser.Range) int {
	if len(where) == 0 {
		return 0
	}
	return where[0].Start.Line
}

// refuse makes the parser's error into one that shows the line.
func (f *File) refuse(err error) error {
	line, said := located(err)
	return errand.Errorf(errand.Invalid, "invalid_dockerfile", "%s: %s%s", f.At(line), said, f.quote(line))
}

// located takes the line out of the parser's error; 0 is none.
func located(err error) (line int, said string) {
	var at *parser.LocationError
	if errors.As(err, &at) && len(at.Locations) > 0 {
		line = lineOf(at.Locations[len(at.Locations)-1])
	}
	said = err.Error()
	if where, rest, ok := strings.Cut(said, ": "); ok && strings.HasPrefix(where, "dockerfile parse error on line ") {
		said = rest
		if line == 0 {
			line, _ = strconv.Atoi(strings.TrimPrefix(where, "dockerfile parse error on line "))
		}
	}
	return line, said
}

// At gives a place in the file in the form of a compiler: file:line.
func (f *File) At(line int) string {
	if line < 1 {
		return f.Name
	}
	return fmt.Sprintf("%s:%d", f.Name, line)
}

func (f *File) quote(line int) string {
	text := clip(f.Text(line))
	if text == "" {
		return ""
	}
	return fmt.Sprintf("\n%4d | %s", line, text)
}

// Text gives a line of the file; "" for one that is not there.
func (f *File) Text(line int) string {
	if line < 1 || line > len(f.lines) {
		return ""
	}
	return strings.TrimRight(f.lines[line-1], "\r")
}

func clip(text string) string {
	const most = 200
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// reader collects what a File holds.
type reader struct {
	file    *File
	lex     *shell.Lex
	args    map[string]string
	globals values // of ARG before the first FROM

	triggers [][]string // of ONBUILD, by stage
	envs     []values   // of ENV and ARG, by stage

	instructions int // that were read
	weight       int // of the words that were filled in
}

func (r *reader) read(stages []instructions.Stage, globals []instructions.ArgCommand) error {
	r.globals = values{}
	for i := range globals {
		command := &globals[i]
		err := r.count()
		if err == nil {
			err = r.define(r.globals, command)
		}
		if err != nil {
			return parser.WithLocation(err, command.Location())
		}
	}
	if len(stages) == 0 {
		return errors.New("the file has no FROM")
	}
	for i := range stages {
		if err := r.stage(&stages[i]); err != nil {
			return err
		}
	}
	return nil
}

// stage reads a FROM and what follows it.
func (r *reader) stage(s *instructions.Stage) error {
	stage := Stage{Name: s.Name, Line: lineOf(s.Location)}
	if err := r.begin(&stage, s); err != nil {
		return parser.WithLocation(err, s.Location)
	}
	for _, c := range s.Commands {
		if err := r.command(&stage, c); err != nil {
			return parser.WithLocation(err, c.Location())
		}
	}
	r.file.Stages = append(r.file.Stages, stage)
	return nil
}

// begin reads the FROM, and what the base has for what is built on it.
func (r *reader) begin(stage *Stage, s *instructions.Stage) (err error) {
	if err := r.count(); err != nil {
		return err
	}
	if stage.Base, err = r.fill(s.BaseName, r.globals); err != nil {
		return err
	}
	if stage.Base == "" {
		return fmt.Errorf("the base %s is empty: its build argument has no value", s.BaseName)
	}
	if err := r.spend(r.globals.weigh(s.Platform)); err != nil { // it is the linter's to fill in
		return err
	}
	r.image(stage.Base, stage.Line)
	base := r.stageOf(stage.Base)
	env, err := r.variables(base)
	if err != nil {
		return err
	}
	r.triggers, r.envs = append(r.triggers, nil), append(r.envs, env)
	return r.trigger(base)
}

// imageOf notes the image that a word with variables names.
func (r *reader) imageOf(word string, line int) error {
	name, err := r.fill(word, r.globals)
	if err != nil {
		return err
	}
	r.image(name, line)
	return nil
}

// image notes an image, unless name is that of an earlier stage.
func (r *reader) image(name string, line int) {
	if name == "" || name == Scratch || r.stageOf(name) >= 0 {
		return
	}
	if !slices.ContainsFunc(r.file.Images, func(i Image) bool { return i.Name == name }) {
		r.file.Images = append(r.file.Images, Image{name, line})
	}
}

// stageOf gives the index of an earlier stage by what names it, or -1.
func (r *reader) stageOf(name string) int {
	if n, err := strconv.Atoi(name); err == nil {
		if n >= 0 && n < len(r.file.Stages) {
			return n
		}
		return -1
	}
	return slices.IndexFunc(r.file.Stages, func(s Stage) bool { return strings.EqualFold(s.Name, name) })
}

// trigger reads what a stage has for those that are built on it; -1 is none.
func (r *reader) trigger(base int) error {
	if base < 0 {
		return nil
	}
	for _, text := range r.triggers[base] {
		tree, err := parser.Parse(strings.NewReader(text))
		if err != nil {
			return err
		}
		for _, node := range tree.AST.Children {
			c, err := instructions.ParseCommand(node)
			if err != nil {
				return err
			}
			if err := r.command(&Stage{}, c); err != nil { // no step of the text's own
				return err
			}
		}
	}
	return nil
}

func (r *reader) command(stage *Stage, c instructions.Command) error {
	if err := r.count(); err != nil {
		return err
	}
	if err := r.define(r.envs[len(r.envs)-1], c); err != nil {
		return err
	}
	line := lineOf(c.Location())
	switch c := c.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			r.file.Context.take(c.SourcePaths)
		} else {
			if err := r.imageOf(c.From, line); err != nil {
				return err
			}
		}
	case *instructions.AddCommand:
		r.file.Context.take(slices.DeleteFunc(slices.Clone(c.SourcePaths), isRemote))
	case *instructions.RunCommand:
		// Mounts are read when they are expanded. What variables stand for is
		// known to the build alone.
		if err := c.Expand(func(word string) (string, error) { return word, nil }); err != nil {
			return err
		}
		for _, m := range instructions.GetMounts(c) {
			if err := r.mount(m, line); err != nil {
				return err
			}
		}
	case *instructions.WorkdirCommand:
	case *instructions.OnbuildCommand:
		last := len(r.triggers) - 1
		r.triggers[last] = append(r.triggers[last], c.Expression)
		return nil
	default:
		return nil
	}
	stage.Steps = append(stage.Steps, line)
	return nil
}

func (r *reader) mount(m *instructions.Mount, line int) error {
	switch {
	case m.Type == instructions.MountTypeSecret:
		id := m.CacheID
		if id == "" {
			id = m.Target[strings.LastIndexByte(m.Target, '/')+1:]
		}
		r.secret(Secret{ID: id, Required: m.Required, Line: line})
	case m.From != "":
		return r.imageOf(m.From, line)
	case m.Type == instructions.MountTypeBind:
		r.file.Context.take([]string{m.Source})
	}
	return nil
}

func (r *reader) secret(s Secret) {
	for i, known := range r.file.Secrets {
		if known.ID == s.ID {
			r.file.Secrets[i].Required = known.Required || s.Required
			return
		}
	}
	r.file.Secrets = append(r.file.Secrets, s)
}

// isRemote says whether ADD fetches source from elsewhere.
func isRemote(source string) bool {
	for _, prefix := range []string{"http://", "https://", "git://", "git@", "ssh://", "github.com/"} {
		if strings.HasPrefix(source, prefix) {
			return true
		}
	}
	return false
}

// LineOf gives the line of a step by the name that BuildKit gives it, such as
// "[build 2/4] RUN npm ci"; 0 for what is no step of the file.
func (f *File) LineOf(step string) int {
	inside, _, ok := strings.Cut(strings.TrimPrefix(step, "["), "] ")
	if !ok || !strings.HasPrefix(step, "[") {
		return 0
	}
	words := strings.Fields(inside)
	if len(words) == 0 {
		return 0
	}
	index, total, ok := strings.Cut(words[len(words)-1], "/")
	at, err1 := strconv.Atoi(index)
	of, err2 := strconv.Atoi(total)
	if !ok || err1 != nil || err2 != nil {
		return 0
	}
	for i, s := range f.Stages {
		name := cmp.Or(s.Name, "stage-"+strconv.Itoa(i))
		if len(words) == 1 {
			name = words[0] // no stage is named: it is the last
		}
		if len(words) == 1 && i < len(f.Stages)-1 || !strings.EqualFold(words[0], name) {
			continue
		}
		// Counted from the end: whether FROM is counted depends on the base.
		if n := len(s.Steps) - 1 - (of - at); n >= 0 && n < len(s.Steps) {
			return s.Steps[n]
		}
		return s.Line
	}
	return 0
}
