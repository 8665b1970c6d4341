// Package handover finds out what a person did in an agent's machine while they had
// it in hand, and tells the model of it.
//
// Two marks are compared. A mark is how the machine stands at one moment: a tree
// of git's with all files, committed or not, made through an index of its own so
// that nobody's is touched; the commit and the branch; and how far the shells and
// the screens of the terminals had come. What lies between two marks is the
// person's: the diff, the commits, the commands. Where there is no repository a
// hidden one records the files.
//
// All of it was said by a machine: it is bounded and parsed, secrets are taken
// out before anything is cut, and what cannot be found out is said in a sentence
// rather than kept from the person. The package writes no journal and holds
// nobody up; who has the agent in hand, and until when, is package runner's.
package handover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/secret"
)

// Bounds of what is taken out of a machine and kept in the journal.
const (
	maxPatch    = 64 << 10 // bytes
	maxFiles    = 300
	maxCommits  = 50
	maxCommands = 100
	maxCommand  = 2 << 10 // bytes
	maxScreens  = 8
	maxScreen   = 4 << 10  // bytes of each
	maxPrinted  = 16 << 20 // bytes that one command of ours may print
)

// limit is how long one command of ours may take.
const limit = 2 * time.Minute

// Machine is the machine of an agent that is taken over.
type Machine struct {
	Line     *guest.Line
	Dir      string // of the repository, absolute
	User     string // whose it is
	Redactor *secret.Redactor
	// Number is the take-over's. Commands run under ids made of it, so that they
	// run once.
	Number int
}

// prelude goes before every script: where there is no repository a hidden one
// stands in.
const prelude = `set -e
if ! git rev-parse --git-dir >/dev/null 2>&1; then
	GIT_DIR=$HOME/.errand-files.git GIT_WORK_TREE=$PWD; export GIT_DIR GIT_WORK_TREE
	[ -d "$GIT_DIR" ] || git init -q
fi
`

// Mark gives how the machine stands. end: at the end of the take-over. What is
// wrong with the files is in the mark's Problem; an error means that the machine
// did not answer.
func (m Machine) Mark(ctx context.Context, end bool) (errand.Mark, error) {
	which := "start"
	if end {
		which = "end"
	}
	mark, err := m.files(ctx, which)
	if err != nil {
		return mark, err
	}
	if mark.Typed, err = m.Line.TypedSizes(ctx, m.User); err != nil && !refused(err) {
		return mark, err
	}
	terminals, err := m.Line.Terminals(ctx)
	if err != nil && !refused(err) {
		return mark, err
	}
	mark.Rows = map[string]int{}
	for _, t := range terminals {
		if t.Command == "" {
			mark.Rows[t.Name] = t.Row
		}
	}
	return mark, nil
}

// files records the files, under a ref so that git keeps them; those of earlier
// take-overs go.
func (m Machine) files(ctx context.Context, which string) (errand.Mark, error) {
	const script = prelude + `keep=refs/errand/takeover/$1/
git for-each-ref --format='%(refname)' refs/errand/takeover | while read -r ref; do
	case $ref in "$keep"*) ;; *) git update-ref -d "$ref" ;; esac
done
index=$(mktemp)
trap 'rm -f "$index"' EXIT
cp "$(git rev-parse --git-path index)" "$index" 2>/dev/null || rm -f "$index"
export GIT_INDEX_FILE="$index"
git add -A >/dev/null 2>&1
tree=$(git write-tree)
git update-ref "$keep$2" "$tree"
echo "tree $tree"
echo "head $(git rev-parse -q --verify HEAD || :)"
echo "branch $(git symbolic-ref -q --short HEAD || :)"`
	out, problem, err := m.run(ctx, which, script, fmt.Sprint(m.Number), which)
	var mark errand.Mark
	if err != nil || problem != "" {
		mark.Problem = problem
		return mark, err
	}
	for line := range strings.Lines(out) {
		word, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case word == "branch":
			mark.Branch = clip(m.Redactor.String(value), 200)
		case !isObject(value):
		case word == "tree":
			mark.Tree = value
		case word == "head":
			mark.Head = value
		}
	}
	return mark, nil
}

