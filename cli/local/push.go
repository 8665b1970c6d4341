package local

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/client"
)

// Push says what is sent to an agent's machine.
type Push struct {
	Agent errand.AgentID
	// From is what is sent: a branch or commit; "" is the local branch of the
	// agent's name.
	From string
	// Uncommitted sends uncommitted work too, which must be on what is sent.
	Uncommitted bool
}

// Pushed is what was sent.
type Pushed struct {
	Agent  errand.AgentID `json:"agent"`
	Branch string         `json:"branch"` // the agent's
	Commit string         `json:"commit"` // that it is at now
	Before string         `json:"before"` // that it was at
	Files  []string       `json:"files"`  // of uncommitted work that were changed there
}

// incoming is where a push lands in the machine's repository. There is one; what
// was killed before it was removed is overwritten by the next.
const incoming = "refs/errand/incoming"

// Push brings local work into the working tree of an agent's machine, which is
// woken where it sleeps. Where that would lose work of the agent it is a Conflict,
// and nothing there is changed.
func (r *Repository) Push(ctx context.Context, c *client.Client, p Push) (Pushed, error) {
	agent, there, err := r.meet(ctx, c, p.Agent)
	if err != nil {
		return Pushed{}, err
	}
	done := Pushed{Agent: p.Agent, Branch: agent, Files: []string{}}
	from := p.From
	if from == "" {
		from = "refs/heads/" + agent
	}
	if done.Commit, err = commit(ctx, r, from); err != nil {
		return done, err
	}
	if done.Commit == "" {
		if p.From != "" {
			return done, errand.Errorf(errand.NotFound, "commit_not_found", "There is no commit %q here.", p.From)
		}
		return done, errand.Errorf(errand.NotFound, "branch_not_found", "There is no branch %s here. Bring it first: errand pull %s. Or say what is to be sent: errand push %s BRANCH", agent, p.Agent, p.Agent)
	}
	work := done.Commit
	if p.Uncommitted {
		var head string
		if work, head, err = snapshot(ctx, r, "Uncommitted work"); err != nil {
			return done, err
		}
		if head != done.Commit {
			return done, errand.Errorf(errand.Conflict, "another_branch", "Your working tree is not on what is sent, so its uncommitted work does not belong to it. Switch first: git switch %s", agent)
		}
	}
	return done, r.send(ctx, there, p, &done, work)
}

// send carries the objects and then changes the machine's tree.
func (r *Repository) send(ctx context.Context, there machine, p Push, done *Pushed, work string) (err error) {
	if err := on(ctx, there, done.Branch); err != nil {
		return err
	}
	if done.Before, err = commit(ctx, there, "HEAD"); err != nil {
		return err
	}
	args := []string{"push", "--force", "--no-verify", "--no-signed", "--recurse-submodules=no", "--no-follow-tags"}
	if r.Progress == nil {
		args = append(args, "--quiet")
	}
	if err := r.carry(ctx, nil, append(args, "ssh://"+string(p.Agent)+"/workspace", work+":"+incoming)...); err != nil {
		return carried("Sending to the agent's machine", err)
	}
	known := r.known(ctx, p.Agent)
	err = r.arrive(ctx, there, done, work, known)
	if _, gone := there.git(ctx, nil, "", "update-ref", "-d", incoming); err == nil {
		err = gone
	}
	if err != nil {
		return err
	}
	return r.remember(ctx, p.Agent, work)
}

// arrive moves the machine's branch and lays the uncommitted work.
func (r *Repository) arrive(ctx context.Context, there machine, done *Pushed, work, known string) error {
	behind, err := within(ctx, there, done.Commit, done.Before)
	if err != nil {
		return err
	}
	if !behind {
		forward, err := within(ctx, there, done.Before, done.Commit)
		if err != nil {
			return err
		}
		if !forward {
			return errand.Errorf(errand.Conflict, "diverged", "The agent has commits on %s that you lack, so yours cannot go on top. Bring them first (errand pull %s), join them, and push again.", done.Branch, done.Agent)
		}
		if err := advance(ctx, there, done.Commit, known); err != nil {
			return err
		}
	} else {
		done.Commit, err = done.Before, nil
	}
	if work == "" || err != nil {
		return err
	}
	base, err := line(ctx, there, "merge-base", work, done.Commit)
	if err != nil {
		return err
	}
	files, err := lay(ctx, there, base, work, known)
	if files != nil {
		done.Files = files
	}
	return err
}
