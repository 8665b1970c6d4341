package environment_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/environment"
)

// tree is a repository in which every file's id is its content.
var tree = map[string]string{
	"README.md":                         "readme",
	"package.json":                      "manifest",
	"package-lock.json":                 "lock",
	"web/package.json":                  "web manifest",
	"web/src/index.js":                  "code",
	"web/test":                          "a file named test",
	"api/go.mod":                        "module",
	"api/main.go":                       "package main",
	"node_modules/x/package.json":       "vendored",
	"testdata/package.json":             "example",
	".env.dev.example":                  "A=b",
	".cursor/install.sh":                "#!/bin/bash\nset -e\n# not run: scripts/other.sh\n. scripts/lib.sh\ncd \"web dir\"\npip install -r ../deps/base.txt\n./next",
	".cursor/next":                      "#!/bin/sh\ncp config/app.yml /tmp\n./install.sh",
	"scripts/lib.sh":                    "true",
	"scripts/other.sh":                  "true",
	"deps/base.txt":                     "flask",
	"config/app.yml":                    "x: y",
	"web dir/x":                         "x",
	"Makefile":                          "setup:",
	"build/out.txt":                     "out",
	"requirements-dev.txt":              "pytest",
	"tools/requirements/a.in":           "a",
	"tools/requirements/b.in":           "b",
	"tools/requirements/sub/c.in":       "c",
	"docs/file with spaces/install.txt": "x",
}

func input(install string) environment.KeyInput {
	return environment.KeyInput{
		Image: "host@1", URL: "https://example.com/r.git",
		Environment: &environment.Environment{Install: install},
		Tree:        tree,
		TreeID: func(dir string) (string, error) {
			var ids []string
			for _, file := range slices.Sorted(maps.Keys(tree)) {
				if dir == "." || strings.HasPrefix(file, dir+"/") {
					ids = append(ids, file+tree[file])
				}
			}
			return strings.Join(ids, "|"), nil
		},
		Read: func(file string) ([]byte, error) { return []byte(tree[file]), nil },
	}
}

// always are the parts of every key of the tree.
var always = []string{"image", "url", "user", "install", "package.json", "package-lock.json", "web/package.json", "api/go.mod", "requirements-dev.txt"}

func TestKeyParts(t *testing.T) {
	tests := []struct {
		install string
		want    []string // beside those of always
	}{
		{"npm ci", nil},
		{"cp .env.dev.example .env && pnpm i", []string{".env.dev.example"}},
		{"pip install .", []string{"the whole tree"}},
		{"pip install -e '.[dev]' -r requirements-dev.txt", nil},
		{"cd web && npm ci && node src/index.js", []string{"web/src/index.js"}},
		{"(cd api && go mod download) && cat README.md", []string{"README.md"}},
		{"cd api && pip install .", []string{"api/"}},
		{"npm --prefix web ci", nil},
		{"make setup", []string{"Makefile"}},
		{"make build && npm run test", []string{"Makefile"}},
		{"pip install -e api", []string{"api/"}},
		{"pip install ./api", []string{"api/"}},
		{"pip install --requirement=deps/base.txt", []string{"deps/base.txt"}},
		{"pip install -rdeps/base.txt", []string{"deps/base.txt"}},
		{"cat /workspace/deps/base.txt $PWD/config/app.yml", []string{"deps/base.txt", "config/app.yml"}},
		{"cat tools/requirements/*.in", []string{"tools/requirements/a.in", "tools/requirements/b.in"}},
		{"bash -c \"npm ci && cat README.md\"", []string{"README.md"}},
		{"cat 'docs/file with spaces/install.txt'", []string{"docs/file with spaces/install.txt"}},
		{"cat ../../etc/passwd /etc/passwd missing.txt", nil},
		{"bash .cursor/install.sh", []string{".cursor/install.sh", "scripts/lib.sh", "deps/base.txt", ".cursor/next", "config/app.yml"}},
	}
	for _, test := range tests {
		t.Run(test.install, func(t *testing.T) {
			_, parts, err := environment.Key(t.Context(), input(test.install))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, part := range parts {
				got = append(got, part.Name)
			}
			want := slices.Sorted(slices.Values(append(slices.Clone(always), test.want...)))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("parts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeyChangesWithEachPart(t *testing.T) {
	base, before, err := environment.Key(t.Context(), input("bash .cursor/install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(base), "e1-") || len(base) > 80 || strings.Trim(string(base), "0123456789abcdef-") != "" {
		t.Errorf("key %q is no snapshot key", base)
	}
	tests := []struct {
		name   string
		change func(*environment.KeyInput)
		same   bool
		why    string
	}{
		{"nothing", func(*environment.KeyInput) {}, true, ""},
		{"image", func(in *environment.KeyInput) { in.Image = "host@2" }, false, "image changed"},
		{"url", func(in *environment.KeyInput) { in.URL = "x" }, false, "url changed"},
		{"user", func(in *environment.KeyInput) { in.Environment.User = "node" }, false, "user changed"},
		{"variable", func(in *environment.KeyInput) { in.Environment.Env = map[string]string{"A": "b"} }, false, "variable A is new"},
		{"install", func(in *environment.KeyInput) { in.Environment.Install += " # again" }, false, "install changed"},
		{"start", func(in *environment.KeyInput) { in.Environment.Start = "x" }, true, ""},
		{"lockfile", put("package-lock.json", "other"), false, "package-lock.json changed"},
		{"script in a script", put("config/app.yml", "other"), false, "config/app.yml changed"},
		{"lockfile gone", put("package-lock.json", ""), false, "package-lock.json is gone"},
		{"code", put("api/main.go", "other"), true, ""},
		{"many", func(in *environment.KeyInput) {
			for _, file := range []string{"package.json", "web/package.json", "api/go.mod", "requirements-dev.txt"} {
				put(file, "other")(in)
			}
		}, false, "api/go.mod changed, package.json changed, requirements-dev.txt changed, 1 more"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := input("bash .cursor/install.sh")
			in.Tree = maps.Clone(tree)
			test.change(&in)
			key, parts, err := environment.Key(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			if (key == base) != test.same {
				t.Errorf("key is the same: %t, want %t", key == base, test.same)
			}
			if why := environment.Explain(before, parts); why != test.why {
				t.Errorf("explained as %q, want %q", why, test.why)
			}
		})
	}
}

func put(file, content string) func(*environment.KeyInput) {
	return func(in *environment.KeyInput) {
		if in.Tree[path.Clean(file)] = content; content == "" {
			delete(in.Tree, file)
		}
	}
}

// TestKeyOfRepeatedWords has an install name the same thing many times, and many
// patterns: git is asked once, and the end of ctx is the end of it.
func TestKeyOfRepeatedWords(t *testing.T) {
	in := input(strings.Repeat("cp -r ./api x; cp -r api/ y\n", 500))
	asked := 0
	id := in.TreeID
	in.TreeID = func(dir string) (string, error) { asked++; return id(dir) }
	if _, _, err := environment.Key(t.Context(), in); err != nil || asked != 1 {
		t.Errorf("git is asked for a directory %d times, %v", asked, err)
	}

	var patterns strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&patterns, "ls no%d*\n", i)
	}
	in.Environment.Install = patterns.String() + "cat READM*\n"
	_, parts, err := environment.Key(t.Context(), in)
	if err != nil || slices.ContainsFunc(parts, func(p environment.KeyPart) bool { return p.Name == "README.md" }) {
		t.Errorf("all patterns are looked at, %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := environment.Key(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("a key that nobody waits for gives %v", err)
	}
}
