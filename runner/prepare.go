package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

// author is whom an agent's commits are by; the caller is their co-author.
var author = git.Person{Name: "Errand", Email: "errand@localhost"}

// setup is what decides an agent's machine.
type setup struct {
	agent    errand.Agent
	mirror   *git.Mirror // nil without a repository
	resolved build.Resolved
	policy   egress.Policy
	opened   vault.Opened // the agent's secrets, once unlocked
}

// setup reads what is known of the agent's environment, without network.
func (r *Runner) setup(ctx context.Context, agent errand.Agent) (setup, error) {
	s := setup{agent: agent, policy: r.Defaults.Egress}
	if len(agent.Repositories) > 0 && agent.Base != "" {
		mirror, err := r.Mirrors.Open(ctx, agent.Repositories[0].URL)
		if err != nil {
			return s, err
		}
		s.mirror = mirror
	}
	resolved, err := r.Builds.Resolve(ctx, agent, s.mirror)
	if err != nil {
		return s, err
	}
	s.resolved, s.policy = resolved, build.Narrow(s.policy, resolved.File)
	return s, nil
}

// prepare brings the place's machine up. The caller holds p.preparing.
func (r *Runner) prepare(ctx context.Context, p *place, run errand.RunID) error {
	agent, err := r.Store.Agent(ctx, p.agent)
	if err != nil {
		return err
	}
	if agent, err = r.resolveBase(ctx, agent, run); err != nil {
		return err
	}
	s, err := r.setup(ctx, agent)
	if err != nil {
		return err
	}
	onDefault := func() (bool, error) { return onDefaultBranch(ctx, agent, s.mirror) }
	if agent, s.resolved, err = r.Builds.Settle(ctx, agent, run, s.resolved, onDefault); err != nil {
		return err
	}
	s.agent = agent
	if err := r.warn(ctx, s, run); err != nil {
		return err
	}
	if err := r.unlockFor(ctx, p, &s, run); err != nil {
		return err
	}
	if err := r.room(ctx, p.agent); err != nil {
		return err
	}
	if err := r.wantMachine(ctx, p); err != nil {
		return err
	}
	progress, err := r.progress(ctx, agent.ID, run)
	if err != nil {
		return err
	}
	within := &build.Within{Builds: r.Builds, Agent: agent, Run: run, Resolved: s.resolved}
	ready, err := environment.Prepare(ctx, environment.Preparation{
		Driver: r.Driver, Machine: machineID(agent.ID),
		Spec:        machine.Spec{Engine: orDefault(agent.Settings.Engine, r.Defaults.Engine), Limits: agent.Settings.Limits},
		Environment: &s.resolved.File, Image: agent.Settings.Image, DefaultImage: r.Defaults.Image,
		Mirror: s.mirror, Checkout: checkout(s), Env: s.opened.Env, Keyed: r.keyed(s.opened),
		BuildSecrets: s.opened.Build, Redactor: r.Redactor, Guarded: p.finder(),
		Open: func(ctx context.Context, m machine.Machine) (*guest.Line, error) {
			return r.open(ctx, p, m, run, s.policy)
		},
		Closed: p.close,
		AttachBuild: func(ctx context.Context, link *machine.Link) (io.Closer, error) {
			return r.Gate.JoinLink(ctx, link, s.policy, r.connections(ctx, agent.ID))
		},
		Record: func(ctx context.Context, facts ...errand.Fact) error {
			_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
				if err := tellRun(t, agent.ID, run, facts); err != nil {
					return err
				}
				return within.Along(t, facts)
			})
			return err
		},
		Disk: func(ctx context.Context, w environment.Wanted) (disk environment.Disk, err error) {
			within.Wanted = w
			disk, within.Chosen, err = r.Builds.Disk(ctx, agent, s.resolved, w, onDefault)
			if err == nil && !disk.Installed && !within.Draft {
				within.Draft, err = forItself(agent, onDefault)
			}
			return disk, err
		},
		Progress: progress, Builds: r.builds, Force: agent.Settings.Force,
		InstallLimit: r.Defaults.InstallLimit, Resolve: r.Builds.ResolveImage, Log: r.Log,
	})
	if err != nil {
		return err
	}
	if err := within.Ready(ctx, r.Journal, ready.Key != ""); err != nil {
		return err
	}
	return r.prepared(ctx, p, s, ready)
}

