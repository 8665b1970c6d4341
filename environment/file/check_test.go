package file_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tailscale/hujson"

	"github.com/errand-dev/errand/dockerfile"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/machine/buildkit/solver/inside"
)

// compiled gives the schema.
func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(file.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(file.SchemaName, document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(file.SchemaName)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate holds a file against the schema.
func validate(schema *jsonschema.Schema, data []byte) error {
	plain, err := hujson.Standardize(append(bytes.TrimPrefix(data, []byte("\ufeff")), '\n'))
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(plain))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// meaning is what of an environment has an effect.
func meaning(e *file.Environment) file.Environment {
	m := *e
	m.Extra = map[string]json.RawMessage{}
	for _, kept := range []string{"chromeExecutablePath", "enable_testing"} {
		if v, ok := e.Extra[kept]; ok {
			m.Extra[kept] = v
		}
	}
	if may := m.AgentCanUpdateSnapshot; may != nil && *may && !m.CanUpdateSnapshot() {
		m.AgentCanUpdateSnapshot = new(bool)
	}
	return m
}

// checkCorrected holds what a report promises of the corrected file: nothing is
// left to correct, it means the same, and the schema accepts it.
func checkCorrected(schema *jsonschema.Schema, data []byte) error {
	report := file.Check(file.CursorPath, data, file.Around{})
	if report.Environment == nil {
		return nil
	}
	corrected := report.Corrected()
	again := file.Check(file.CursorPath, corrected, file.Around{})
	for _, f := range again.Findings {
		if len(f.Edits) > 0 || again.Failed() && !report.Failed() {
			return fmt.Errorf("the corrected file still has %s\n%s", f, corrected)
		}
	}
	if again.Environment == nil {
		return fmt.Errorf("the corrected file is not understood\n%s", corrected)
	}
	if diff := cmp.Diff(meaning(report.Environment), meaning(again.Environment)); diff != "" {
		return fmt.Errorf("the corrected file means something else (-before +after):\n%s\n%s", diff, corrected)
	}
	if err := validate(schema, corrected); err != nil {
		return fmt.Errorf("the schema refuses the corrected file: %v\n%s", err, corrected)
	}
	return nil
}

func TestCorrected(t *testing.T) {
	schema := compiled(t)
	for name, data := range samples(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			if err := checkCorrected(schema, data); err != nil {
				t.Error(err)
			}
			report := file.Check(file.CursorPath, data, file.Around{})
			clean := report.Environment != nil && len(report.Findings) == 0
			if err := validate(schema, data); clean && err != nil {
				t.Errorf("the schema refuses what checks clean: %v", err)
			} else if clean && !bytes.Equal(report.Corrected(), data) {
				t.Error("a clean file was changed")
			}
			if strings.Contains(name, "samples") {
				once(t, report, data)
			}
		})
	}
}

// once holds that the edits of the findings, made at once, leave nothing to
// correct.
func once(t *testing.T, report file.Report, data []byte) {
	t.Helper()
	var edits []file.Edit
	for _, f := range report.Findings {
		edits = append(edits, f.Edits...)
	}
	slices.SortStableFunc(edits, func(a, b file.Edit) int { return b.Offset - a.Offset })
	text := slices.Clone(data)
	for _, e := range edits {
		text = slices.Replace(text, e.Offset, e.Offset+e.Length, []byte(e.Text)...)
	}
	for _, f := range file.Check(file.CursorPath, text, file.Around{}).Findings {
		if len(f.Edits) > 0 {
			t.Errorf("after all edits there is %s\n%s", f, text)
		}
	}
}

