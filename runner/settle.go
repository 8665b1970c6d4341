package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/journal"
)

// settle leaves what the agent did on its branch: commits what it left
// uncommitted and pushes. Both are harmless when done again.
func (r *Runner) settle(ctx context.Context, run errand.Run, p *place) error {
	agent, err := r.Store.Agent(ctx, run.Agent)
	if err != nil || len(agent.Repositories) == 0 || agent.Settings.Unpublished {
		return err
	}
	if err := r.phase(ctx, run, errand.PhaseCommit, "", func() (string, error) { return r.commit(ctx, agent, run, p) }); err != nil {
		return err
	}
	err = r.phase(ctx, run, errand.PhasePush, "", func() (string, error) { return r.push(ctx, agent, run, p) })
	if err != nil || !agent.Settings.AutoCreatePR {
		return err
	}
	_, err = r.tell(ctx, agent.ID, run.ID, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{
		Level: "warning", Text: "No pull request was opened: this server has no git host set up yet. The branch is pushed; open one from it.",
	}})
	return err
}

func (r *Runner) commit(ctx context.Context, agent errand.Agent, run errand.Run, p *place) (string, error) {
	script := git.SettleScript(git.Settle{
		Dir: root, Branch: agent.Branch, Title: title(run.Prompt.Text),
		CoAuthor: git.Person{Name: agent.Caller.Name, Email: agent.Caller.Email},
	})
	settled, err := r.script(ctx, p, guest.Command{ID: string(run.ID) + ".commit." + p.now().boot, Args: []string{"sh", "-c", script}, Limit: 5 * time.Minute}, func(output string, exit guest.Exit) error {
		return r.failed("commit_failed", "The agent's work could not be committed", "Its files are still in the machine; look with: errand exec "+string(run.Agent)+" -- git status", output, exit)
	})
	if err != nil {
		return "", err
	}
	note := "nothing was left uncommitted"
	var facts []errand.Fact
	if c := settled.Commit; c != nil {
		files := "1 file"
		if c.Files != 1 {
			files = fmt.Sprintf("%d files", c.Files)
		}
		note = fmt.Sprintf("%s as %.12s", files, c.Commit)
		told, err := r.toldCommit(ctx, run, c.Commit)
		if err != nil || told {
			return note, err
		}
		facts = append(facts, errand.Fact{Kind: errand.EventCommit, Data: *c})
	}
	_, err = r.tell(ctx, run.Agent, run.ID, append(facts, warnings(settled.Notices)...)...)
	return note, err
}

// warnings tells sentences for people.
func warnings(texts []string) []errand.Fact {
	var facts []errand.Fact
	for _, text := range texts {
		facts = append(facts, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Level: "warning", Text: text}})
	}
	return facts
}

// toldCommit says whether an earlier life of ours told of the commit: the
// command that made it answers the same when it is joined again.
func (r *Runner) toldCommit(ctx context.Context, run errand.Run, commit string) (bool, error) {
	events, err := r.Journal.All(ctx, run.Agent)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(events, func(e errand.Event) bool {
		var d errand.CommitData
		return e.Run == run.ID && e.Kind == errand.EventCommit && json.Unmarshal(e.Data, &d) == nil && d.Commit == commit
	}), nil
}

// push pushes the agent's branch if it has anything that the remote has not.
func (r *Runner) push(ctx context.Context, agent errand.Agent, run errand.Run, p *place) (string, error) {
	ends, err := r.ends(ctx, agent, run, p)
	onRemote := func(id string) bool { return id == agent.Base || id == agent.Pushed }
	if err != nil || len(ends) > 0 && !slices.ContainsFunc(ends, func(id string) bool { return !onRemote(id) }) {
		return "nothing to push", err
	}
	pushed, err := r.script(ctx, p, guest.Command{ID: string(run.ID) + ".push." + p.now().boot + "." + uuid.NewString()[:8], Args: []string{"sh", "-c", git.PushScript(root, agent.Branch)}, Limit: 15 * time.Minute}, func(output string, exit guest.Exit) error {
		if why, err := r.secretInPush(ctx, run, ends); err != nil || why != "" {
			return cmp.Or(err, r.unpushable(agent, why, output, exit))
		}
		return r.failed("repository_access", "The branch "+agent.Branch+" could not be pushed",
			"The commits are safe in the agent's machine. Once the cause is mended, any follow-up pushes them: errand send "+string(agent.ID)+" push", output, exit)
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%.12s to %s", pushed.Head, agent.Branch), r.notePushed(ctx, agent.ID, run.ID, pushed)
}

// secretInPush says where the broker found a secret in the run's last push of
// one of these commits; "" if that is not why it was refused.
func (r *Runner) secretInPush(ctx context.Context, run errand.Run, ends []string) (string, error) {
	events, err := r.Journal.All(ctx, run.Agent)
	if err != nil {
		return "", err
	}
	for _, e := range slices.Backward(events) {
		if e.Run != run.ID || e.Kind != errand.EventPush {
			continue
		}
		var d errand.PushData
		if err := json.Unmarshal(e.Data, &d); err != nil || !slices.Contains(ends, d.New) || d.Code != errand.SecretInPush {
			return "", err
		}
		return d.Refused, nil
	}
	return "", nil
}

// unpushable is the error of a run whose commits hold a secret.
func (r *Runner) unpushable(agent errand.Agent, why, output string, exit guest.Exit) error {
	e := errand.Errorf(errand.Invalid, errand.SecretInPush,
		"The branch %s was not pushed: %s. The commits are in the agent's machine only; the output says from where they must be made anew. Have the agent do it: errand send %s \"Make your commits anew without the secret, then push\"", agent.Branch, why, agent.ID)
	e.Output, e.ExitCode = r.clipTail(output), &exit.Code
	return e
}

// notePushed tells a push's notices and notes what the remote has, unless the
// broker did: a server that was killed between the two knows it from git alone.
func (r *Runner) notePushed(ctx context.Context, id errand.AgentID, run errand.RunID, pushed git.Settled) error {
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, id)
		if err != nil {
			return err
		}
		facts := warnings(pushed.Notices)
		if pushed.Head != "" && agent.Pushed != pushed.Head {
			agent.Pushed = pushed.Head
			if err := t.UpdateAgent(agent); err != nil {
				return err
			}
			facts = append(facts, errand.Fact{Kind: errand.EventAgentChanged, Data: errand.AgentChanged{Pushed: pushed.Head}})
		}
		return t.Tell(id, run, facts...)
	})
	return err
}

