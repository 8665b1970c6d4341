package loop

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/errand-dev/errand/guest"
)

const (
	// maxRule bounds one rule file that is taken in whole, maxRules all of them
	// together, in bytes.
	maxRule  = 32 << 10
	maxRules = 96 << 10
	// maxListed bounds the rule files that are only named.
	maxListed = 50
)

// RuleFile is a file in the repository with rules for agents.
type RuleFile struct {
	Path string // relative to the repository's root
	// Text is what the file says. It is "" for a file that holds only for a part
	// of the repository: the model is told of it and reads it when it comes there.
	Text        string
	Globs       string // which files it holds for, as its author wrote it; "" if that is not said
	Description string // what it is about, as its author wrote it
	Cut         bool   // Text is not all of it
}

// Rules finds the rules of the repository at root: AGENTS.md, .cursorrules and
// .cursor/rules/*.mdc, those in directories below too. AGENTS.md of the root and
// rules that say alwaysApply come with their text. A file that cannot be read is
// left out; an error means that the machine cannot be asked.
func Rules(ctx context.Context, line *guest.Line, root string) ([]RuleFile, error) {
	paths, err := rulePaths(ctx, line, root)
	if err != nil {
		return nil, err
	}
	var rules []RuleFile
	room, listed := maxRules, 0
	for _, p := range paths {
		data, stat, err := line.ReadFile(ctx, root, p, 0, maxRule)
		if isRefusal(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading rules: %w", err)
		}
		rule := parseRule(p, strings.ToValidUTF8(string(data), "\uFFFD"))
		rule.Cut = rule.Text != "" && int64(len(data)) < stat.Size
		if len(rule.Text) > room {
			rule.Text = ""
		}
		if rule.Text == "" {
			if listed++; listed > maxListed {
				continue
			}
		}
		room -= len(rule.Text)
		rules = append(rules, rule)
	}
	return rules, nil
}

// rulePaths gives the paths of rule files, those of the root first.
func rulePaths(ctx context.Context, line *guest.Line, root string) ([]string, error) {
	var paths []string
	for _, name := range []string{"AGENTS.md", ".cursorrules"} {
		_, err := line.Stat(ctx, root, name)
		if err == nil {
			paths = append(paths, name)
		} else if !isRefusal(err) {
			return nil, fmt.Errorf("looking for rules: %w", err)
		}
	}
	for _, look := range []struct {
		dir string
		o   guest.ListOptions
	}{
		// These may be in .gitignore and still be meant.
		{".cursor/rules", guest.ListOptions{Glob: "*.mdc", Ignored: true, Limit: 500}},
		{".", guest.ListOptions{Glob: "{**/.cursor/rules/**/*.mdc,**/AGENTS.md}", Limit: 500}},
	} {
		found, err := line.List(ctx, root, look.dir, look.o)
		if err != nil && !isRefusal(err) {
			return nil, fmt.Errorf("looking for rules: %w", err)
		}
		for _, e := range found.Entries {
			if e.Mode.IsRegular() && !slices.Contains(paths, e.Path) {
				paths = append(paths, e.Path)
			}
		}
	}
	return paths, nil
}

func isRefusal(err error) bool {
	var refused *guest.Error
	return errors.As(err, &refused) || errors.Is(err, fs.ErrNotExist)
}

// parseRule reads a rule file. The front matter of an .mdc file is a few lines
// of "key: value", which people write as they like; it is no YAML to rely on.
func parseRule(p, content string) RuleFile {
	rule := RuleFile{Path: p}
	nested := path.Dir(p) != "." && !strings.HasPrefix(p, ".cursor/rules/")
	if !strings.HasSuffix(p, ".mdc") {
		if nested {
			rule.Globs = path.Dir(p) + "/**"
		} else {
			rule.Text = strings.TrimSpace(content)
		}
		return rule
	}
	front, body := frontMatter(content)
	rule.Description, rule.Globs = front["description"], front["globs"]
	if front["alwaysapply"] == "true" && !nested {
		rule.Text = strings.TrimSpace(body)
	}
	if nested && rule.Globs == "" {
		dir, _, _ := strings.Cut(p, "/.cursor/")
		rule.Globs = dir + "/**"
	}
	return rule
}

// frontMatter splits the lines between two "---" from what follows. Keys are in
// lower case, values without quotes; a list is joined by commas.
func frontMatter(content string) (front map[string]string, body string) {
	front = map[string]string{}
	content = strings.TrimPrefix(strings.ReplaceAll(content, "\r\n", "\n"), "\uFEFF")
	rest, ok := strings.CutPrefix(content, "---\n")
	if !ok {
		return front, content
	}
	head, body, ok := strings.Cut("\n"+rest, "\n---")
	if !ok {
		return front, content
	}
	last := ""
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if item, ok := strings.CutPrefix(line, "- "); ok && last != "" {
			front[last] = strings.TrimPrefix(front[last]+","+unquoted(item), ",")
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		last = strings.ToLower(strings.TrimSpace(key))
		front[last] = list(value)
	}
	_, body, _ = strings.Cut(body, "\n")
	return front, body
}

// list writes ["a", "b"] as a,b and leaves anything else but its quotes.
func list(value string) string {
	value = strings.TrimSpace(value)
	if !strings.HasPrefix(value, "[") || !strings.HasSuffix(value, "]") {
		return unquoted(value)
	}
	items := strings.Split(value[1:len(value)-1], ",")
	for i := range items {
		items[i] = unquoted(items[i])
	}
	return strings.Join(items, ",")
}

func unquoted(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}