// forItself says whether what an agent installs is for itself rather than for
// all who use its environment.
func forItself(agent errand.Agent, onDefault func() (bool, error)) (bool, error) {
	if agent.Settings.Image != "" {
		return true, nil
	}
	here, err := onDefault()
	return !here, err
}

// onDefaultBranch says whether the agent's base is of the repository's default
// branch. Without a repository all agents of an environment are alike.
func onDefaultBranch(ctx context.Context, agent errand.Agent, mirror *git.Mirror) (bool, error) {
	if mirror == nil || agent.Repositories[0].Ref == "" {
		return true, nil
	}
	_, branch, err := mirror.Resolve(ctx, agent.Repositories[0].Ref)
	if err != nil || branch == "" {
		return false, err
	}
	of, err := mirror.DefaultBranch(ctx)
	return branch == of, err
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

func checkout(s setup) git.Checkout {
	if s.mirror == nil {
		return git.Checkout{}
	}
	c := git.Checkout{
		URL: s.agent.Repositories[0].URL, Dir: root, Commit: s.agent.Base, Branch: s.agent.Branch,
		Author: author, BrokerURL: "http://" + git.BrokerAddress + "/",
	}
	if s.agent.Caller.Name != "" {
		c.CoAuthor = git.Person{Name: s.agent.Caller.Name, Email: s.agent.Caller.Email}
	}
	return c
}

// progress is what the journal already has of this run's preparing.
func (r *Runner) progress(ctx context.Context, agent errand.AgentID, run errand.RunID) (environment.Progress, error) {
	if run == "" {
		return environment.Progress{}, nil
	}
	events, err := r.Journal.All(ctx, agent)
	if err != nil {
		return environment.Progress{}, err
	}
	return environment.ProgressOf(events, run), nil
}

// room sees to it that there is room for a machine that the agent has not yet.
// One that is there is not refused.
func (r *Runner) room(ctx context.Context, agent errand.AgentID) error {
	_, err := r.Store.Machine(ctx, agent)
	if errand.KindOf(err) != errand.NotFound {
		return err
	}
	return r.Snapshots.Room(ctx)
}

// wantMachine writes down that a machine is being made before it is, so that it
// is not taken for a stray.
func (r *Runner) wantMachine(ctx context.Context, p *place) error {
	return r.Store.Write(ctx, func(t *store.Tx) error {
		if _, err := t.Agent(ctx, p.agent); err != nil {
			return err // deleted meanwhile: its machine stays unwanted
		}
		row, err := t.Machine(ctx, p.agent)
		if err == nil && row.State == store.MachineWanted {
			return nil
		}
		if err != nil && errand.KindOf(err) != errand.NotFound {
			return err
		}
		row.ID, row.Agent, row.State, row.UsedAt = string(machineID(p.agent)), p.agent, store.MachineWanted, t.Now()
		return t.PutMachine(row)
	})
}

// prepared notes that the place is ready.
func (r *Runner) prepared(ctx context.Context, p *place, s setup, ready *environment.Ready) error {
	p.mu.Lock()
	p.machine, p.line, p.ready = ready.Machine, ready.Line, true
	p.environment, p.env, p.notes = *ready.Environment, s.opened.Env, ready.Notes
	boot := p.boot
	p.mu.Unlock()
	return r.Store.Write(ctx, func(t *store.Tx) error {
		row, err := t.Machine(ctx, p.agent)
		if err != nil {
			return err
		}
		row.Prepared, row.UsedAt = boot, t.Now()
		if reporter, ok := ready.Machine.(machine.Reporter); ok {
			if from := reporter.Report().From; from != "" {
				if err := t.TouchSnapshot(string(from)); err != nil {
					return err
				}
			}
		}
		return t.PutMachine(row)
	})
}

// resolveBase brings the mirror up to date and settles the commit and branch
// that the agent starts from, once in its life.
func (r *Runner) resolveBase(ctx context.Context, agent errand.Agent, run errand.RunID) (errand.Agent, error) {
	if len(agent.Repositories) == 0 || agent.Base != "" {
		return agent, nil
	}
	repo := agent.Repositories[0]
	err := r.phase(ctx, errand.Run{ID: run, Agent: agent.ID}, errand.PhaseMirror, "", func() (string, error) {
		mirror, err := r.Mirrors.FetchCarried(ctx, repo.URL, repo.Ref)
		if err != nil {
			return "", err
		}
		commit, branch, err := mirror.Resolve(ctx, repo.Ref)
		if err != nil {
			return "", err
		}
		agent.Base = commit
		if agent.Settings.WorkOnCurrentBranch {
			if branch == "" {
				return "", errand.Errorf(errand.Invalid, "invalid_branch_name", "%q is not a branch, and the agent was told to work on the current one. Name a branch with --ref.", repo.Ref)
			}
			agent.Branch = branch
		} else if _, taken, err := mirror.Resolve(ctx, agent.Branch); err == nil && taken != "" {
			return "", errand.Errorf(errand.Conflict, "invalid_branch_name",
				"The repository has a branch %q already. Give the agent's branch another name, or let it work on that one: workOnCurrentBranch with it as the starting ref.", agent.Branch)
		}
		return fmt.Sprintf("%.12s of %s", commit, orDefault(branch, repo.Ref)), nil
	})
	if err != nil {
		return agent, err
	}
	_, err = r.Journal.Decide(ctx, func(t *journal.Tx) error {
		now, err := t.Agent(ctx, agent.ID)
		if err != nil {
			return err
		}
		now.Base, now.Branch = agent.Base, agent.Branch
		if err := t.UpdateAgent(now); err != nil {
			return err
		}
		return t.Tell(agent.ID, run, errand.Fact{Kind: errand.EventAgentChanged, Data: errand.AgentChanged{Base: agent.Base, Branch: agent.Branch}})
	})
	return agent, err
}

// warn tells, once for each run, what the environment file made us guess.
func (r *Runner) warn(ctx context.Context, s setup, run errand.RunID) error {
	if run == "" || len(s.resolved.Findings) == 0 {
		return nil
	}
	events, err := r.Journal.All(ctx, s.agent.ID)
	if err != nil {
		return err
	}
	told := map[string]bool{}
	for _, e := range events {
		var n errand.Notice
		if e.Kind == errand.EventNotice && json.Unmarshal(e.Data, &n) == nil {
			told[n.Text] = true
		}
	}
	var facts []errand.Fact
	for _, w := range s.resolved.Findings {
		if text := w.String(); !told[text] {
			facts = append(facts, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Level: "warning", Text: text}})
		}
	}
	_, err = r.tell(ctx, s.agent.ID, run, facts...)
	return err
}

