package local

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/client"
)

// Pull says what is brought here.
type Pull struct {
	Agent errand.AgentID
	// As is the local branch; "" is the agent's name for it.
	As string
	// Uncommitted brings uncommitted work too, into the working tree, on the branch.
	Uncommitted bool
	// Switch checks the branch out; Uncommitted does too.
	Switch bool
}

// Pulled is what was brought.
type Pulled struct {
	Agent      errand.AgentID `json:"agent"`
	Branch     string         `json:"branch"` // here
	Commit     string         `json:"commit"` // that the agent's branch is at
	Before     string         `json:"before"` // where the local branch was; "" for a new one
	CheckedOut bool           `json:"checkedOut"`
	Ahead      bool           `json:"ahead"` // the local branch has commits that the agent's lacks
	Files      []string       `json:"files"` // of uncommitted work that were changed here
}

// Pull brings an agent's branch here and wakes its machine where it sleeps. The
// local branch is moved forward only: where both ends have commits of their own it
// is a Conflict, and what was fetched is at FETCH_HEAD.
func (r *Repository) Pull(ctx context.Context, c *client.Client, p Pull) (Pulled, error) {
	agent, there, err := r.meet(ctx, c, p.Agent)
	if err != nil {
		return Pulled{}, err
	}
	done := Pulled{Agent: p.Agent, Branch: agent, Files: []string{}}
	if p.As != "" {
		done.Branch = p.As
	}
	if done.Commit, err = commit(ctx, there, "refs/heads/"+agent); err != nil {
		return done, err
	}
	if done.Commit == "" {
		return done, errand.Errorf(errand.NotFound, "branch_not_found", "The machine has no branch %s. See what is there: errand exec %s -- git branch", agent, p.Agent)
	}
	work := done.Commit
	if p.Uncommitted {
		if err := on(ctx, there, agent); err != nil {
			return done, err
		}
		if work, done.Commit, err = snapshot(ctx, there, "Uncommitted work of agent "+string(p.Agent)); err != nil {
			return done, err
		}
	}
	args := []string{"-c", "fetch.recurseSubmodules=false", "fetch", "--no-tags", "--no-auto-maintenance", "--refmap="}
	if r.Progress == nil {
		args = append(args, "--quiet")
	}
	args = append(args, "ssh://"+string(p.Agent)+"/workspace", done.Commit)
	if work != done.Commit {
		args = append(args, work)
	}
	if err := r.carry(ctx, nil, args...); err != nil {
		return done, carried("Fetching from the agent's machine", err)
	}
	known := r.known(ctx, p.Agent)
	if err := r.move(ctx, &done, known, p.Switch || p.Uncommitted); err != nil {
		return done, err
	}
	if p.Uncommitted {
		if done.Files, err = lay(ctx, r, done.Commit, work, known); err != nil {
			return done, err
		}
	}
	return done, r.remember(ctx, p.Agent, work)
}

// meet finds the agent's branch, its repository in the machine, and that this is
// the same repository.
func (r *Repository) meet(ctx context.Context, c *client.Client, id errand.AgentID) (branch string, there machine, err error) {
	agent, err := c.Agent(ctx, id)
	if err != nil {
		return "", there, err
	}
	if agent.Branch == "" || len(agent.Repos) == 0 {
		return "", there, errand.Errorf(errand.Conflict, "no_repository", "Agent %s works on no repository, so it has no branch.", id)
	}
	if agent.Base == "" {
		return "", there, errand.Errorf(errand.Conflict, "no_checkout", "Agent %s has no repository checked out yet. Try again when it is at work: errand logs -f %s", id, id)
	}
	here, err := commit(ctx, r, agent.Base)
	if err == nil && here == "" && !r.hasRemote(ctx, agent.Repos[0].URL) {
		err = errand.Errorf(errand.Invalid, "another_repository", "%s is another repository than the agent's, which is a clone of %s. Change into such a clone first.", r.dir, agent.Repos[0].URL)
	}
	return agent.Branch, machine{client: c, agent: id}, err
}

func (r *Repository) hasRemote(ctx context.Context, url string) bool {
	out, err := r.line(ctx, "remote", "-v")
	if err != nil {
		return false
	}
	for l := range strings.Lines(out) {
		if f := strings.Fields(l); len(f) > 1 && sameURL(f[1], url) {
			return true
		}
	}
	return false
}

