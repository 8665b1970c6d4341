package inside

import (
	"bufio"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/errand-dev/errand/guest/wire"
)

// globber is a compiled pattern for slash-separated paths.
type globber struct {
	re   *regexp.Regexp
	base bool // for the last element alone
}

// newGlobber compiles a glob: * and ? stay within a name, ** goes across
// directories, [a-z] and {a,b} are as in a shell. A pattern without a slash is
// for the last element.
func newGlobber(pattern string) (*globber, error) {
	base := !strings.Contains(pattern, "/")
	expr, err := translateGlob(strings.TrimPrefix(pattern, "/"), true)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile("^(?:" + expr + ")$")
	if err != nil {
		return nil, faultf(wire.CodeInvalid, "%q is not a glob pattern", pattern)
	}
	return &globber{re: re, base: base}, nil
}

func (g *globber) match(name string) bool {
	if g.base {
		name = path.Base(name)
	}
	return g.re.MatchString(name)
}

// translateGlob gives the regular expression of a glob.
func translateGlob(pattern string, braces bool) (string, error) {
	const most = 1024
	if len(pattern) > most {
		return "", faultf(wire.CodeTooLarge, "a glob pattern has at most %d bytes", most)
	}
	var b strings.Builder
	depth := 0
	for i := 0; i < len(pattern); i++ {
		rest := pattern[i:]
		switch c := pattern[i]; {
		case strings.HasPrefix(rest, "**/"):
			b.WriteString("(?:.*/)?")
			i += 2
		case strings.HasPrefix(rest, "**"):
			b.WriteString(".*")
			i++
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		case c == '[' && classEnd(rest) > 0:
			n := classEnd(rest)
			b.WriteString(class(rest[1:n]))
			i += n
		case c == '\\' && len(rest) > 1:
			b.WriteString(regexp.QuoteMeta(rest[1:2]))
			i++
		case c == '{' && braces:
			b.WriteString("(?:")
			depth++
		case c == ',' && depth > 0:
			b.WriteString("|")
		case c == '}' && depth > 0:
			b.WriteString(")")
			depth--
		case c < 0x80:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		default:
			b.WriteByte(c)
		}
	}
	if depth > 0 {
		return "", faultf(wire.CodeInvalid, "glob pattern %q has a { without a }", pattern)
	}
	return b.String(), nil
}

// classEnd gives where the class that s begins with ends, 0 where it does not.
func classEnd(s string) int {
	// A ] right at the beginning is a member.
	from := 2
	if strings.HasPrefix(s, "[!") || strings.HasPrefix(s, "[^") {
		from = 3
	}
	if from > len(s) {
		return 0
	}
	if n := strings.IndexByte(s[from:], ']'); n >= 0 {
		return from + n
	}
	return 0
}

func class(members string) string {
	negated := ""
	if members[0] == '!' || members[0] == '^' {
		negated, members = "^", members[1:]
	}
	return "[" + negated + strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(members) + "]"
}

// rule is one line of a .gitignore file.
type rule struct {
	re      *regexp.Regexp // for paths relative to the file's directory
	dirOnly bool
	negated bool
}

// ignores are the rules that hold in a directory: its own, and those above it.
type ignores struct {
	above *ignores
	dir   string // of the rules, relative to the root
	rules []rule
}

// maxIgnore bounds how much of a .gitignore file is read, in bytes.
const maxIgnore = 256 << 10

// with gives the rules that hold in dir, ig being those of its parent.
func (ig *ignores) with(r *os.Root, dir string) *ignores {
	f, _, err := openFile(r, path.Join(dir, ".gitignore"))
	if err != nil {
		return ig
	}
	defer f.Close()
	own := &ignores{above: ig, dir: dir}
	for lines := bufio.NewScanner(io.LimitReader(f, maxIgnore)); lines.Scan(); {
		if rule, ok := parseRule(lines.Text()); ok {
			own.rules = append(own.rules, rule)
		}
	}
	return own
}

// parseRule reads one line as gitignore(5) says.
func parseRule(line string) (rule, bool) {
	line = strings.TrimSuffix(line, "\r")
	if !strings.HasSuffix(line, `\ `) {
		line = strings.TrimRight(line, " \t")
	}
	if line == "" || line[0] == '#' {
		return rule{}, false
	}
	var r rule
	if rest, ok := strings.CutPrefix(line, "!"); ok {
		r.negated, line = true, rest
	}
	if rest, ok := strings.CutSuffix(line, "/"); ok {
		r.dirOnly, line = true, rest
	}
	anywhere := !strings.Contains(line, "/")
	expr, err := translateGlob(strings.TrimPrefix(line, "/"), false)
	if err != nil || expr == "" {
		return rule{}, false
	}
	if anywhere {
		expr = "(?:.*/)?" + expr
	}
	if r.re, err = regexp.Compile("^" + expr + "$"); err != nil {
		return rule{}, false
	}
	return r, true
}

// match says whether name, relative to the root, is ignored. The nearest file's
// last rule that fits decides.
func (ig *ignores) match(name string, isDir bool) bool {
	for ; ig != nil; ig = ig.above {
		below := name
		if ig.dir != "." {
			below = strings.TrimPrefix(name, ig.dir+"/")
		}
		for i := len(ig.rules) - 1; i >= 0; i-- {
			r := &ig.rules[i]
			if (isDir || !r.dirOnly) && r.re.MatchString(below) {
				return !r.negated
			}
		}
	}
	return false
}