// broker gives what serves git to one connection from the agent's machine.
func (r *Runner) broker(ctx context.Context, id errand.AgentID) (func(net.Conn), error) {
	agent, err := r.Store.Agent(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(agent.Repositories) == 0 {
		return func(c net.Conn) { c.Close() }, nil
	}
	h, err := r.Mirrors.Broker(git.Grant{Agent: id, URL: agent.Repositories[0].URL, Branch: agent.Branch, AllowForce: !agent.Settings.WorkOnCurrentBranch, Guard: r.placeOf(id).guard},
		func(d errand.PushData) { r.pushed(id, d) })
	if err != nil {
		return nil, fmt.Errorf("opening the git broker: %w", err)
	}
	return func(c net.Conn) { git.ServeConn(h, c) }, nil
}

// pushed writes down what the broker did with a push.
func (r *Runner) pushed(id errand.AgentID, d errand.PushData) {
	ctx := context.Background()
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		agent, err := t.Agent(ctx, id)
		if err != nil {
			return err
		}
		facts := []errand.Fact{{Kind: errand.EventPush, Data: d}}
		if d.Refused == "" {
			agent.Pushed = d.New
			if err := t.UpdateAgent(agent); err != nil {
				return err
			}
			facts = append(facts, errand.Fact{Kind: errand.EventAgentChanged, Data: errand.AgentChanged{Pushed: d.New}})
		}
		run := agent.LatestRun // a person's push
		busy, err := t.BusyRuns(ctx, id)
		if err != nil {
			return err
		}
		if len(busy) > 0 {
			run = busy[0].ID // the others only wait
		}
		return t.Tell(id, run, facts...)
	})
	if err != nil {
		r.Log.Error("cannot record a push", "agent", id, "error", err)
	}
}
