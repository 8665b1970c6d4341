package setup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

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
		return counted(len(setup.Proposal.Reasons), "finding") + ", " + counted(len(setup.Proposal.Questions), "question"), nil
	})
	if err != nil {
		return err
	}
	setup.Proposal.Notes = append(setup.Proposal.Notes, strays(setup.Proposal.Questions, setup.Answers)...)
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

// strays says, in a sentence each, which answers are to no question or are none
// of its choices.
func strays(questions []errand.Question, answers map[string]string) []string {
	var all []string
	for _, id := range slices.Sorted(maps.Keys(answers)) {
		at := slices.IndexFunc(questions, func(q errand.Question) bool { return q.ID == id })
		switch {
		case at >= 0 && slices.Contains(questions[at].Choices, answers[id]):
		case at >= 0:
			all = append(all, fmt.Sprintf("%.80q is no answer to %s; it may be %s.", answers[id], id, strings.Join(questions[at].Choices, ", ")))
		case len(questions) == 0:
			all = append(all, fmt.Sprintf("The repository leaves nothing open, so the answer to %.80q has no effect.", id))
		default:
			var ids []string
			for _, q := range questions {
				ids = append(ids, q.ID)
			}
			all = append(all, fmt.Sprintf("There is no question %.80q, so its answer has no effect. There is: %s.", id, strings.Join(ids, ", ")))
		}
	}
	return all
}

// counted gives a number of things in words.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
