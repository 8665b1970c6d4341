package git

import (
	_ "embed"
	"path"
	"strings"
	"unicode"
)

// Person is an author as git writes one.
type Person struct {
	Name  string
	Email string
}

// Checkout says what a repository should look like inside a machine.
type Checkout struct {
	URL    string // clean; what origin is
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

var (
	//go:embed checkout_words.sh
	checkoutWords string
	//go:embed checkout_system.sh
	checkoutSystem string
	//go:embed checkout.sh
	checkoutScript string
)

// CheckoutScript is a POSIX sh script that makes the checkout in a machine. Run
// it as root, with git in the machine's PATH and the mirror shown at Mirror.
//
// It may be killed at any point and run again, and run on top of an earlier
// checkout, its own or one that came with the image: what git does not track
// (node_modules) stays, changed files stay unless another commit needs their
// place (then they are kept under refs/errand/set-aside; an untracked file in
// the way of a tracked one is replaced). Once it has finished for a branch,
// running it again changes no ref and no file of the tree.
//
// It leaves origin with the real URL (git in the machine is told by a system
// setting to go to the broker instead), remote branches and tags as the mirror
// has them, user.name and user.email, and a prepare-commit-msg hook for the
// co-author. A repository that brings its own hooks directory (core.hooksPath)
// does without that hook; SettleScript adds the trailer by itself.
//
// Lines on its standard output are notices for people; on failure the reason is
// on standard error and the exit code is not 0. Its cost does not depend on the
// length of history. Apart from the files it is four programs, and two where it
// only puts a branch on a build's disk; a shell and su more for a User.
func CheckoutScript(c Checkout) string {
	c = c.filled()
	vars := []string{
		"url", c.URL,
		"name", Name(c.URL),
		"mirror", c.Mirror,
		"dir", c.Dir,
		"commit", c.Commit,
		"branch", c.Branch,
		"base", c.base(),
		"user", c.User,
		"etc", c.etc,
		"gitconfig", c.systemConfig(),
		"repoconfig", c.repositoryConfig(),
		"ownconfig", c.ownConfig(),
		"hook", hook,
	}
	head := assignments(vars) + checkoutWords
	return head + checkoutSystem + "as_user " + quote(head+checkoutScript) + "\n"
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
	// The first line says whether the file is as it should be.
	return "# Written by Errand " + Name(f.String()) + "\n" + f.String()
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