// Changes gives what became of the machine between a mark and the one of the end.
func (m Machine) Changes(ctx context.Context, from, to errand.Mark) (errand.Changes, error) {
	c := errand.Changes{Head: to.Head, Branch: to.Branch, Problem: from.Problem}
	if c.Problem == "" {
		c.Problem = to.Problem
	}
	if from.Tree != "" && to.Tree != "" && from.Tree != to.Tree {
		if err := m.compare(ctx, from, to, &c); err != nil {
			return c, err
		}
	}
	if from.Head != to.Head && to.Head != "" {
		if err := m.commits(ctx, from, to, &c); err != nil {
			return c, err
		}
	}
	typed, err := m.Line.Typed(ctx, m.User, from.Typed)
	if refused(err) {
		c.Problem = "The commands that were typed could not be read: " + clip(m.Redactor.String(err.Error()), 300) + "."
	} else if err != nil {
		return c, err
	}
	told := map[string]bool{}
	for _, t := range typed {
		told[t.Terminal] = true
		c.Commands = append(c.Commands, errand.TakenCommand{Where: clip(m.Redactor.String(t.Terminal), 80), Text: m.Command(t.Command)})
	}
	c.Commands = Newest(c.Commands)
	return c, m.screens(ctx, from, to, told, &c)
}

// compare fills in the files and the patch.
func (m Machine) compare(ctx context.Context, from, to errand.Mark, c *errand.Changes) error {
	out, problem, err := m.run(ctx, "stats", prelude+`git -c core.quotepath=false diff --no-ext-diff --no-textconv -M --raw --numstat -z "$1" "$2" --`, from.Tree, to.Tree)
	if err != nil {
		return err
	}
	stats := git.ParseStats([]byte(out))
	for _, s := range stats[:min(len(stats), maxFiles)] {
		s.Path, s.OldPath = clip(m.Redactor.String(s.Path), 500), clip(m.Redactor.String(s.OldPath), 500)
		c.Files = append(c.Files, errand.ChangedFile(s))
	}
	c.MoreFile = max(0, len(stats)-maxFiles)
	if problem != "" {
		c.Problem = problem
		return nil
	}
	patch, problem, err := m.run(ctx, "patch", prelude+`git -c core.quotepath=false diff --no-color --no-ext-diff --no-textconv -M -p "$1" "$2" -- | head -c "$3"`, from.Tree, to.Tree, fmt.Sprint(4*maxPatch))
	if err != nil {
		return err
	}
	if problem != "" {
		c.Problem = problem
	}
	patch = strings.ToValidUTF8(m.Redactor.String(patch), "\uFFFD")
	c.Patch, c.PatchCut = cutLines(patch, maxPatch)
	c.Whole = fmt.Sprintf("git diff refs/errand/takeover/%d/start refs/errand/takeover/%d/end", m.Number, m.Number)
	return nil
}

// commits fills in the commits that were made.
func (m Machine) commits(ctx context.Context, from, to errand.Mark, c *errand.Changes) error {
	const script = prelude + `if [ -n "$1" ]; then
	git merge-base --is-ancestor "$1" "$2" || echo rewritten
	set -- "$1..$2"
else
	shift
fi
git log --no-color --no-show-signature -n 51 --format='%H%x00%an%x00%s' "$1" --`
	out, problem, err := m.run(ctx, "log", script, from.Head, to.Head)
	if err != nil {
		return err
	}
	if problem != "" {
		c.Problem = problem
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.Split(line, "\x00")
		switch {
		case line == "rewritten":
			c.Rewritten = true
		case len(f) == 3 && isObject(f[0]) && len(c.Commits) < maxCommits:
			c.Commits = append(c.Commits, errand.TakenCommit{ID: f[0], Author: clip(m.Redactor.String(f[1]), 100), Title: clip(m.Redactor.String(f[2]), 200)})
		}
	}
	return nil
}

