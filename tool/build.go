package tool

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/errand-dev/errand"
)

// Builder has builds made of the environment that the agent's machine is of.
// What the agent may not ask for, or must ask for differently, is an
// *errand.Error whose message it is told.
type Builder interface {
	// Environment gives the environment as it is now.
	Environment(ctx context.Context) (errand.Environment, error)
	// Build has a draft made of what is proposed and blocks until it has ended,
	// however it did. Asking again with the same op joins the same build.
	Build(ctx context.Context, op string, p Proposal) (errand.Build, error)
}

// Proposal is a build that an agent asks for.
type Proposal struct {
	Environment string // the text of an environment file; "" leaves it as it is
	OwnBranch   bool   // at the agent's pushed branch rather than the default one
	Why         string // for the person who decides
}

// BuildResult is what request_build came to.
type BuildResult struct {
	Environment errand.EnvironmentID `json:"environment"`
	Build       errand.BuildID       `json:"build"`
	Status      errand.BuildStatus   `json:"status"`
}

func (s *Set) requestBuild(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Why         string `json:"why"`
		Environment string `json:"environment"`
		OwnBranch   bool   `json:"own_branch"`
	}
	if err := decodeCall(c, &args); err != nil {
		return Result{}, err
	}
	p := Proposal{Environment: strings.TrimSpace(args.Environment), OwnBranch: args.OwnBranch, Why: strings.TrimSpace(args.Why)}
	switch {
	case p.Why == "" && (p.OwnBranch || p.Environment != ""):
		return Result{}, misusef("say in why what is missing; a person decides by it.")
	case p.Why == "":
		return s.showEnvironment(ctx, c)
	}
	build, err := s.o.Builder.Build(ctx, c.Op, p)
	if err != nil {
		return told(err)
	}
	output := fmt.Sprintf("Build %s %s.", build.ID, build.Status)
	switch {
	case build.Status == errand.BuildSucceeded:
		output += " It is a draft: agents start on it when a person has activated it. Name it in your summary."
	case build.Failure != nil:
		output = fmt.Sprintf("Build %s failed: %s\n%s", build.ID, build.Failure.Error.Message, build.Failure.Error.Output)
	}
	if output, err = s.fit(ctx, c.Op, output); err != nil {
		return Result{}, err
	}
	return Result{Output: output, Structured: BuildResult{Environment: build.Environment, Build: build.ID, Status: build.Status}}, nil
}

func (s *Set) showEnvironment(ctx context.Context, c Call) (Result, error) {
	e, err := s.o.Builder.Environment(ctx)
	if err != nil {
		return told(err)
	}
	output := fmt.Sprintf("The environment %s is kept on the server. Its text:\n%s", e.Name, e.JSON)
	if f := e.RepositoryFile; f != nil {
		output = fmt.Sprintf("The environment is %s in the repository: change it there, on your branch, push that, and ask with own_branch and without environment. On the default branch it is:\n%s", f.Path, e.JSON)
	}
	output, err = s.fit(ctx, c.Op, output)
	return Result{Output: output}, err
}

// told gives what an agent is to be told of an error. What is a fault of ours
// stays one.
func told(err error) (Result, error) {
	var e *errand.Error
	if errors.As(err, &e) && e.Kind != errand.Internal {
		return failed("%s", e.Message), nil
	}
	return Result{}, err
}