// ends gives the commits that the checkout and the agent's branch are on; nothing
// for one that is not there. PushScript pushes one of them.
func (r *Runner) ends(ctx context.Context, agent errand.Agent, run errand.Run, p *place) ([]string, error) {
	const script = `for at in HEAD "refs/heads/$1"; do git rev-parse -q --verify "$at"; done`
	var out strings.Builder
	_, err := r.inside(ctx, p, guest.Command{ID: string(run.ID) + ".ends." + uuid.NewString()[:8], Args: []string{"sh", "-c", script, "ends", agent.Branch}, Dir: root, Limit: time.Minute},
		func(o guest.Output) {
			if !o.Stderr {
				out.Write(o.Data)
			}
		})
	return strings.Fields(out.String()), err
}

// script runs one of git's scripts in the machine and reads what it printed.
// refused makes the error of an exit code that is not 0.
func (r *Runner) script(ctx context.Context, p *place, c guest.Command, refused func(output string, exit guest.Exit) error) (git.Settled, error) {
	var words, all strings.Builder
	c.Dir = root
	exit, err := r.inside(ctx, p, c, func(o guest.Output) {
		all.Write(o.Data)
		if !o.Stderr {
			words.Write(o.Data)
		}
	})
	if err != nil {
		return git.Settled{}, err
	}
	if exit.Code != 0 {
		return git.Settled{}, refused(all.String(), exit)
	}
	return git.ParseSettled(words.String()), nil
}

// insideBound is how much a command of ours may print in the machine, in bytes.
const insideBound = 8 << 20

// inside runs a command of ours in the machine, as the environment's user, to
// its end, unless it prints more than such a command does. It is not run twice
// for one id.
func (r *Runner) inside(ctx context.Context, p *place, c guest.Command, out func(guest.Output)) (guest.Exit, error) {
	s := p.now()
	if s.line == nil {
		return guest.Exit{}, guest.ErrRebooted
	}
	c.User = s.environment.User
	exit, err := s.line.RunBounded(ctx, c, insideBound, out)
	if errors.Is(err, guest.ErrTooLarge) {
		return exit, errand.Errorf(errand.Unavailable, "output_too_large",
			"%s in the machine was stopped: it printed more than %d MiB. See what it is there, then send a follow-up: errand exec %s -- sh -c 'type git; git status'", c.Args[0], insideBound>>20, p.agent)
	}
	return exit, err
}

// failed is the error of a command of ours in the machine.
func (r *Runner) failed(code, what, next, output string, exit guest.Exit) *errand.Error {
	how := fmt.Sprintf("git ended with exit code %d", exit.Code)
	if exit.TimedOut {
		how = "git did not end in time"
	}
	e := errand.Errorf(errand.Unavailable, code, "%s: %s. %s", what, how, next)
	e.Output, e.ExitCode = r.clipTail(output), &exit.Code
	return e
}

// outputBound is how much of a command's output an error carries.
const outputBound = 16 << 10

// clipTail gives the end of what a machine printed, without secrets: what is cut
// through is found no more.
func (r *Runner) clipTail(s string) string {
	s = r.Redactor.String(s)
	if len(s) <= outputBound {
		return s
	}
	return "…" + strings.ToValidUTF8(s[len(s)-outputBound:], "")
}
