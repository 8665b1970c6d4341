package runner

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/tool"
)

// builder has builds made for an agent at work.
type builder struct {
	builds *build.Builds
	agent  errand.Agent
	run    errand.RunID
}

// builder gives what makes the builds that an agent asks for, or nil where no
// environment that could be built holds for it.
func (r *Runner) builder(agent errand.Agent, run errand.RunID) tool.Builder {
	if agent.Environment == "" {
		return nil
	}
	return builder{r.Builds, agent, run}
}

// Environment gives the agent's environment as it is now.
func (b builder) Environment(ctx context.Context) (errand.Environment, error) {
	return b.builds.Environment(ctx, b.agent.Caller, b.agent.Environment)
}

// Build asks for a build and waits for its end. Whoever ends the run meanwhile
// leaves the build: a person may want it.
func (b builder) Build(ctx context.Context, op string, p tool.Proposal) (errand.Build, error) {
	asked, err := b.builds.Propose(ctx, b.agent.ID, build.Proposal{Op: op, Run: b.run, JSON: p.Environment, OwnBranch: p.OwnBranch, Why: p.Why})
	if err != nil {
		return asked, err
	}
	return b.builds.Await(ctx, asked)
}
