package build

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/journal"
)

// maxWhy bounds what an agent says of its proposal, in characters.
const maxWhy = 2000

// Proposal is what an agent asks for: a build of its environment as it is, or
// of another text of it.
type Proposal struct {
	Op   string       // names the asking for ever
	Run  errand.RunID // in which the agent asks
	JSON string       // the text of an environment file; "" leaves the environment's
	// OwnBranch builds at the agent's branch as it was pushed last; otherwise at
	// the default branch.
	OwnBranch bool
	Why       string // for the person who decides
}

// Propose queues the build that an agent asks for, or gives it if it was asked
// for by the same Op before. The build is a draft, its text a version that holds
// for nobody, until a person activates it. It is made from the ground up, and
// its disk is kept under a name of its own: nobody else starts on it unasked. An
// agent has one such build at a time. What the environment does not let agents
// change (agentCanUpdateSnapshot) is Forbidden.
func (b *Builds) Propose(ctx context.Context, id errand.AgentID, p Proposal) (errand.Build, error) {
	run, err := b.Store.Run(ctx, id, p.Run)
	if err != nil {
		return errand.Build{}, err
	}
	asked := errand.BuildIDFor(run.CreatedAt, p.Op)
	if build, err := b.Store.Build(ctx, asked); errand.KindOf(err) != errand.NotFound {
		return build, err
	}
	agent, err := b.Store.Agent(ctx, id)
	if err != nil {
		return errand.Build{}, err
	}
	e, err := one(ctx, b.Store, agent.Caller, agent.Environment)
	if err != nil {
		return errand.Build{}, err
	}
	if e.RepositoryFile != nil && p.JSON != "" {
		return errand.Build{}, errand.Errorf(errand.Conflict, "environment_in_repository",
			"The environment is %s in the repository. Change it there, on your branch, push that, and ask with own_branch and without a text.", e.RepositoryFile.Path)
	}
	build := errand.Build{
		ID: asked, Environment: agent.Environment, Trigger: errand.TriggerAgent, Draft: true, Force: true,
		Caller: agent.Caller, Agent: agent.ID, Run: p.Run,
	}
	if p.Why, err = b.whyOf(p); err != nil {
		return build, err
	}
	if p.OwnBranch {
		if err := b.atOwnBranch(ctx, agent, e, &build, &p); err != nil {
			return build, err
		}
	}
	_, err = b.Journal.Decide(ctx, func(t *journal.Tx) error {
		e, err := one(ctx, t, agent.Caller, agent.Environment)
		if err != nil {
			return err
		}
		v, err := proposed(t, e, agent, p)
		if err != nil {
			return err
		}
		if err := t.InsertVersion(v); err != nil {
			return err
		}
		build.Version = v.ID
		if build, err = queue(t, build); err != nil {
			return err
		}
		return t.Tell(agent.ID, p.Run, errand.Fact{Kind: errand.EventBuildQueued, Data: errand.BuildQueuedData{Build: build}})
	})
	b.nudge()
	return build, err
}

// whyOf gives a proposal's reason as it may be kept. Neither it nor the text
// passes the journal.
func (b *Builds) whyOf(p Proposal) (string, error) {
	if b.Redactor.String(p.JSON) != p.JSON {
		return "", errand.Errorf(errand.Invalid, "validation_error", "The text holds the value of a secret. Name its variable instead; a build has it too.")
	}
	if n := utf8.RuneCountInString(p.Why); n > maxWhy {
		return "", errand.Errorf(errand.Invalid, "validation_error", "The reason has %d characters; at most %d are taken.", n, maxWhy)
	}
	return b.Redactor.String(p.Why), nil
}

// atOwnBranch has a build made at what the agent has pushed. Of an environment
// that stands in the repository that branch has the text.
func (b *Builds) atOwnBranch(ctx context.Context, agent errand.Agent, e errand.Environment, build *errand.Build, p *Proposal) error {
	if len(agent.Repositories) == 0 || len(e.Repositories) == 0 || agent.Repositories[0].URL != e.Repositories[0].URL {
		return errand.Errorf(errand.Invalid, "validation_error", "The environment %s is not built of the repository that you work on. Ask without own_branch.", e.Name)
	}
	if agent.Pushed == "" && !agent.Settings.WorkOnCurrentBranch {
		return errand.Errorf(errand.Conflict, "branch_not_pushed", "Your branch was not pushed yet. Commit, push it (git push origin HEAD:%s), and ask again.", agent.Branch)
	}
	mirror, err := b.Mirrors.Fetch(ctx, agent.Repositories[0].URL)
	if err != nil {
		return err
	}
	commit, _, err := mirror.Resolve(ctx, agent.Branch)
	if err != nil {
		return err
	}
	build.Ref, build.Commits = agent.Branch, []errand.BuildCommit{{URL: mirror.URL(), Branch: agent.Branch, Commit: commit}}
	if e.RepositoryFile == nil {
		return nil
	}
	found, _, text, err := FileOf(ctx, mirror, commit)
	if err != nil {
		return err
	}
	if found.File == "" {
		return errand.Errorf(errand.Invalid, "environment_file_missing", "There is no environment file on your branch. It was %s.", e.RepositoryFile.Path)
	}
	p.JSON = text
	return nil
}