// screens fills in what those shells showed that tell nothing themselves.
func (m Machine) screens(ctx context.Context, from, to errand.Mark, told map[string]bool, c *errand.Changes) error {
	var names []string
	for name, row := range to.Rows {
		// A terminal that is new and shows its first prompt was not used.
		if before, was := from.Rows[name]; !told[name] && (was && row != before || !was && row > 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), maxScreens)] {
		text, err := m.Line.CaptureFrom(ctx, name, from.Rows[name])
		if refused(err) {
			continue // it was closed just now
		}
		if err != nil {
			return err
		}
		text = strings.TrimSpace(m.Redactor.String(text))
		if len(text) > maxScreen {
			text = "…" + strings.ToValidUTF8(text[len(text)-maxScreen:], "")
		}
		c.Screens = append(c.Screens, errand.TakenScreen{Terminal: clip(m.Redactor.String(name), 80), Text: text})
	}
	return nil
}

// Command makes the text of a command fit to be kept.
func (m Machine) Command(text string) string { return Command(m.Redactor, text) }

// Command gives a command without secrets, and not too long.
func Command(r *secret.Redactor, text string) string {
	return clip(strings.ToValidUTF8(r.String(strings.TrimSpace(text)), ""), maxCommand)
}

// Newest gives the last commands, as many as are kept.
func Newest(all []errand.TakenCommand) []errand.TakenCommand {
	return all[max(0, len(all)-maxCommands):]
}

// run runs a script under an id of the take-over's and gives what it printed. What
// a person should know of its failing is in problem.
func (m Machine) run(ctx context.Context, what, script string, args ...string) (out, problem string, err error) {
	var printed, complaint strings.Builder
	c := guest.Command{
		ID: m.id(what), Args: append([]string{"sh", "-c", script, "takeover"}, args...),
		Dir: m.Dir, User: m.User, Limit: limit, Keep: maxPrinted,
	}
	exit, err := m.Line.RunBounded(ctx, c, maxPrinted, func(o guest.Output) {
		if o.Stderr {
			complaint.Write(o.Data)
		} else {
			printed.Write(o.Data)
		}
	})
	switch {
	case errors.Is(err, guest.ErrTooLarge), exit.Dropped > 0:
		return "", "git in the machine printed more than can be read.", nil
	case refused(err):
		return "", "What was changed could not be read: " + clip(m.Redactor.String(err.Error()), 300) + ".", nil
	case err != nil:
		return "", "", err
	case exit.TimedOut:
		return "", fmt.Sprintf("Reading what was changed took more than %s.", limit), nil
	case exit.Code != 0:
		return printed.String(), fmt.Sprintf("What was changed could not be read: git in the machine ended with exit code %d (%s).", exit.Code, clip(strings.TrimSpace(m.Redactor.String(complaint.String())), 300)), nil
	}
	return printed.String(), "", nil
}

// Forget lets the machine drop what it keeps of the take-over's commands.
func (m Machine) Forget(ctx context.Context) error {
	var ids []string
	for _, what := range []string{"start", "end", "stats", "patch", "log"} {
		ids = append(ids, m.id(what))
	}
	return m.Line.Forget(ctx, ids...)
}

func (m Machine) id(what string) string { return fmt.Sprintf("takeover.%d.%s", m.Number, what) }

// refused says whether a machine answered, and would not: to ask again is of no
// use.
func refused(err error) bool {
	var answer *guest.Error
	return errors.As(err, &answer) || errors.Is(err, guest.ErrNoTmux) || errors.Is(err, guest.ErrTooLarge)
}

func isObject(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// cutLines gives the first whole lines of text, about n bytes of them.
func cutLines(text string, n int) (short string, cut bool) {
	if len(text) <= n {
		return text, false
	}
	text = text[:n]
	return strings.ToValidUTF8(text[:strings.LastIndexByte(text, '\n')+1], ""), true
}
