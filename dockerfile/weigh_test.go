package dockerfile_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/dockerfile"
)

// Each of these would take more memory than there is, or minutes.
func TestHeavy(t *testing.T) {
	double := func(word string) string {
		return word + " a=xxxxxxxxxxxxxxxx\n" + strings.Repeat(word+" a=$a$a\n", 40)
	}
	value := strings.Repeat("x", 4000)
	for _, test := range []struct{ name, text, at string }{
		{"of arguments", double("ARG") + "FROM scratch\n", "Dockerfile:"},
		{"of a stage's arguments", "FROM scratch\n" + double("ARG"), "Dockerfile:"},
		{"of variables", "FROM scratch\n" + double("ENV"), "Dockerfile:"},
		{"by trigger", "FROM scratch AS a\nENV a=xxxxxxxxxxxxxxxx\n" + strings.Repeat("ONBUILD ENV a=$a$a\n", 40) + "FROM a\n", "Dockerfile:43"},
		{"through bases", "FROM scratch AS a\nENV a=" + value + value + "\n" + strings.Repeat("FROM a\nENV b=$a$a$a$a\n", 1000), "Dockerfile:"},
		{"in one word", "ARG a=" + value + "\nARG b=" + strings.Repeat("$a", 20_000) + "\nFROM scratch\n", "Dockerfile:2"},
		{"in a base", "ARG a=" + value + "\nFROM " + strings.Repeat("${a}", 10_000) + "\n", "Dockerfile:2"},
		{"by replacing", "ARG a=" + value + "\nARG b=${a//x/${a//x/$a}}\nFROM scratch\n", "Dockerfile:2"},
		{"by replacing what is quoted", "ARG a=" + value + "\nARG b=${a//x/'}'${a//x/$a}}\nFROM scratch\n", "Dockerfile:2"},
		{"by looking", "ARG a=" + value + "\nARG b=${a%%" + strings.Repeat("?*", 20_000) + "}\nFROM scratch\n", "Dockerfile:2"},
		{"by name", "ARG 1=" + value + "\nARG b=" + strings.Repeat("$1b", 20_000) + "\nFROM scratch\n", "Dockerfile:2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := dockerfile.Parse("Dockerfile", []byte(test.text), nil)
			if errand.KindOf(err) != errand.Invalid || !strings.HasPrefix(err.Error(), test.at) || !strings.Contains(err.Error(), "too long") {
				t.Errorf("%.300v", err)
			}
			if f := dockerfile.Lint([]byte(test.text), never(t)); len(f) != 1 || !f[0].Fatal {
				t.Errorf("the linter says %.300v", f)
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 500<<20 {
				t.Errorf("it took %d MB", took>>20)
			}
		})
	}
}

// What is filled in for the linter alone does not keep a file from being built.
func TestHeavyLine(t *testing.T) {
	t.Parallel()
	text := "FROM scratch\nENV a=" + strings.Repeat("x", 4000) + "\nRUN " + strings.Repeat("$a", 20_000) + "\n"
	if _, err := dockerfile.Parse("Dockerfile", []byte(text), nil); err != nil {
		t.Errorf("%.300v", err)
	}
	if f := dockerfile.Lint([]byte(text), never(t)); len(f) != 1 || f[0].Fatal || !strings.Contains(f[0].Text, "not looked through") {
		t.Errorf("the linter says %.300v", f)
	}
}

// What people write is filled in.
func TestLight(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("ARG VERSION=v22.1.0\nARG NODE=${VERSION#v}\nARG MAJOR=${NODE%%.*}\nARG BRANCH=feature/x\nARG TAG=${BRANCH//\\//-}\nARG SUFFIX='a b'\n")
	text.WriteString("FROM node:${NODE}-${MAJOR}-${TAG:-none}${NONE:+x} AS build\nENV PATH=/opt/bin:$PATH\n")
	for i := range 40 {
		fmt.Fprintf(&text, "ARG V%d=1.%d\nENV HOME%d=/opt/${V%[1]d%%.*} PATH=$HOME%[1]d/bin:$PATH\nRUN curl \"https://x.example/${V%[1]d//./_}/${V%[1]d%%.*}\" && echo \"${PATH//:/ }\"\n", i, i, i)
	}
	text.WriteString("FROM build\nARG VERSION\nRUN echo $VERSION\n")
	f, err := dockerfile.Parse("Dockerfile", []byte(text.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Stages[0].Base; got != "node:22.1.0-22-feature-x" {
		t.Errorf("the base is %s", got)
	}
	odd := dockerfile.Finding{Line: 3, Rule: "Odd", Text: "It is odd."}
	got := dockerfile.Lint([]byte(text.String()), func([]byte) ([]dockerfile.Finding, error) { return []dockerfile.Finding{odd, odd}, nil })
	if !slices.Equal(got, []dockerfile.Finding{odd}) {
		t.Errorf("of what the linter says there is %+v", got)
	}
	got = dockerfile.Lint([]byte(text.String()), func([]byte) ([]dockerfile.Finding, error) { return nil, errors.New("it is away") })
	if len(got) != 1 || got[0].Fatal || !strings.Contains(got[0].Text, "it is away") {
		t.Errorf("of a linter that is away there is %+v", got)
	}
}

// never is a linter for what must not come to one.
func never(t *testing.T) dockerfile.Linter {
	return func(text []byte) ([]dockerfile.Finding, error) {
		t.Errorf("the linter is asked about %.300s", text)
		return nil, nil
	}
}

// Each of these would take minutes of looking through lists.
func TestMany(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"triggers":  "FROM scratch AS a\n" + strings.Repeat("ONBUILD COPY x y\n", 4000) + strings.Repeat("FROM a\n", 900),
		"stages":    strings.Repeat("FROM a\n", 70_000),
		"arguments": strings.Repeat("ARG a\n", 80_000) + "FROM a\n",
	} {
		if _, err := dockerfile.Parse("Dockerfile", []byte(text), nil); errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), "more than 5000 instructions") {
			t.Errorf("%s: %.300v", name, err)
		}
	}
	var sources strings.Builder
	sources.WriteString("FROM scratch\n")
	for i := range 600 {
		fmt.Fprintf(&sources, "COPY src/a%d /\n", i)
	}
	f, err := dockerfile.Parse("Dockerfile", []byte(sources.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Context.Whole || len(f.Context.Sources) > 501 {
		t.Errorf("%d sources are told apart", len(f.Context.Sources))
	}
	for name, text := range map[string]string{"patterns": strings.Repeat("a\n", 2000), "bytes": strings.Repeat("#", 1<<20)} {
		if _, err := dockerfile.ParseIgnore(".dockerignore", []byte(text)); errand.KindOf(err) != errand.TooLarge {
			t.Errorf("a .dockerignore of many %s: %v", name, err)
		}
	}
}