// proposed makes the version of what an agent proposes, if it may.
func proposed(t *journal.Tx, e errand.Environment, agent errand.Agent, p Proposal) (errand.EnvironmentVersion, error) {
	var none errand.EnvironmentVersion
	open, err := t.OpenBuilds(t.Context())
	if err != nil {
		return none, err
	}
	for _, build := range open {
		if build.Trigger == errand.TriggerAgent && build.Agent == agent.ID {
			return none, errand.Errorf(errand.Conflict, "build_under_way", "Build %s, for which you asked, is not made yet. Ask for one at a time.", build.ID)
		}
	}
	text, title := e.JSON, "Build asked for by agent "+string(agent.ID)
	if p.JSON != "" && p.JSON != e.JSON {
		text, title = p.JSON, "Proposed by agent "+string(agent.ID)
	}
	if err := mayPropose(e, text); err != nil {
		return none, err
	}
	return version(t, e.ID, errand.VersionProposed, Change{Source: errand.SourceAgentRun, Title: title, Description: p.Why}, "", agent.Caller, text), nil
}

// mayPropose says why an agent may not ask for a build of text: what counts is
// what the environment says now.
func mayPropose(e errand.Environment, text string) error {
	now, _, err := parse(e.JSON)
	if err != nil {
		return err
	}
	next, _, err := parse(text)
	if err != nil {
		return err
	}
	const instead = "Say in your summary what should be different, and a person will see to it."
	switch {
	case now.Build != nil || now.Image != "":
		return errand.Errorf(errand.Forbidden, "agent_may_not_build", "Machines of %s stand on an image or a Dockerfile of its own, and agents may ask for no build of such an environment (agentCanUpdateSnapshot). %s", e.Name, instead)
	case !now.CanUpdateSnapshot():
		return errand.Errorf(errand.Forbidden, "agent_may_not_build", "The environment %s says that agents may ask for no build of it (agentCanUpdateSnapshot is false). %s", e.Name, instead)
	case next.Build != nil || next.Image != "" || next.Snapshot != now.Snapshot:
		return errand.Errorf(errand.Forbidden, "agent_may_not_build", "You may propose what is installed and started, not what the machine stands on: leave image, build and snapshot as they are. %s", instead)
	}
	return nil
}

// adopt makes the text that an agent proposed with a build the environment's,
// unless it is that already or stands in the repository.
func adopt(t *journal.Tx, caller errand.Caller, e *errand.Environment, build errand.Build) error {
	if build.Trigger != errand.TriggerAgent || e.RepositoryFile != nil {
		return nil
	}
	proposal, err := t.Version(t.Context(), e.ID, build.Version)
	if err != nil || proposal.JSON == e.JSON {
		return err
	}
	before, err := t.VersionBefore(t.Context(), e.ID, proposal.ID)
	if err != nil {
		return err
	}
	if before.ID != e.Version {
		return errand.Errorf(errand.Conflict, "environment_changed", "%s was changed since agent %s proposed this. Look at both (errand env diff %s %s %s); errand env restore %s %s takes what the agent proposed and builds it.",
			e.Name, build.Agent, e.ID, proposal.ID, e.Version, e.ID, proposal.ID)
	}
	v := version(t, e.ID, errand.VersionUpdated, Change{
		Source: errand.SourceAgentRun, Title: proposal.Title, Description: strings.TrimSpace("As " + string(proposal.ID) + ". " + proposal.Description),
	}, "", caller, proposal.JSON)
	e.JSON, e.Version = v.JSON, v.ID
	return t.InsertVersion(v)
}

// policy gives what the machine of a build may reach. A text that nobody has
// looked at yet opens nothing that the environment has closed.
func (b *Builds) policy(build errand.Build, e errand.Environment, asks file.Environment) (egress.Policy, error) {
	p := b.Egress
	if build.Trigger == errand.TriggerAgent {
		now, _, err := parse(e.JSON)
		if err != nil {
			return p, err
		}
		p = Narrow(p, *now)
	}
	return Narrow(p, asks), nil
}

// Await waits for a build's end, or for that of ctx, and gives its row.
func (b *Builds) Await(ctx context.Context, build errand.Build) (errand.Build, error) {
	for _, err := range b.Follow(ctx, build, 0) {
		if err != nil {
			return build, err
		}
	}
	if err := ctx.Err(); err != nil {
		return build, err
	}
	return b.Store.Build(ctx, build.ID)
}
