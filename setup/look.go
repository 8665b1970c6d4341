package setup

import (
	"context"
	"fmt"
	"slices"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/survey"
)

// survey fetches the repository and looks at it.
func (s *Setups) survey(ctx context.Context, setup *errand.Setup) error {
	err := s.phase(ctx, setup.ID, errand.PhaseMirror, func() (string, error) {
		mirror, err := s.Mirrors.Fetch(ctx, setup.Repository.URL)
		if err != nil {
			return "", err
		}
		commit, branch, err := mirror.Resolve(ctx, setup.Repository.Ref)
		if err != nil {
			return "", err
		}
		setup.Commit = commit
		if branch == "" {
			branch = setup.Repository.Ref
		}
		return fmt.Sprintf("%.12s of %s", commit, branch), nil
	})
	if err != nil {
		return err
	}
	verify := setup.Verify
	err = s.phase(ctx, setup.ID, errand.PhaseSurvey, func() (string, error) {
		if err := s.look(ctx, setup); err != nil {
			return "", err
		}
		return fmt.Sprintf("%d findings, %d questions", len(setup.Proposal.Reasons), len(setup.Proposal.Questions)), nil
	})
	if err != nil {
		return err
	}
	setup.Draft, setup.Verify = setup.Proposal.Text, setup.Proposal.Verify
	if verify != "" {
		setup.Verify = verify // the person's own
	}
	next := errand.SetupProposed
	switch setup.Mode {
	case errand.SetupPerson:
		next = errand.SetupOpening
	case errand.SetupAgent:
		next = errand.SetupWorking
		try(setup, true)
	}
	return s.put(ctx, setup, next, "a draft is proposed")
}

// look sets a setup's proposal, with the answers that were given so far.
func (s *Setups) look(ctx context.Context, setup *errand.Setup) error {
	mirror, err := s.Mirrors.Open(ctx, setup.Repository.URL)
	if err != nil {
		return err
	}
	files, err := mirror.Tree(ctx, setup.Commit)
	if err != nil {
		return err
	}
	tree := survey.Tree{Read: func(path string) ([]byte, error) { return mirror.ReadFile(ctx, setup.Commit, path) }}
	for path := range files {
		tree.Files = append(tree.Files, path)
	}
	slices.Sort(tree.Files)
	p, err := survey.Look(tree, survey.Options{Programs: s.Programs(ctx), Answers: setup.Answers})
	if err != nil {
		return err
	}
	setup.Proposal = &p
	return nil
}
