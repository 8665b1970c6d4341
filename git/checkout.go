package git

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/sync/errgroup"
)

// Person is an author as git writes one.
type Person struct {
	Name  string
	Email string
}

// Checkout says what a repository should look like inside a machine.
type Checkout struct {
	URL    string // clean; what origin is; "" is the mirror's
	Mirror string // where the machine sees the mirror; "" is MirrorTarget(URL)
	Dir    string // absolute, in the machine; "" is /workspace
	Commit string // full id, from Mirror.Resolve
	// Branch is made at Commit and checked out. "" leaves HEAD detached at
	// Commit, which is what a build's disk is for: any branch can follow.
	Branch string
	// BaseBranch is the branch that Commit was resolved from; "" if it was none.
	// It gets a local branch too, so that `git diff main` means something.
	BaseBranch string
	User       string // who owns the checkout; a name, a uid or uid:gid, "" is root
	Author     Person // of commits made in the machine; zero is Errand
	CoAuthor   Person // who asked for the work; zero leaves the trailer out
	// BrokerURL is where the machine reaches Mirrors.Broker for this repository;
	// "" leaves git to talk to URL itself.
	BrokerURL string

	etc string // instead of /etc, for tests
}

// Place is a machine as a checkout needs it. Paths are absolute, in the machine.
type Place interface {
	// Exists says whether anything is at path, be it a link to nowhere.
	Exists(ctx context.Context, path string) (bool, error)
	// Read gives a file of at most 64 KiB, nil where there is none.
	Read(ctx context.Context, path string) ([]byte, error)
	// Write writes files below dir, whole and in order: where a later one is,
	// so are those before it. dir and all parents are made. What is made
	// belongs to the owner of the nearest directory that was there.
	Write(ctx context.Context, dir string, files []File) error
	// Run runs a program and gives what it printed and its exit code, 127 where
	// there is no such program. One that an earlier process of ours left
	// running is waited for first.
	Run(ctx context.Context, c Command) (output string, code int, err error)
}

// File is a file that a checkout writes.
type File struct {
	Path       string // relative
	Data       string
	Executable bool
}

// Command is a program that a checkout runs.
type Command struct {
	Args []string
	Dir  string
	User string // "" is root
	Env  []string
}

// CheckoutError is a program of a checkout that ended badly.
type CheckoutError struct {
	Code   int
	Output string // the last of it, at most 16 KiB
}

func (e *CheckoutError) Error() string {
	return fmt.Sprintf("the checkout ended with exit code %d: %s", e.Code, e.Output)
}

//go:embed checkout.sh
var checkoutScript string

// The exit codes of the script where it found nothing to go on from, and another
// repository.
const (
	noRepository      = 75
	anotherRepository = 76
)

// Checkout makes c in the machine p and gives notices for people, a line each.
// The machine needs git and a POSIX shell, and the mirror at c.Mirror.
//
// It may be cut off at any point and done again, and done on top of an earlier
// checkout, its own or one that came with the image: what git does not track
// (node_modules) stays, changed files stay unless another commit needs their
// place (then they are kept under refs/errand/set-aside; an untracked file in
// the way of a tracked one is replaced). Another repository, with a history of
// its own, is moved out of the way with all that is in it, to Dir and
// "-before-errand". Once it has finished for a branch, doing it again changes no
// ref and no file of the tree.
//
// It leaves origin with the real URL (git in the machine is told by a system
// setting to go to the broker instead), remote branches and tags as the mirror
// has them, user.name and user.email, and a prepare-commit-msg hook for the
// co-author. A repository that brings its own hooks directory (core.hooksPath)
// does without that hook; SettleScript adds the trailer by itself.
//
// Its cost does not depend on the length of history. Each program that starts
// costs 8 to 20 ms under gVisor, so in a fresh machine there is one, git, and
// all else is files; where something was, there is a shell too.
func (r *Mirror) Checkout(ctx context.Context, c Checkout, p Place) (notices string, err error) {
	c.URL = cmp.Or(c.URL, r.url)
	c = c.filled()
	seen, err := c.look(ctx, p)
	if err != nil {
		return "", err
	}
	refs, err := r.originRefs()
	if err != nil {
		return "", err
	}
	if err := c.own(ctx, p); err != nil {
		return "", err
	}
	system := c.system(seen.settings)
	if seen.repository {
		if err := p.Write(ctx, c.etc, append([]File{{Path: c.refsFile(), Data: refs}}, system...)); err != nil {
			return "", err
		}
		out, code, err := p.Run(ctx, c.command("/bin/sh", "-c", c.script()))
		switch {
		case err == nil && code == anotherRepository:
			if notices, err = c.putAside(ctx, p); err != nil {
				return "", err
			}
		case err == nil && code == noRepository:
			notices = out
		default:
			return out, cmp.Or(err, ended(out, code))
		}
	}
	return notices, r.fresh(ctx, c, p, system, refs, notices != "")
}

