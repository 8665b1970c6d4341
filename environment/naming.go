package environment

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/errand-dev/errand"
)

// The bounds on following scripts. What lies beyond them is not looked into.
const (
	maxScripts     = 64
	maxScript      = 256 << 10 // bytes
	maxPatterns    = 1000      // each is held against all files
	maxDirectories = 1000      // of each git is asked
)

// naming finds what of a tree a command names. It does not parse the shell: it
// looks at every word that could be a path, and minds only what changes where
// relative paths begin.
type naming struct {
	in    KeyInput
	parts map[string]string
	dirs  map[string]bool // made from the tree when first needed
	seen  map[string]bool // scripts followed
	// What was looked at before is not looked at again: a script may say the same
	// word a hundred thousand times.
	words, patterns, directories map[string]bool
}

func newNaming(in KeyInput, parts map[string]string) *naming {
	return &naming{in: in, parts: parts, seen: map[string]bool{}, words: map[string]bool{}, patterns: map[string]bool{}, directories: map[string]bool{}}
}

// runners name files by themselves.
var runners = map[string][]string{
	"make": {"Makefile", "makefile", "GNUmakefile"},
	"just": {"justfile", "Justfile", ".justfile"},
	"task": {"Taskfile.yml", "Taskfile.yaml"},
	"rake": {"Rakefile"},
	"tox":  {"tox.ini"},
	"nox":  {"noxfile.py"},
}

// moves are the words after which a directory is where to go, not an input.
var moves = []string{"cd", "pushd", "-C", "--prefix", "--cwd", "--dir", "--directory", "--project"}

// follow notes what text names, read as shell commands that begin in dir.
func (n *naming) follow(ctx context.Context, text, dir string) error {
	at := []string{dir} // where commands stand; one deeper for each subshell
	before := ";"
	for _, word := range words(text) {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch word {
		case "(":
			at = append(at, at[len(at)-1])
		case ")":
			if len(at) > 1 {
				at = at[:len(at)-1]
			}
		}
		here := at[len(at)-1]
		if slices.Contains(moves, before) {
			if moved, ok := n.directory(here, word); ok {
				at[len(at)-1] = moved
				before = word
				continue
			}
		}
		// At the head of a command, "." reads a script and is no directory.
		if word != "." || before != ";" && before != "(" {
			if err := n.word(ctx, word, []string{here, dir, ""}, before); err != nil {
				return err
			}
		}
		before = word
	}
	return nil
}

// word notes what one word names, seen from the first of bases where it is.
func (n *naming) word(ctx context.Context, word string, bases []string, before string) error {
	key := fmt.Sprintf("%q %q %t", word, bases, takesDirectory(before))
	if n.words[key] {
		return nil
	}
	n.words[key] = true
	for _, name := range runners[path.Base(word)] {
		if _, err := n.note(ctx, path.Join(bases[0], name), false); err != nil {
			return err
		}
	}
	for _, candidate := range spellings(word) {
		if strings.ContainsAny(candidate, "*?[") {
			if err := n.glob(ctx, path.Join(bases[0], candidate)); err != nil {
				return err
			}
			continue
		}
		for _, from := range bases {
			target := path.Join(from, candidate)
			if strings.HasPrefix(target, "..") {
				continue
			}
			// A word without a slash is more often a command or an option than
			// a directory of that name: "npm test", "make build".
			bare := !strings.Contains(candidate, "/") && candidate != "." && candidate != ".."
			found, err := n.note(ctx, target, !bare || takesDirectory(before))
			if err != nil {
				return err
			}
			if found {
				break
			}
		}
	}
	return nil
}

// takesDirectory says whether the word after this one may be a directory even
// without a slash.
func takesDirectory(before string) bool {
	switch before {
	case "-e", "--editable", "cp", "-r", "-R", "-a", "-rf", "mv", "rsync", "-f", "--path":
		return true
	}
	return false
}

// spellings gives the paths that a word may mean: itself, what follows = or :
// in it, or an option's letter, without what stands for the project's root.
func spellings(word string) []string {
	candidates := []string{word}
	for _, divider := range []string{"=", ":"} {
		if _, after, ok := strings.Cut(word, divider); ok {
			candidates = append(candidates, after)
		}
	}
	if len(word) > 2 && word[0] == '-' && word[1] != '-' {
		candidates = append(candidates, word[2:])
	}
	var paths []string
	for _, c := range candidates {
		for _, root := range []string{"/workspace/", "$PWD/", "${PWD}/", "$(pwd)/"} {
			c = strings.TrimPrefix(c, root)
		}
		if c != "" && c[0] != '/' && c[0] != '-' && !strings.ContainsRune(c, '$') {
			paths = append(paths, c)
		}
	}
	return paths
}

