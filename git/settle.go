package git

import (
	_ "embed"
	"strconv"
	"strings"

	"github.com/errand-dev/errand"
)

// Settle says how a run's end is committed inside the machine.
type Settle struct {
	Dir      string // absolute, in the machine; "" is /workspace
	Branch   string // the agent's
	Title    string // of the commit, its first line; "" is "Work in progress"
	Body     string // below it; may be empty
	CoAuthor Person // who asked for the work; zero leaves the trailer out
	MaxFile  int64  // bytes; larger files are left out with a notice; 0 is 50 MiB
}

// Settled is what a SettleScript found and did.
type Settled struct {
	Commit  *errand.CommitData // nil when there was nothing to commit
	Head    string             // what HEAD is now; "" without a repository
	Branch  string             // what HEAD is on; "" when it is on none
	Notices []string           // sentences for people
}

//go:embed settle.sh
var settleScript string

// SettleScript is a POSIX sh script that commits what the agent left
// uncommitted. Run it in the machine as the owner of the checkout; read its
// standard output with ParseSettled. It respects .gitignore, leaves out files
// that are too large and repositories inside the repository, runs no hooks, and
// commits nothing while a merge with conflicts or a rebase is under way. With
// nothing to commit, and where there is no repository, it does nothing; it can
// be killed and run again.
func SettleScript(s Settle) string {
	if s.Dir == "" {
		s.Dir = "/workspace"
	}
	if s.MaxFile == 0 {
		s.MaxFile = 50 << 20
	}
	title := clipTitle(s.Title)
	message := title + "\n"
	if body := strings.TrimSpace(s.Body); body != "" {
		message += "\n" + body + "\n"
	}
	if trailer := s.CoAuthor.trailer(); trailer != "" {
		message += "\n" + trailer + "\n"
	}
	return assignments([]string{
		"dir", s.Dir,
		"message", message,
		"title", title,
		"max", strconv.FormatInt(s.MaxFile, 10),
		"bound", size(s.MaxFile),
	}) + settleScript
}

func size(bytes int64) string {
	if bytes < 1<<20 {
		return strconv.FormatInt(bytes, 10) + " bytes"
	}
	return strconv.FormatInt(bytes>>20, 10) + " MiB"
}

// clipTitle gives a commit's first line: at most 72 bytes, cut between words.
func clipTitle(title string) string {
	for line := range strings.Lines(title) {
		if line = oneLine(line); line != "" {
			title = line
			break
		}
	}
	title = oneLine(title)
	if title == "" {
		return "Work in progress"
	}
	if len(title) <= 72 {
		return title
	}
	cut := strings.ToValidUTF8(title[:70], "")
	if i := strings.LastIndexByte(cut, ' '); i > 40 {
		cut = cut[:i]
	}
	return cut + "…"
}

// ParseSettled reads what a SettleScript or a PushScript printed. It comes from
// the machine: what does not look right is left out.
func ParseSettled(output string) Settled {
	var s Settled
	for line := range strings.Lines(output) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "errand-notice":
			if len(s.Notices) < 50 && rest != "" {
				s.Notices = append(s.Notices, clipLine(rest))
			}
		case "errand-head":
			id, branch, _ := strings.Cut(rest, " ")
			if !hexID.MatchString(id) {
				continue
			}
			s.Head, s.Branch = id, ""
			if validRef(branch) {
				s.Branch = branch
			}
		case "errand-commit":
			f := strings.SplitN(rest, " ", 3)
			if len(f) == 3 && hexID.MatchString(f[0]) {
				files, _ := strconv.Atoi(f[1])
				s.Commit = &errand.CommitData{Commit: f[0], Files: files, Title: clipLine(f[2])}
			}
		}
	}
	return s
}

func clipLine(s string) string { return strings.ToValidUTF8(s[:min(len(s), 500)], "") }

//go:embed push.sh
var pushScript string

// PushScript is a POSIX sh script that pushes the agent's branch to origin,
// which in a machine is the broker. Run it as the owner of the checkout. Where
// the agent has left HEAD elsewhere, on top of its branch, that is what is
// pushed. Its exit code is git's: 0 also when there was nothing new; git's
// words are on standard error, and notices and the pushed commit (errand-head)
// on standard output, for ParseSettled.
func PushScript(dir, branch string) string {
	if dir == "" {
		dir = "/workspace"
	}
	return assignments([]string{"dir", dir, "branch", branch}) + pushScript
}