// seen is what a checkout finds in a machine.
type seen struct {
	settings   string // git's, of the machine
	repository bool   // something is where the repository's own directory goes
}

// look finds it, in the time of one answer.
func (c Checkout) look(ctx context.Context, p Place) (s seen, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		there, err := p.Exists(ctx, path.Join(c.Mirror, "HEAD"))
		if err == nil && !there {
			err = fmt.Errorf("the mirror of %s is not in the machine at %s", c.URL, c.Mirror)
		}
		return err
	})
	g.Go(func() error {
		settings, err := p.Read(ctx, c.settings())
		s.settings = string(settings)
		return err
	})
	g.Go(func() (err error) {
		s.repository, err = p.Exists(ctx, path.Join(c.Dir, ".git"))
		return err
	})
	err = g.Wait()
	return s, err
}

// settings is the file of git's settings for the whole machine.
func (c Checkout) settings() string { return path.Join(c.etc, "gitconfig") }

// ended is the error of a program that ended with code, nil for 0.
func ended(output string, code int) error {
	if code == 0 {
		return nil
	}
	return &CheckoutError{Code: code, Output: output[max(0, len(output)-16<<10):]}
}

func (c Checkout) command(args ...string) Command {
	return Command{Args: args, Dir: c.Dir, User: c.User, Env: []string{"LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_LFS_SKIP_SMUDGE=1"}}
}

// putAside renames the directory with the repository in it, which is another, and
// makes a new one. It gives a notice.
func (c Checkout) putAside(ctx context.Context, p Place) (notice string, err error) {
	const script = `to=$1-before-errand n=1
while [ -e "$to" ] || [ -L "$to" ]; do n=$((n + 1)) to=$1-before-errand-$n; done
mv -- "$1" "$to" && echo "What was at $1 is another repository; it is kept as $to."`
	out, code, err := p.Run(ctx, Command{Args: []string{"/bin/sh", "-c", script, "sh", c.Dir}, Dir: "/"})
	if err := cmp.Or(err, ended(out, code)); err != nil {
		return "", err
	}
	return out, c.own(ctx, p)
}

// own gives the directory to the one who owns the checkout, with what came there
// with the image.
func (c Checkout) own(ctx context.Context, p Place) error {
	if c.User == "" {
		return nil
	}
	if done, err := p.Exists(ctx, path.Join(c.Dir, ".git/errand/ready")); err != nil || done {
		return err
	}
	out, code, err := p.Run(ctx, Command{Args: []string{"/bin/sh", "-c", "mkdir -p -- " + quote(c.Dir) + " && chown -R -- " + quote(c.User) + " " + quote(c.Dir)}, Dir: "/"})
	return cmp.Or(err, ended(out, code))
}

// refsFile is where the mirror's refs are for the script to take from, relative
// to c.etc.
func (c Checkout) refsFile() string { return "errand/refs-" + Name(c.URL) }

// system gives the files that are the machine's, not the repository's: git's
// settings beside those that are there. Paths are relative to c.etc.
func (c Checkout) system(settings string) []File {
	name := "git-" + Name(c.URL)
	files := []File{{Path: "errand/" + name, Data: c.systemConfig()}}
	if include := "\n[include]\n\tpath = " + path.Join(c.etc, "errand", name) + "\n"; !strings.Contains(settings, include) {
		files = append(files, File{Path: path.Base(c.settings()), Data: settings + include})
	}
	return files
}

