package setup

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/runner"
)

// write writes the draft where it is to go, and ends the setup's machines.
func (s *Setups) write(ctx context.Context, setup *errand.Setup) error {
	err := s.phase(ctx, setup.ID, errand.PhaseWrite, func() (string, error) {
		switch setup.Accept.As {
		case errand.AcceptStored:
			return s.store(ctx, setup)
		case errand.AcceptPatch:
			return s.patch(ctx, setup)
		}
		return s.commit(ctx, setup)
	})
	if err != nil {
		return err
	}
	if err := s.close(ctx, *setup); err != nil {
		return err
	}
	setup.Machine, setup.Error, setup.Accept.Writer = "", nil, ""
	if setup.Proof != nil {
		setup.Proof.Agent, setup.Proof.Installing = "", ""
	}
	return s.put(ctx, setup, errand.SetupAccepted, "the file is written")
}

// commit puts the file onto a branch of its own, from a machine that has nothing
// but the checkout, and pushes it as agents do. What was pushed is noted before
// that machine goes, so that it is pushed once.
func (s *Setups) commit(ctx context.Context, setup *errand.Setup) (string, error) {
	if setup.Accept.Commit != "" {
		return pushed(*setup), nil
	}
	if setup.Accept.Writer == "" {
		setup.Accept.Writer = errand.NewAgentID()
		if err := s.keep(ctx, setup); err != nil {
			return "", err
		}
	}
	r := request(*setup, setup.Accept.Writer, "set up the environment", "{}")
	r.Branch = setup.Branch
	if r.Branch == "" {
		r.Name = "Set up the environment"
	}
	agent, err := s.Runner.Make(ctx, setup.Caller, r)
	if err != nil {
		return "", err
	}
	title := "Set up the environment"
	if old, err := s.old(ctx, *setup); err == nil && old != "" {
		title = "Change the environment"
	}
	commit, err := s.Runner.Publish(ctx, setup.Caller, agent.ID, runner.Publication{
		Path: pathOf(*setup), Data: []byte(setup.Draft), Title: title, Body: evidence(*setup),
	})
	if err != nil {
		return "", err
	}
	setup.Accept.Branch, setup.Accept.Commit = agent.Branch, commit
	err = s.insist(ctx, setup.ID, "note what a setup has pushed", func() error { return s.keep(ctx, setup) })
	return pushed(*setup), err
}

func pushed(setup errand.Setup) string {
	return fmt.Sprintf("%.12s on %s", setup.Accept.Commit, setup.Accept.Branch)
}

// evidence says in a commit's words what the proof showed.
func evidence(setup errand.Setup) string {
	if !proved(setup) {
		return ""
	}
	var lines []string
	for _, step := range setup.Proof.Steps {
		switch step.Phase {
		case errand.PhaseInstall:
			lines = append(lines, "install ran in a clean machine, and a second time on its disk.")
		case errand.PhaseVerify:
			lines = append(lines, "Verified by: "+first(step.Command))
		}
	}
	return strings.Join(lines, "\n")
}

// old gives the repository's file as it was; "" where there was none.
func (s *Setups) old(ctx context.Context, setup errand.Setup) (string, error) {
	mirror, err := s.Mirrors.Open(ctx, setup.Repository.URL)
	if err != nil {
		return "", err
	}
	text, err := mirror.ReadFile(ctx, setup.Commit, pathOf(setup))
	if errand.KindOf(err) == errand.NotFound {
		return "", nil
	}
	return string(text), err
}

// patch makes a patch of the draft for git apply.
func (s *Setups) patch(ctx context.Context, setup *errand.Setup) (string, error) {
	old, err := s.old(ctx, *setup)
	if err != nil {
		return "", err
	}
	name, text := pathOf(*setup), setup.Draft
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if old == setup.Draft || old == text {
		return "", errand.Errorf(errand.Conflict, "nothing_to_commit", "The repository has %s as it is; there is nothing to change.", name)
	}
	before, head := "a/"+name, ""
	if old == "" {
		before, head = "/dev/null", "new file mode 100644\n"
	}
	d := string(diff.Diff(before, []byte(old), "b/"+name, []byte(text)))
	_, body, _ := strings.Cut(d, "\n") // its own first line is not git's
	setup.Accept.Patch = fmt.Sprintf("diff --git a/%s b/%s\n%s%s", name, name, head, body)
	return name, nil
}

// store keeps the draft on the server, for the repository.
func (s *Setups) store(ctx context.Context, setup *errand.Setup) (string, error) {
	a := setup.Accept
	if a.Name == "" {
		a.Name = strings.TrimSuffix(path.Base(setup.Repository.URL), ".git")
	}
	if a.Owner == "" {
		a.Owner = errand.OwnerPersonal
	}
	e, err := s.Runner.Builds.Create(ctx, setup.Caller, build.NewEnvironment{
		Name: a.Name, Owner: a.Owner, Repositories: []errand.Repository{{URL: setup.Repository.URL}}, JSON: setup.Draft,
		Version: build.Change{Source: errand.SourceSetupFlow, Title: "Set up", Description: evidence(*setup)},
	})
	if errand.KindOf(err) == errand.Conflict {
		// A server that was killed here has stored it already.
		there, found := s.Store.EnvironmentNamed(ctx, setup.Caller.Person(), a.Name)
		if found == nil && there.JSON == setup.Draft && there.Owner == a.Owner && len(there.Repositories) == 1 && there.Repositories[0].URL == setup.Repository.URL {
			e, err = there, nil
		}
	}
	if err != nil {
		return "", err
	}
	a.Environment = e.ID
	return a.Name, nil
}
