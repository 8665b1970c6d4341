package survey_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/environment/survey"
)

var update = flag.Bool("update", false, "write the golden files anew")

// load reads a repository from an archive. The archive's comment has lines that
// begin with "programs:" and "answers:".
func load(t *testing.T, path string) (survey.Tree, survey.Options) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := fstest.MapFS{}
	for _, f := range archive.Files {
		files[f.Name] = &fstest.MapFile{Data: f.Data}
	}
	tree, err := survey.FromFS(files)
	if err != nil {
		t.Fatal(err)
	}
	var o survey.Options
	for line := range strings.Lines(string(archive.Comment)) {
		if rest, ok := strings.CutPrefix(line, "programs:"); ok {
			o.Programs = map[string]string{}
			for word := range strings.FieldsSeq(rest) {
				name, version, _ := strings.Cut(word, "=")
				o.Programs[name] = version
			}
		}
		if rest, ok := strings.CutPrefix(line, "answers:"); ok {
			o.Answers = map[string]string{}
			for word := range strings.FieldsSeq(rest) {
				id, answer, _ := strings.Cut(word, "=")
				o.Answers[id] = answer
			}
		}
	}
	return tree, o
}

// show writes a proposal as the golden files have it.
func show(p errand.Proposal) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s", p.Path, p.Text)
	fmt.Fprintf(&b, "verify: %s\n\n", p.Verify)
	for _, r := range p.Reasons {
		fmt.Fprintf(&b, "%s: %q because %s", r.Key, r.Value, r.Text)
		if r.File != "" {
			fmt.Fprintf(&b, " (%s:%d)", r.File, r.Line)
		}
		b.WriteString("\n")
	}
	for _, q := range p.Questions {
		fmt.Fprintf(&b, "? %s: %s [%s; %s]\n", q.ID, q.Text, strings.Join(q.Choices, ", "), q.Answer)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "! %s\n", n)
	}
	return b.String()
}

func TestLook(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) < 10 {
		t.Fatalf("%d archives, %v", len(archives), err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			tree, o := load(t, path)
			p, err := survey.Look(tree, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, warnings, err := file.Parse(p.Path, []byte(p.Text)); err != nil || len(warnings) > 0 && !p.Found {
				t.Errorf("the proposed file is not read well: %v %v", err, warnings)
			}
			got, golden := show(p), strings.TrimSuffix(path, ".txtar")+".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("the proposal is another one (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLookBounds holds that size and depth are no way to hurt the server.
func TestLookBounds(t *testing.T) {
	deep := strings.Repeat("[", 3_000_000)
	tree, err := survey.FromFS(fstest.MapFS{
		"package.json":     {Data: []byte(`{"x":` + deep)},
		"a/package.json":   {Data: []byte(`{"x":` + deep[:300_000])},
		".gitlab-ci.yml":   {Data: []byte(deep[:200_000])},
		"Makefile":         {Data: []byte(strings.Repeat("test:\n", 10_000))},
		"requirements.txt": {Data: []byte{0, 1, 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := survey.Look(tree, survey.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"package.json is too large", "a/package.json is too deep", ".gitlab-ci.yml is not valid YAML"} {
		if !strings.Contains(strings.Join(p.Notes, "\n"), want) {
			t.Errorf("no note says %q: %q", want, p.Notes)
		}
	}
	var many survey.Tree
	for i := range 40 {
		many.Files = append(many.Files, fmt.Sprintf("m%02d/go.mod", i))
	}
	many.Read = func(string) ([]byte, error) { return []byte("require x"), nil }
	if p, err = survey.Look(many, survey.Options{}); err != nil || strings.Count(p.Text, "go mod download") != 8 {
		t.Errorf("of 40 modules the proposal is\n%s%v", p.Text, err)
	}
}

// TestLookErrors tells what ends a look from what does not.
func TestLookErrors(t *testing.T) {
	broken := errors.New("the disk is broken")
	for _, c := range []struct {
		err  error
		want error
	}{
		{broken, broken},
		{fs.ErrNotExist, nil},
		{errand.Errorf(errand.NotFound, "file_not_found", "none"), nil},
		{errand.Errorf(errand.TooLarge, "file_too_large", "big"), nil},
	} {
		tree := survey.Tree{Files: []string{"package.json"}, Read: func(string) ([]byte, error) { return nil, c.err }}
		if _, err := survey.Look(tree, survey.Options{}); !errors.Is(err, c.want) {
			t.Errorf("a tree that fails with %q gives %v", c.err, err)
		}
	}
}

func FuzzLook(f *testing.F) {
	f.Add("package.json", `{"scripts":{"dev":"x"}}`)
	f.Add(".github/workflows/a.yml", "jobs: {a: {steps: [{run: go test ./...}]}}")
	f.Add("pyproject.toml", "[project]\nrequires-python = \">=3\"")
	f.Add(".tool-versions", "nodejs 99999999999999999999")
	f.Fuzz(func(t *testing.T, name, text string) {
		tree := survey.Tree{Files: []string{name}, Read: func(string) ([]byte, error) { return []byte(text), nil }}
		p, err := survey.Look(tree, survey.Options{Programs: map[string]string{"node": "1"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := file.Parse(p.Path, []byte(p.Text)); err != nil && !p.Found {
			t.Errorf("the proposal cannot be read: %v\n%s", err, p.Text)
		}
	})
}