// fresh makes the checkout where there is no repository: files, and one git.
// Where something was put aside, git does not see it if it is in the tree.
func (r *Mirror) fresh(ctx context.Context, c Checkout, p Place, system []File, refs string, aside bool) error {
	first, later, err := r.skeleton(c, refs)
	if err != nil {
		return err
	}
	if aside {
		first = slices.Insert(first, 0, File{Path: ".git/info/exclude", Data: "/.git-before-errand\n"})
	}
	g, writing := errgroup.WithContext(ctx)
	g.Go(func() error { return p.Write(writing, c.etc, system) })
	g.Go(func() error { return p.Write(writing, c.Dir, first) })
	if err := g.Wait(); err != nil {
		return err
	}
	g, beside := errgroup.WithContext(ctx)
	g.Go(func() error { return p.Write(beside, c.Dir, later) })
	quiet := []string{"git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"}
	// The branch is written after all files: where it is, the tree is whole.
	git := append(quiet, "reset", "-q", "--hard", c.Commit)
	if c.Branch == "" {
		git = append(quiet, "checkout", "-q", "-f", "--detach", c.Commit)
	}
	g.Go(func() error {
		out, code, err := p.Run(beside, c.command(git...))
		return cmp.Or(err, ended(out, code))
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return p.Write(ctx, c.Dir, []File{{Path: ".git/errand/ready", Data: c.goal() + "\n"}})
}

// goal is what .git/errand/ready holds once the checkout is whole.
func (c Checkout) goal() string {
	if c.Branch == "" {
		return "commit " + c.Commit
	}
	return "branch " + c.Branch
}

// unborn is what HEAD names before the tree is there.
func (c Checkout) unborn() string { return "refs/heads/" + cmp.Or(c.Branch, "errand/none") }

// skeleton gives what is in .git beside what git writes. It reads the first files
// to check a commit out, and HEAD is the last of those: without it there is no
// repository. The later ones it needs only after that.
func (r *Mirror) skeleton(c Checkout, refs string) (first, later []File, err error) {
	head, err := os.ReadFile(filepath.Join(r.dir, "HEAD"))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the mirror of %s: %w", r.url, err)
	}
	// The remote itself may be a clone whose history is cut off.
	shallow, err := os.ReadFile(filepath.Join(r.dir, "shallow"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("reading the mirror of %s: %w", r.url, err)
	}
	first = []File{
		{Path: ".git/config", Data: c.repositoryConfig()},
		{Path: ".git/objects/info/alternates", Data: path.Join(c.Mirror, "objects") + "\n"},
		{Path: ".git/packed-refs", Data: refs},
		// Loose, as git has it; and so there is a directory of refs.
		{Path: ".git/refs/remotes/origin/HEAD", Data: "ref: refs/remotes/origin/" + strings.TrimPrefix(strings.TrimSpace(string(head)), "ref: refs/heads/") + "\n"},
	}
	if len(shallow) > 0 {
		first = append(first, File{Path: ".git/shallow", Data: string(shallow)})
	}
	first = append(first, File{Path: ".git/HEAD", Data: "ref: " + c.unborn() + "\n"})
	later = []File{
		{Path: ".git/hooks/prepare-commit-msg", Data: hook, Executable: true},
		{Path: ".git/errand/config", Data: c.ownConfig()},
	}
	if base := c.base(); base != "" {
		later = append(later, File{Path: ".git/refs/heads/" + base, Data: c.Commit + "\n"}, File{Path: ".git/errand/base", Data: base + " " + c.Commit + "\n"})
	}
	return first, append(later, File{Path: ".git/errand/url", Data: c.URL + "\n"}), nil
}

// ours is the first line of the file of refs that we write. git writes its own
// when it changes that file, so ours says that nobody has.
const ours = "# pack-refs with: peeled fully-peeled sorted errand"

// originRefs gives the mirror's branches, as origin's, and tags, in the form of
// packed-refs.
func (r *Mirror) originRefs() (string, error) {
	packed, err := os.ReadFile(filepath.Join(r.dir, "packed-refs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the mirror of %s: %w", r.url, err)
	}
	var b strings.Builder
	b.WriteString(ours + "\n")
	taken := false // the line before, which a peeled tag belongs to
	for line := range strings.Lines(string(packed)) {
		id, name, _ := strings.Cut(line, " ")
		branch, isBranch := strings.CutPrefix(name, "refs/heads/")
		taken = isBranch || strings.HasPrefix(name, "refs/tags/") || taken && strings.HasPrefix(line, "^")
		if isBranch {
			line = id + " refs/remotes/origin/" + branch
		}
		if taken {
			b.WriteString(line)
		}
	}
	return b.String(), nil
}

// script is what brings a repository that is there to where it should be.
func (c Checkout) script() string {
	return assignments([]string{
		"url", c.URL,
		"mirror", c.Mirror,
		"refs", path.Join(c.etc, c.refsFile()),
		"dir", c.Dir,
		"commit", c.Commit,
		"branch", c.Branch,
		"base", c.base(),
		"goal", c.goal(),
		"unborn", c.unborn(),
		"ours", ours,
		"ownconfig", c.ownConfig(),
		"hook", hook,
	}) + checkoutScript
}

func (c Checkout) filled() Checkout {
	if c.Mirror == "" {
		c.Mirror = MirrorTarget(c.URL)
	}
	if c.Dir == "" {
		c.Dir = "/workspace"
	}
	if c.etc == "" {
		c.etc = "/etc"
	}
	if c.User == "0" || c.User == "root" {
		c.User = ""
	}
	c.Author, c.CoAuthor = c.Author.plain(), c.CoAuthor.plain()
	if c.Author.Name == "" {
		c.Author.Name = "Errand"
	}
	if c.Author.Email == "" {
		c.Author.Email = "errand@localhost"
	}
	return c
}

// base is BaseBranch where a local branch of that name can stand beside Branch.
func (c Checkout) base() string {
	if c.BaseBranch == c.Branch || strings.HasPrefix(c.Branch, c.BaseBranch+"/") || strings.HasPrefix(c.BaseBranch, c.Branch+"/") && c.Branch != "" {
		return ""
	}
	return c.BaseBranch
}

// systemConfig holds for the whole machine. The objects of a repository are in
// a mirror that belongs to somebody else, its files may be the root's or a
// user's, and after a snapshot or a wake inode numbers differ.
func (c Checkout) systemConfig() string {
	var f configFile
	f.section("safe", "", "directory", "*")
	f.section("user", "", "name", c.Author.Name, "email", c.Author.Email)
	f.section("commit", "", "gpgSign", "false")
	f.section("tag", "", "gpgSign", "false")
	f.section("push", "", "default", "current", "autoSetupRemote", "true")
	f.section("pull", "", "rebase", "false")
	f.section("core", "", "checkStat", "minimal", "trustctime", "false")
	f.section("gc", "", "auto", "0")
	f.section("maintenance", "", "auto", "false")
	f.section("advice", "", "detachedHead", "false")
	if c.BrokerURL != "" {
		f.section("url", c.BrokerURL, "insteadOf", c.URL)
	}
	return "# Written by Errand\n" + f.String()
}

func (c Checkout) repositoryConfig() string {
	var f configFile
	if len(c.Commit) == 64 {
		f.section("core", "", "repositoryFormatVersion", "1", "fileMode", "true", "bare", "false", "logAllRefUpdates", "true")
		f.section("extensions", "", "objectFormat", "sha256")
	} else {
		f.section("core", "", "repositoryFormatVersion", "0", "fileMode", "true", "bare", "false", "logAllRefUpdates", "true")
	}
	f.section("remote", "origin", "url", c.URL, "fetch", "+refs/heads/*:refs/remotes/origin/*")
	f.section("include", "", "path", "errand/config")
	return f.String()
}

// ownConfig is .git/errand/config, which changes with the agent. It takes in the
// machine's settings too, for a git that was built to look elsewhere for them
// and over what a user's own settings say.
func (c Checkout) ownConfig() string {
	var f configFile
	if c.BaseBranch != "" {
		f.section("branch", c.BaseBranch, "remote", "origin", "merge", "refs/heads/"+c.BaseBranch)
	}
	if trailer := c.CoAuthor.trailer(); trailer != "" {
		f.section("errand", "", "coAuthor", trailer)
	}
	f.section("include", "", "path", path.Join(c.etc, "errand", "git-"+Name(c.URL)))
	return f.String()
}

// hook is prepare-commit-msg. Whom to name is in ownConfig, so that a build's
// disk has the hook already.
const hook = `#!/bin/sh
# Written by Errand: names who asked for the work. A hook that was here before
# is prepare-commit-msg.own.
if [ -x "$0.own" ]; then "$0.own" "$@" || exit; fi
trailer=$(git config errand.coAuthor) || exit 0
exec git interpret-trailers --in-place --if-exists addIfDifferent --trailer "$trailer" "$1"
`

// trailer is "" for nobody.
func (p Person) trailer() string {
	p = p.plain()
	if p.Name == "" {
		return ""
	}
	return "Co-authored-by: " + p.Name + " <" + p.Email + ">"
}

// plain leaves out what git would not take in an author or would take for
// something else.
func (p Person) plain() Person {
	clean := func(s string) string {
		s = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) || r == '<' || r == '>' || r == unicode.ReplacementChar {
				return ' '
			}
			return r
		}, s)
		return strings.Trim(strings.Join(strings.Fields(s), " "), ".,:;\"' ")
	}
	return Person{clean(p.Name), strings.ReplaceAll(clean(p.Email), " ", "")}
}

// configFile is text in the form of git's configuration.
type configFile struct{ strings.Builder }

// section adds a section with its keys and values in turn.
func (f *configFile) section(name, sub string, kv ...string) {
	f.WriteString("[" + name)
	if sub != "" {
		f.WriteString(` "` + configEscape.Replace(sub) + `"`)
	}
	f.WriteString("]\n")
	for i := 0; i < len(kv); i += 2 {
		f.WriteString("\t" + kv[i] + ` = "` + configEscape.Replace(kv[i+1]) + "\"\n")
	}
}

var configEscape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// quote makes of s one word of sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// assignments sets shell variables: names and values in turn.
func assignments(kv []string) string {
	var b strings.Builder
	for i := 0; i < len(kv); i += 2 {
		b.WriteString(kv[i] + "=" + quote(strings.ReplaceAll(kv[i+1], "\x00", "")) + "\n")
	}
	return b.String()
}
