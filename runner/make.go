package runner

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/journal"
)

// Make makes an agent that has no run: a machine for those who come to visit. It
// touches no machine; the first visit makes it. The request's prompt and mode
// are not looked at; its name is needed, and with an ID that is there already
// that agent is given as it is.
func (r *Runner) Make(ctx context.Context, caller errand.Caller, req StartRequest) (errand.Agent, error) {
	if req.ID != "" {
		agent, err := r.Store.Agent(ctx, req.ID)
		if errand.KindOf(err) != errand.NotFound {
			return agent, err
		}
	}
	agent, err := r.newAgent(ctx, caller, req)
	if err != nil {
		return errand.Agent{}, err
	}
	vars, err := r.Vault.SealVariables(ctx, agent.ID, req.EnvVars)
	if err != nil {
		return errand.Agent{}, err
	}
	agent.Status = errand.AgentIdle
	_, err = r.Journal.Decide(ctx, func(t *journal.Tx) error { return insert(t, &agent, vars) })
	return agent, err
}

// Wake brings the agent's machine up, ready for work, and returns when it is.
func (r *Runner) Wake(ctx context.Context, _ errand.Caller, id errand.AgentID) error {
	p, err := r.visit(ctx, id)
	if err == nil {
		p.release()
	}
	return err
}

// WriteFile writes a file into the agent's machine, waking it if it sleeps. The
// path is from the repository's root; directories are made.
func (r *Runner) WriteFile(ctx context.Context, _ errand.Caller, id errand.AgentID, path string, data []byte) error {
	p, err := r.visit(ctx, id)
	if err != nil {
		return err
	}
	defer p.release()
	return r.writeFile(ctx, p, path, data)
}

func (r *Runner) writeFile(ctx context.Context, p *place, path string, data []byte) error {
	s := p.now()
	if s.line == nil {
		return guest.ErrRebooted
	}
	op := "person." + uuid.NewString()
	if _, err := s.line.WriteFile(ctx, op, root, path, data, 0o644); err != nil {
		return fmt.Errorf("writing %s into the machine: %w", path, err)
	}
	return s.line.Forget(ctx, op)
}

// Publication is a file that goes onto an agent's branch.
type Publication struct {
	Path  string // from the repository's root
	Data  []byte
	Title string // of the commit
	Body  string // below it; may be ""
}

// Publish writes a file into the agent's checkout, commits it with whatever else
// is not committed there, and pushes the agent's branch. It gives the commit that
// the branch is on then. Where neither this nor an earlier commit adds anything
// to the base it is a Conflict, nothing_to_commit. It can be done again.
func (r *Runner) Publish(ctx context.Context, caller errand.Caller, id errand.AgentID, file Publication) (commit string, err error) {
	p, err := r.visit(ctx, id)
	if err != nil {
		return "", err
	}
	defer p.release()
	agent, err := r.Store.Agent(ctx, id)
	if err != nil {
		return "", err
	}
	if err := r.writeFile(ctx, p, file.Path, file.Data); err != nil {
		return "", err
	}
	settle := git.SettleScript(git.Settle{Dir: root, Branch: agent.Branch, Title: file.Title, Body: file.Body, CoAuthor: git.Person{Name: caller.Name, Email: caller.Email}})
	settled, err := r.script(ctx, p, guest.Command{ID: "publish." + uuid.NewString(), Args: []string{"sh", "-c", settle}, Limit: 5 * time.Minute}, func(output string, exit guest.Exit) error {
		return r.failed("commit_failed", file.Path+" could not be committed", "Write it by hand, or as a patch.", output, exit)
	})
	if err != nil {
		return "", err
	}
	if settled.Commit == nil && settled.Head == agent.Base {
		return "", notCommitted(file.Path, settled.Notices)
	}
	pushed, err := r.script(ctx, p, guest.Command{ID: "publish." + uuid.NewString(), Args: []string{"sh", "-c", git.PushScript(root, agent.Branch)}, Limit: 15 * time.Minute}, func(output string, exit guest.Exit) error {
		return r.failed("repository_access", "The branch "+agent.Branch+" could not be pushed", "Give the server access, or take the file as a patch.", output, exit)
	})
	if err != nil {
		return "", err
	}
	return pushed.Head, r.notePushed(ctx, id, "", pushed)
}

// notCommitted says why a file that was written is in no commit.
func notCommitted(path string, notices []string) error {
	if len(notices) > 0 {
		return errand.Errorf(errand.Conflict, "nothing_to_commit", "%s was not committed: %s", path, strings.Join(notices, " "))
	}
	return errand.Errorf(errand.Conflict, "nothing_to_commit", "There is nothing to commit: the repository has %s as it is, or its .gitignore leaves it out.", path)
}