// note takes a file, and a directory if asked to, into the parts, and looks
// into what may be a script. It says whether the path is there.
func (n *naming) note(ctx context.Context, target string, directories bool) (bool, error) {
	target = path.Clean(target)
	if id, ok := n.in.Tree[target]; ok {
		n.parts[target] = id
		return true, n.script(ctx, target)
	}
	if !directories || !n.isDir(target) {
		return false, nil
	}
	if n.in.TreeID == nil {
		return false, nil
	}
	if n.directories[target] {
		return true, nil
	}
	if len(n.directories) >= maxDirectories {
		return false, nil
	}
	n.directories[target] = true
	id, err := n.in.TreeID(target)
	if err != nil {
		return false, fmt.Errorf("reading the tree of %s: %w", target, err)
	}
	if target == "." {
		n.parts["the whole tree"] = id
	} else {
		n.parts[target+"/"] = id
	}
	return true, nil
}

// glob takes all files that match a pattern.
func (n *naming) glob(ctx context.Context, pattern string) error {
	if n.patterns[pattern] || len(n.patterns) >= maxPatterns {
		return nil
	}
	n.patterns[pattern] = true
	for file, id := range n.in.Tree {
		if ok, _ := path.Match(pattern, file); ok {
			n.parts[file] = id
		}
	}
	return ctx.Err()
}

// script follows a file that looks like a shell script.
func (n *naming) script(ctx context.Context, file string) error {
	if n.in.Read == nil || n.seen[file] || len(n.seen) >= maxScripts {
		return nil
	}
	if ext := path.Ext(file); ext != ".sh" && ext != ".bash" && ext != "" {
		return nil
	}
	n.seen[file] = true
	data, err := n.in.Read(file)
	switch errand.KindOf(err) {
	case "":
	case errand.NotFound, errand.TooLarge, errand.Invalid:
		return nil // a link out of the tree, a submodule, no script
	default:
		return fmt.Errorf("reading %s: %w", file, err)
	}
	isShell := path.Ext(file) != "" || strings.HasPrefix(string(data[:min(len(data), 64)]), "#!") && strings.Contains(firstLine(string(data)), "sh")
	if !isShell || len(data) > maxScript || !utf8.Valid(data) {
		return nil
	}
	// A script's relative paths begin where it was called or, by habit, in its
	// own folder; word tries the root as well.
	if err := n.follow(ctx, string(data), ""); err != nil {
		return err
	}
	if dir := path.Dir(file); dir != "." {
		return n.follow(ctx, string(data), dir)
	}
	return nil
}

// directory gives where cd leads, if that is in the tree.
func (n *naming) directory(here, word string) (string, bool) {
	for _, candidate := range spellings(word) {
		for _, from := range []string{here, ""} {
			if target := path.Join(from, candidate); target == "." || target == "" {
				return "", true
			} else if n.isDir(target) {
				return target, true
			}
		}
	}
	if word == "/workspace" || word == "-" || word == "~" {
		return "", true
	}
	return "", false
}

func (n *naming) isDir(target string) bool {
	if n.dirs == nil {
		n.dirs = map[string]bool{".": true}
		for file := range n.in.Tree {
			for dir := path.Dir(file); !n.dirs[dir]; dir = path.Dir(dir) {
				n.dirs[dir] = true
			}
		}
	}
	return n.dirs[target]
}

// words cuts shell text into words. Quoted text is given whole, since it may be
// a path with spaces, and in its words, since it may be a command. Parentheses
// are words, and so is ";", which stands for whatever ends a command; comments
// are none.
func words(text string) []string {
	var all []string
	start := -1
	end := func(i int) {
		if start >= 0 {
			all = append(all, text[start:i])
			start = -1
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '#' && start < 0:
			line := strings.IndexByte(text[i:], '\n')
			if line < 0 {
				return all
			}
			i += line
		case (c == '(' || c == ')') && !strings.HasSuffix(text[:i], "$"):
			end(i)
			all = append(all, string(c))
		case c == '"' || c == '\'':
			end(i)
			if length := strings.IndexByte(text[i+1:], c); length > 0 && strings.ContainsAny(text[i+1:i+1+length], " \t") {
				all = append(all, text[i+1:i+1+length])
			}
		case c == '\\' && i+1 < len(text) && text[i+1] == '\n':
			end(i)
			i++
		case strings.IndexByte("\n;|&`", c) >= 0:
			end(i)
			all = append(all, ";")
		case strings.IndexByte(" \t\r<>,", c) >= 0:
			end(i)
		case start < 0:
			start = i
		}
	}
	end(len(text))
	return all
}
