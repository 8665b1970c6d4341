package file_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
)

var update = flag.Bool("update", false, "write the golden files anew")

// understood is what a golden file holds: all that Check gave.
type understood struct {
	Environment *file.Environment `json:"environment,omitempty"`
	Findings    []string          `json:"findings,omitempty"` // each with the corrected text
}

// TestGolden reads every file of testdata/samples (found in public repositories)
// and testdata/odd (made up) and compares what was understood, and what was
// found.
func TestGolden(t *testing.T) {
	for name, data := range samples(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			report := file.Check(file.CursorPath, data, file.Around{})
			got := understood{Environment: report.Environment}
			for _, f := range report.Findings {
				text := fmt.Sprintf("%d:%d: %s: %s", f.Line, f.Column, f.Severity, f.Text)
				if len(f.Edits) > 0 {
					text += " => " + report.Shown(f)
				}
				got.Findings = append(got.Findings, text)
			}
			if report.Failed() && strings.Contains(name, "samples") {
				t.Errorf("a real file was refused: %v", got.Findings)
			}
			compareGolden(t, strings.TrimSuffix(name, ".json")+".golden", got)
		})
	}
}

// samples gives the files of testdata by name.
func samples(t testing.TB) map[string][]byte {
	names, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(names) < 100 {
		t.Fatalf("found %d files (%v), want more than 100", len(names), err)
	}
	all := map[string][]byte{}
	for _, name := range names {
		if all[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func compareGolden(t *testing.T, name string, value any) {
	t.Helper()
	var got bytes.Buffer
	encoder := json.NewEncoder(&got)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v; run go test -update", err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestParseBounds(t *testing.T) {
	tests := []struct {
		name string
		data string
		kind errand.Kind
		want string
	}{
		{"too large", strings.Repeat(" ", 256<<10+1), errand.TooLarge, "an environment file may have 262144"},
		{"too deep", strings.Repeat("[", 200_000), errand.Invalid, "more than 10000 brackets"},
		{"deep enough", strings.Repeat("[", 10_000), errand.Invalid, "ends too early"},
		{"utf-16", "\xff\xfe{\x00}\x00", errand.Invalid, "save it as UTF-8"},
		{"faults without end", "{" + strings.Repeat(`"a":1 `, 100) + "}", errand.Invalid, "more than 64 faults"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := file.Parse("e.json", []byte(test.data))
			if errand.KindOf(err) != test.kind || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q (%s), want %q (%s)", err, errand.KindOf(err), test.want, test.kind)
			}
		})
	}
}

func TestFind(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string // install
		warns int
	}{
		{"none", nil, "", 0},
		{"cursor", map[string]string{file.CursorPath: `{"install":"c"}`}, "c", 0},
		{"own", map[string]string{file.Path: `{"install":"e"}`}, "e", 0},
		{"both", map[string]string{file.Path: `{"install":"e"}`, file.CursorPath: `{"install":"c"}`}, "e", 1},
		{"own is empty", map[string]string{file.Path: ``, file.CursorPath: `{"install":"c"}`}, "", 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, warnings, err := file.Find(func(path string) ([]byte, error) {
				if text, ok := test.files[path]; ok {
					return []byte(text), nil
				}
				return nil, errand.Errorf(errand.NotFound, "not_found", "no %s", path)
			})
			if err != nil {
				t.Fatal(err)
			}
			if e.Install != test.want || len(warnings) != test.warns {
				t.Errorf("got install %q and warnings %v, want %q and %d of them", e.Install, warnings, test.want, test.warns)
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		broken := errors.New("disk on fire")
		if _, _, err := file.Find(func(string) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
			t.Errorf("got %v, want %v", err, broken)
		}
	})
}

// FuzzParse holds that no input crashes, that positions lie inside the file,
// and that what was understood is valid JSON in UTF-8.
func FuzzParse(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, warnings, err := file.Parse("e.json", data)
		if (e == nil) == (err == nil) {
			t.Fatalf("got environment %v and error %v", e, err)
		}
		lines := bytes.Count(data, []byte("\n")) + 1
		for _, w := range warnings {
			if w.Line < 1 || w.Line > lines || w.Column < 1 || w.Column > len(data)+1 || w.Text == "" || !utf8.ValidString(w.Text) {
				t.Fatalf("warning %+v for a file of %d lines", w, lines)
			}
		}
		if err != nil {
			if kind := errand.KindOf(err); kind != errand.Invalid && kind != errand.TooLarge {
				t.Fatalf("got %v of kind %s", err, kind)
			}
			return
		}
		if _, err := json.Marshal(e); err != nil {
			t.Fatalf("what was understood cannot be written: %v", err)
		}
	})
}
