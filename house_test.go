package errand_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/errand-dev/errand"

// rows are the house from the ground up. A package imports only packages of
// rows below its own; those of one row do not know each other.
var rows = [][]string{
	{""}, // the words
	{"store", "guest", "image", "llm", "secret", "git", "dockerfile"},
	{"machine", "tool"},
	{"environment", "loop", "egress", "terminal", "auth", "journal", "vault", "snapshot", "handover", "presence"},
	{"build"},
	{"runner"},
	{"setup"},
	{"api"},
	{"server", "client"},
	{"bench"},
	{"web", "cli"},
	{"cmd"},
}

// forbidden are words that the product has better ones for, or that say nothing.
var forbidden = []string{
	"session", "workspace", "sandbox", "instance", "manager", "service",
	"util", "utils", "helper", "helpers", "common", "types", "models", "core", "base", "misc", "pkg", "internal",
}

// file is one Go file of the tree as the house tests see it.
type file struct {
	path string // slash-separated, from the root
	dir  string
	ast  *ast.File
}

// files reads the whole tree. It reads the files itself: a test that asks the go
// command is served stale from the test cache.
func files(t *testing.T) []file {
	t.Helper()
	var all []file
	set := token.NewFileSet()
	root := os.DirFS(".")
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (strings.HasPrefix(name, ".") && p != "." || name == "testdata" || name == "node_modules" || p == "tools" || p == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(p) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(set, filepath.FromSlash(p), nil, parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, file{p, path.Dir(p), parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found only %d Go files; is this the root of the repository?", len(all))
	}
	return all
}

// noun is the top-level folder that a directory belongs to.
func noun(dir string) string {
	if dir == "." {
		return ""
	}
	first, _, _ := strings.Cut(dir, "/")
	return first
}

func row(n string) int {
	return slices.IndexFunc(rows, func(r []string) bool { return slices.Contains(r, n) })
}

func TestArrows(t *testing.T) {
	for _, f := range files(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue // a test may use whatever shows what it means
		}
		from := noun(f.dir)
		if row(from) < 0 {
			t.Errorf("%s: folder %q stands in no row of the house; add it to rows and to ARCHITECTURE.md", f.path, from)
			continue
		}
		for _, spec := range f.ast.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			rest, ours := strings.CutPrefix(p, module)
			if !ours {
				continue
			}
			to := noun(strings.TrimPrefix(rest, "/"))
			if rest == "" {
				to = ""
			}
			if to == from {
				continue
			}
			if row(to) >= row(from) {
				t.Errorf("%s imports %s: row %d may not know row %d", f.path, p, row(from), row(to))
			}
		}
	}
}

// A program that runs a template has every exported method of all its packages
// in it, since a template may call any: 5 MB more for errand, and for its server.
func TestNoTemplates(t *testing.T) {
	for _, f := range files(t) {
		for _, spec := range f.ast.Imports {
			if p, _ := strconv.Unquote(spec.Path.Value); !strings.HasSuffix(f.path, "_test.go") && (p == "html/template" || p == "text/template") {
				t.Errorf("%s imports %s, which makes errand 5 MB larger", f.path, p)
			}
		}
	}
}

func TestPackageComments(t *testing.T) {
	comments := map[string]string{}
	for _, f := range files(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		if _, ok := comments[f.dir]; !ok {
			comments[f.dir] = ""
		}
		if f.ast.Doc != nil {
			comments[f.dir] += f.ast.Doc.Text()
		}
	}
	for dir, text := range comments {
		if len(text) < 120 {
			t.Errorf("%s: its package comment says too little (%d bytes): what it is, the ideas, what it does not do", dir, len(text))
		}
	}
}

func TestNames(t *testing.T) {
	for _, f := range files(t) {
		for _, part := range strings.Split(strings.TrimSuffix(f.path, ".go"), "/") {
			for word := range strings.SplitSeq(strings.TrimSuffix(part, "_test"), "_") {
				if slices.Contains(forbidden, word) {
					t.Errorf("%s: %q is a name that the house does not use", f.path, word)
				}
			}
		}
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, s := range g.Specs {
				name := s.(*ast.TypeSpec).Name.Name
				for _, bad := range []string{"Manager", "Service", "Handler", "Helper", "Impl", "Session", "Workspace", "Sandbox"} {
					if strings.HasSuffix(name, bad) {
						t.Errorf("%s: type %s: %s is a name that the house does not use", f.path, name, bad)
					}
				}
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for _, f := range files(t) {
		b, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > 800 {
			t.Errorf("%s has %d lines; split it by its nouns", f.path, n)
		}
	}
}

// TestNoInit holds that nothing registers itself.
func TestNoInit(t *testing.T) {
	for _, f := range files(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function; wire it in cmd instead", f.path)
			}
		}
	}
}