var userinfo = regexp.MustCompile(`^(https?://)[^/@]*@`)

func sameURL(a, b string) bool {
	plain := func(u string) string {
		return strings.TrimSuffix(strings.TrimSuffix(userinfo.ReplaceAllString(u, "$1"), "/"), ".git")
	}
	return plain(a) == plain(b)
}

// on refuses a tree that stands on another branch.
func on(ctx context.Context, t tree, want string) error {
	at, err := branch(ctx, t)
	if err == nil && at != want {
		if at == "" {
			at = "no branch"
		}
		err = errand.Errorf(errand.Conflict, "another_branch", "%s%s working tree is on %s, not on %s. Switch it first: git switch %s", strings.ToUpper(t.whose()[:1]), t.whose()[1:], at, want, want)
	}
	return err
}

// move makes the local branch, or moves it forward.
func (r *Repository) move(ctx context.Context, p *Pulled, known string, checkOut bool) error {
	ref := "refs/heads/" + p.Branch
	at, err := branch(ctx, r)
	if err != nil {
		return err
	}
	if p.Before, err = commit(ctx, r, ref); err != nil {
		return err
	}
	if p.Before == "" {
		if _, err := r.git(ctx, nil, "", "update-ref", "-m", "errand pull", ref, p.Commit, ""); err != nil {
			return fmt.Errorf("making the branch %s: %w", p.Branch, err)
		}
	}
	if checkOut && at != p.Branch {
		if _, err := r.git(ctx, nil, "", "switch", "--quiet", "--no-guess", p.Branch); err != nil {
			return declined(err, "The branch %s is here, but cannot be checked out", p.Branch)
		}
		at = p.Branch
	}
	p.CheckedOut = at == p.Branch
	if p.Before == "" || p.Before == p.Commit {
		return nil
	}
	if p.Ahead, err = within(ctx, r, p.Commit, p.Before); err != nil || p.Ahead {
		return err
	}
	forward, err := within(ctx, r, p.Before, p.Commit)
	switch {
	case err != nil:
		return err
	case !forward:
		return errand.Errorf(errand.Conflict, "diverged", "The branch %s has commits here that the agent's lacks, and the agent's has others. What the agent has is at FETCH_HEAD (%.12s): join them with git merge %.12s on that branch, or take it under another name with --as.", p.Branch, p.Commit, p.Commit)
	case p.CheckedOut:
		return advance(ctx, r, p.Commit, known)
	}
	if out, err := r.git(ctx, nil, "", "worktree", "list", "--porcelain"); err != nil || strings.Contains(out+"\n", "\nbranch "+ref+"\n") {
		if err == nil {
			err = errand.Errorf(errand.Conflict, "checked_out", "The branch %s is checked out in another working tree of this repository. Pull there.", p.Branch)
		}
		return err
	}
	_, err = r.git(ctx, nil, "", "update-ref", "-m", "errand pull", ref, p.Commit, p.Before)
	return err
}

// declined makes an error of what git would not do, in git's words.
func declined(err error, format string, args ...any) error {
	f := (*failure)(nil)
	if !errors.As(err, &f) {
		return err
	}
	e := errand.Errorf(errand.Conflict, "git_declined", format+". git says why:", args...)
	e.Output = f.said
	return e
}

// carried is declined for what went over the bridge: it has said itself what is
// wrong there.
func carried(what string, err error) error {
	f := (*failure)(nil)
	if !errors.As(err, &f) {
		return err
	}
	for l := range strings.Lines(f.said) {
		if said, ok := strings.CutPrefix(l, bridgeMark); ok {
			return errand.Errorf(errand.Unavailable, "git_failed", "%s", strings.TrimSpace(said))
		}
	}
	return declined(err, "%s failed", what)
}

// bridgeMark begins a line in which the bridge says what went wrong.
const bridgeMark = "errand: "

func memory(id errand.AgentID) string { return "refs/errand/" + string(id) }

// known gives what last went between this repository and the agent's, "" for
// nothing.
func (r *Repository) known(ctx context.Context, id errand.AgentID) string {
	at, err := commit(ctx, r, memory(id))
	if err != nil {
		return ""
	}
	return at
}

func (r *Repository) remember(ctx context.Context, id errand.AgentID, at string) error {
	_, err := r.git(ctx, nil, "", "update-ref", memory(id), at)
	return err
}