func TestCheckAround(t *testing.T) {
	tree := fstest.MapFS{
		".cursor/Dockerfile": {Data: []byte("FROM scratch\n")}, "Dockerfile.dev": {Data: []byte("FROM scratch\n")}, "docker/x": {},
		"docker/old": {Data: []byte("FROM scratch\nENV a b\n")}, "docker/bad": {Data: []byte("FROM scratch\nENVV a b\n")},
	}
	tests := []struct {
		name, text string
		want       []string // severities and texts, in part
		corrected  string
	}{
		{"found", `{"build": {"dockerfile": "Dockerfile"}}`, nil, ""},
		{"in the root", `{"build": {"dockerfile": "Dockerfile.dev"}}`,
			[]string{`warning A Dockerfile's path is relative to .cursor; "Dockerfile.dev" was found in the repository's root and understood as "../Dockerfile.dev".`},
			`{"build": {"dockerfile": "../Dockerfile.dev"}}`},
		{"in the root, at the top level", `{"dockerFile": "Dockerfile.dev"}`,
			[]string{"warning", "warning", "warning"}, `{"build": { "dockerfile": "../Dockerfile.dev" }}`},
		{"missing", `{"build": {"dockerfile": "Dockerfile.prod"}}`, []string{"error There is no Dockerfile .cursor/Dockerfile.prod in the repository"}, ""},
		{"a directory", `{"build": {"dockerfile": "../docker"}}`, []string{"error There is no Dockerfile docker in the repository"}, ""},
		{"outside", `{"build": {"dockerfile": "../../Dockerfile"}}`, []string{"error The Dockerfile"}, ""},
		{"context outside", `{"build": {"dockerfile": "Dockerfile", "context": "../.."}}`, []string{"error The build's context"}, ""},
		{"context missing", `{"build": {"dockerfile": "Dockerfile", "context": "../app"}}`, []string{"error There is no directory app"}, ""},
		{"context", `{"build": {"dockerfile": "Dockerfile", "context": "../docker"}}`, nil, ""},
		{"an odd Dockerfile", `{"build": {"dockerfile": "../docker/old"}, "instal": "x"}`,
			[]string{`warning "instal" is not a key`, `warning "ENV key=value" should be used instead of legacy "ENV key value" format. (LegacyKeyValueFormat, https://`}, `{"build": {"dockerfile": "../docker/old"} /* "instal": "x" */}`},
		{"a Dockerfile that is none", `{"build": {"dockerfile": "../docker/bad"}}`, []string{"error unknown instruction: ENVV"}, ""},
		{"odd contents", `{"build": {"dockerfileContents": "FROM scratch\nENV a b"}}`, []string{`warning Line 2 of "dockerfileContents": "ENV key=value" should be used`}, ""},
		{"snapshot", `{"snapshot": "known"}`, nil, ""},
		{"no snapshot", `{"snapshot": "other", "install": "x"}`, []string{"warning There is no snapshot"}, `{/* "snapshot": "other", */ "install": "x"}`},
		{"image and build", `{"image": "a", "build": {"dockerfile": "Dockerfile"}}`, []string{"warning \"image\" and a Dockerfile"}, `{"image": "a" /* "build": {"dockerfile": "Dockerfile"} */}`},
		{"never ends", `{"install": "npm ci && npx vite"}`, []string{"warning \"install\" does not end: npx vite"}, ""},
		{"ends", `{"install": "npm ci && npx vite build"}`, nil, ""},
		{"in the background", `{"install": "sleep infinity &"}`, nil, ""},
		{"near", `{"instal": "npm ci"}`, []string{`warning "instal" is not a key of the format; it is kept and has no effect. Did you mean "install"?`}, `{/* "instal": "npm ci" */}`},
		{"near in a terminal", `{"terminals": [{"name": "a", "comand": "x", "command": "y"}]}`,
			[]string{`warning "comand" is not a key of a terminal; it has no effect. Did you mean "command"?`},
			`{"terminals": [{"name": "a", /* "comand": "x", */ "command": "y"}]}`},
		{"twice", `{"terminals": [{"name": "a", "command": "x"}, {"name": "a", "command": "y"}]}`,
			[]string{`warning There is more than one terminal named "a"; number 2 was named "a-2".`},
			`{"terminals": [{"name": "a", "command": "x"}, {"name": "a-2", "command": "y"}]}`},
		{"comments stay", "{ // one\n  \"ports\": [3000 /* two */, \"x\"], // three\n  \"install\": \"\" # four\n}",
			[]string{"warning", "warning", "warning"},
			"{ // one\n  \"ports\": [{ \"port\": 3000 } /* two */ /* \"x\" */], // three\n  \"install\": \"\" // four\n}"},
	}
	schema := compiled(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			report := file.Check(file.CursorPath, []byte(test.text), file.Around{Linter: linter(t), Repository: tree, Snapshot: func(name string) bool { return name == "known" }})
			if len(report.Findings) != len(test.want) {
				t.Fatalf("got %v, want %d findings", report.Findings, len(test.want))
			}
			for i, f := range report.Findings {
				if got := string(f.Severity) + " " + f.Text; !strings.HasPrefix(got, test.want[i]) {
					t.Errorf("got %q, want %q", got, test.want[i])
				}
			}
			want := test.corrected
			if want == "" {
				want = test.text
			}
			if diff := cmp.Diff(want, string(report.Corrected())); diff != "" {
				t.Errorf("corrected (-want +got):\n%s", diff)
			}
			if err := validate(schema, report.Corrected()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCorrectedFaults corrects what Parse refuses.
func TestCorrectedFaults(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"single quotes", `{'install': 'npm ci'}`, `{"install": "npm ci"}`},
		{"other words", `{"agentCanUpdateSnapshot": True, "name": None}`, "{\"agentCanUpdateSnapshot\": true /* \"name\": null */}"},
		{"no quotes", "{install: npm ci,\n start: x\n}", "{\"install\": \"npm ci\",\n \"start\": \"x\"\n}"},
		{"escape", `{"install": "grep \d"}`, `{"install": "grep \\d"}`},
		{"commas", `{"install": "a",, "start": "b"; "name": "c",}`, `{"install": "a", "start": "b", "name": "c"}`},
		{"equals", `{"install" = "a"}`, `{"install" : "a"}`},
		{"not closed", "{\"terminals\": [{\"command\": \"x\"}\n", "{\"terminals\": [{\"command\": \"x\"}\n]}"},
		{"a guess", `{"install": "npm ci}`, `{"install": "npm ci}`},
		{"two objects", `{} {}`, `{} {}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			report := file.Check(file.CursorPath, []byte(test.text), file.Around{})
			if !report.Failed() {
				t.Fatalf("it was understood: %v", report.Findings)
			}
			if diff := cmp.Diff(test.want, string(report.Corrected())); diff != "" {
				t.Errorf("corrected (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzCorrected holds the promises of Corrected for any file.
func FuzzCorrected(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	schema := compiled(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := checkCorrected(schema, data); err != nil {
			t.Error(err)
		}
	})
}

func linter(t *testing.T) dockerfile.Linter {
	return func(text []byte) ([]dockerfile.Finding, error) { return inside.Lint(t.Context(), text) }
}

// What is wrong in one place hides nothing that is wrong in another.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	text := `{"build": {"dockerfile": "Dockerfile", "context": "../.."}, "start": 5, "install": 7}`
	tree := fstest.MapFS{".cursor/Dockerfile": {Data: []byte("FROM alpine:3\nRUNX x\n")}}
	report := file.Check(file.CursorPath, []byte(text), file.Around{Repository: tree})
	var got []string
	for _, f := range report.Findings {
		if f.Severity == file.Error {
			got = append(got, fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column))
		}
	}
	want := []string{".cursor/environment.json:1:51", ".cursor/environment.json:1:70", ".cursor/environment.json:1:84", ".cursor/Dockerfile:2:1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("errors (-want +got):\n%s\n%+v", diff, report.Findings)
	}
}
