package setup

import (
	"context"
	"iter"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
)

// Request is what a setup is made of.
type Request struct {
	Repository errand.Repository
	Mode       errand.SetupMode // "" is propose
	Model      errand.Model     // in mode agent
	Engine     string
	Branch     string            // for the commit; "" is made from a name
	Verify     string            // "" is what the survey finds
	Answers    map[string]string // to the survey's questions, by id
}

// Create makes a setup and queues its survey. It touches no network: a
// repository that is not there fails the survey.
func (s *Setups) Create(ctx context.Context, caller errand.Caller, r Request) (errand.Setup, error) {
	setup := errand.Setup{
		ID: errand.NewSetupID(), Status: errand.SetupSurveying, Mode: r.Mode, Caller: caller,
		Repository: r.Repository, Model: r.Model, Engine: r.Engine, Branch: r.Branch, Verify: strings.TrimSpace(r.Verify), Answers: r.Answers,
	}
	if setup.Mode == "" {
		setup.Mode = errand.SetupPropose
	}
	if err := s.check(ctx, &setup); err != nil {
		return errand.Setup{}, err
	}
	_, err := s.Journal.Decide(ctx, func(t *journal.Tx) error {
		setup.CreatedAt, setup.UpdatedAt = t.Now(), t.Now()
		if err := t.InsertSetup(setup); err != nil {
			return err
		}
		return t.Tell(setup.ID, "", errand.Fact{Kind: errand.EventSetupChanged, Data: errand.SetupChanged{Status: setup.Status, What: "the setup of " + setup.Repository.URL}})
	})
	if err != nil {
		return errand.Setup{}, err
	}
	s.nudge()
	return setup, nil
}

// check holds a new setup to what can be known at once, and cleans its URL.
func (s *Setups) check(ctx context.Context, setup *errand.Setup) error {
	var err error
	if setup.Repository.URL, err = git.CleanOpen(setup.Repository.URL); err != nil {
		return err
	}
	if setup.Branch != "" {
		if err := git.CheckBranch(setup.Branch); err != nil {
			return err
		}
	}
	if len(setup.Verify) > maxCommand {
		return errand.Errorf(errand.Invalid, "validation_error", "The verify command has more than %d bytes. Put it into a script of the repository.", maxCommand)
	}
	switch setup.Mode {
	case errand.SetupPropose, errand.SetupPerson:
		return nil
	case errand.SetupAgent:
		_, _, err := s.Runner.Models.Model(ctx, setup.Model.ID)
		return err
	}
	return errand.Errorf(errand.Invalid, "validation_error", `The mode is %.40q; it may be "propose", "person" or "agent".`, setup.Mode)
}

// maxCommand bounds a verify command, in bytes.
const maxCommand = 8 << 10

// Setup gives one setup.
func (s *Setups) Setup(ctx context.Context, _ errand.Caller, id errand.SetupID) (errand.Setup, error) {
	return s.Store.Setup(ctx, id)
}

// List gives a page of setups, newest first, and the cursor of the next one (""
// on the last).
func (s *Setups) List(ctx context.Context, _ errand.Caller, limit int, cursor string) ([]errand.Setup, string, error) {
	return s.Store.Setups(ctx, limit, cursor)
}

// Events gives at most limit of a setup's events after a number, those that are
// there now.
func (s *Setups) Events(ctx context.Context, _ errand.Caller, id errand.SetupID, after errand.Seq, limit int) ([]errand.Event, error) {
	if _, err := s.Store.Setup(ctx, id); err != nil {
		return nil, err
	}
	return s.Store.Events(ctx, id, after, limit)
}

// Follow gives a setup's events after a number and then each as it is written,
// until ctx ends or the setup is deleted.
func (s *Setups) Follow(ctx context.Context, _ errand.Caller, id errand.SetupID, after errand.Seq) iter.Seq2[errand.Event, error] {
	return s.Journal.Follow(ctx, id, after)
}

// Edit says what to change of a setup; nil leaves it.
type Edit struct {
	Draft   *string           // the text of the environment file
	Verify  *string           // "" is none
	Answers map[string]string // added to those given before; the draft is proposed anew
	Ports   bool              // the ports that the latest proof found come into the draft
}

// Edit changes a setup's draft. A setup that is under way or accepted is a
// Conflict; a draft that is no environment file is Invalid, with line and column.
func (s *Setups) Edit(ctx context.Context, _ errand.Caller, id errand.SetupID, e Edit) (errand.Setup, error) {
	setup, err := s.Store.Setup(ctx, id)
	if err != nil {
		return setup, err
	}
	if err := waits(setup); err != nil {
		return setup, err
	}
	if len(e.Answers) > 0 {
		if setup.Answers == nil {
			setup.Answers = map[string]string{}
		}
		for id, answer := range e.Answers {
			setup.Answers[id] = answer
		}
		if err := s.look(ctx, &setup); err != nil {
			return setup, err
		}
		if stray := strays(setup.Proposal.Questions, e.Answers); len(stray) > 0 {
			return setup, errand.Errorf(errand.Invalid, "validation_error", "%s", stray[0])
		}
		setup.Draft, setup.Verify = setup.Proposal.Text, setup.Proposal.Verify
	}
	if e.Draft != nil {
		if _, _, err := file.Parse(pathOf(setup), []byte(*e.Draft)); err != nil {
			return setup, err
		}
		setup.Draft = *e.Draft
	}
	if e.Ports {
		if err := addFound(&setup); err != nil {
			return setup, err
		}
	}
	if e.Verify != nil {
		if len(*e.Verify) > maxCommand {
			return setup, errand.Errorf(errand.Invalid, "validation_error", "The verify command has more than %d bytes. Put it into a script of the repository.", maxCommand)
		}
		setup.Verify = strings.TrimSpace(*e.Verify)
	}
	next := errand.SetupProposed
	if proved(setup) {
		next = errand.SetupProved
	}
	setup.Error = nil
	if err := s.ask(ctx, &setup, next, "the draft was edited"); err != nil || setup.Machine == "" {
		return setup, err
	}
	// The file in the opened machine is the draft too: who goes on there, or
	// proves from there, has what was edited here.
	return setup, s.Runner.WriteFile(ctx, setup.Caller, setup.Machine, pathOf(setup), []byte(setup.Draft))
}

// waits says whether a setup waits for people.
func waits(setup errand.Setup) error {
	switch {
	case setup.Status == errand.SetupAccepted:
		return errand.Errorf(errand.Conflict, "setup_accepted", "Setup %s is done: its file is written. Begin another: errand setup --repo %s", setup.ID, setup.Repository.URL)
	case setup.Status.Busy():
		return errand.Errorf(errand.Conflict, "setup_busy", "Setup %s is %s. Wait for it, or end it: errand setup rm %s", setup.ID, setup.Status, setup.ID)
	}
	return nil
}

// pathOf is where a setup's file goes.
func pathOf(setup errand.Setup) string {
	if setup.Proposal != nil && setup.Proposal.Path != "" {
		return setup.Proposal.Path
	}
	return file.Path
}

// ask writes a person's wish, unless the setup stands otherwise by now.
func (s *Setups) ask(ctx context.Context, setup *errand.Setup, next errand.SetupStatus, what string) error {
	err := s.put(ctx, setup, next, what)
	if err == nil && next.Busy() {
		s.nudge()
	}
	return err
}

// Open opens a machine with the draft, for a person (SetupPerson) or for a model
// to work on it (SetupAgent).
func (s *Setups) Open(ctx context.Context, _ errand.Caller, id errand.SetupID, mode errand.SetupMode, model errand.Model) (errand.Setup, error) {
	setup, err := s.ready(ctx, id)
	if err != nil {
		return setup, err
	}
	if setup.Mode = mode; model.ID != "" {
		setup.Model = model
	}
	if err := s.check(ctx, &setup); err != nil {
		return setup, err
	}
	if mode == errand.SetupAgent {
		try(&setup, true)
		return setup, s.ask(ctx, &setup, errand.SetupWorking, "a model is to work on the draft")
	}
	setup.Mode, setup.Error = errand.SetupPerson, nil
	return setup, s.ask(ctx, &setup, errand.SetupOpening, "a machine is opened")
}

// ready gives a setup that has a draft and waits for people.
func (s *Setups) ready(ctx context.Context, id errand.SetupID) (errand.Setup, error) {
	setup, err := s.Store.Setup(ctx, id)
	if err != nil {
		return setup, err
	}
	if err := waits(setup); err != nil {
		return setup, err
	}
	if setup.Proposal == nil {
		return setup, errand.Errorf(errand.Conflict, "setup_not_surveyed", "The repository of setup %s could not be looked at. Begin anew once it can: errand setup --repo %s", setup.ID, setup.Repository.URL)
	}
	return setup, nil
}

// Prove queues the proof of the draft. With fromMachine the draft is taken from
// the file in the opened machine first.
func (s *Setups) Prove(ctx context.Context, _ errand.Caller, id errand.SetupID, fromMachine bool) (errand.Setup, error) {
	setup, err := s.ready(ctx, id)
	if err != nil {
		return setup, err
	}
	if fromMachine {
		if setup.Machine == "" {
			return setup, errand.Errorf(errand.Conflict, "setup_not_open", "Setup %s has no machine open to take the file from.", id)
		}
		if err := s.fromMachine(ctx, &setup); err != nil {
			return setup, err
		}
	}
	setup.Error = nil
	setup.Proof = newProof(setup)
	return setup, s.ask(ctx, &setup, errand.SetupProving, "the draft is to be proved")
}

// newProof is the proof of a draft as it stands, before it has begun. The
// machines of the one before are its own until it removes them.
func newProof(setup errand.Setup) *errand.Proof {
	p := &errand.Proof{Draft: setup.Draft, Verify: setup.Verify}
	if old := setup.Proof; old != nil {
		p.Installing, p.Agent = old.Installing, old.Agent
	}
	return p
}

// Accept queues the writing of the draft. A draft that is not proved is a
// Conflict, unless unproved says that it may be written so.
func (s *Setups) Accept(ctx context.Context, _ errand.Caller, id errand.SetupID, a errand.Acceptance, unproved bool) (errand.Setup, error) {
	setup, err := s.ready(ctx, id)
	if err != nil {
		return setup, err
	}
	if !unproved && !proved(setup) {
		return setup, errand.Errorf(errand.Conflict, "setup_not_proved", "The draft as it stands has not been shown to work. Prove it first: errand setup go %s; or accept it as it is: --unproved", id)
	}
	if a.Branch != "" {
		if err := git.CheckBranch(a.Branch); err != nil {
			return setup, err
		}
		setup.Branch = a.Branch
	}
	switch a.As {
	case errand.AcceptCommit, errand.AcceptPatch, errand.AcceptStored:
	default:
		return setup, errand.Errorf(errand.Invalid, "validation_error", `The file can be written as "commit", "patch" or "stored"; this is %.40q.`, a.As)
	}
	setup.Accept, setup.Error = &errand.Acceptance{As: a.As, Name: a.Name, Owner: a.Owner}, nil
	return setup, s.ask(ctx, &setup, errand.SetupWriting, "the file is to be written")
}

// Delete ends the work on a setup and removes it with its machines. What was
// written stays.
func (s *Setups) Delete(ctx context.Context, caller errand.Caller, id errand.SetupID) error {
	if _, err := s.Store.Setup(ctx, id); err != nil {
		return err
	}
	leave, err := s.enter(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	setup, err := s.Store.Setup(ctx, id)
	if err != nil {
		return err
	}
	if err := s.close(ctx, setup); err != nil {
		return err
	}
	if _, err := s.Journal.Decide(ctx, func(t *journal.Tx) error { return t.DeleteSetup(id) }); err != nil {
		return err
	}
	s.Journal.Deleted(id)
	return nil
}

// enter ends the work on a setup and keeps it from being taken up again until
// leave is called, once.
func (s *Setups) enter(ctx context.Context, id errand.SetupID) (leave func(), err error) {
	own := &attempt{func(error) {}, make(chan struct{})}
	for {
		s.mu.Lock()
		a := s.active[id]
		if a == nil {
			s.active[id] = own
		}
		s.mu.Unlock()
		if a == nil {
			return func() { s.letGo(id, own) }, nil
		}
		a.cancel(errDeleted)
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// close removes the machines of a setup.
func (s *Setups) close(ctx context.Context, setup errand.Setup) error {
	agents := []errand.AgentID{setup.Machine}
	if p := setup.Proof; p != nil {
		agents = append(agents, p.Installing, p.Agent)
	}
	if a := setup.Accept; a != nil {
		agents = append(agents, a.Writer)
	}
	for _, agent := range agents {
		if err := s.remove(ctx, setup, agent); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes one of a setup's agents. One that is gone is no error.
func (s *Setups) remove(ctx context.Context, setup errand.Setup, agent errand.AgentID) error {
	if agent == "" {
		return nil
	}
	err := s.Runner.Delete(ctx, setup.Caller, agent)
	if errand.KindOf(err) == errand.NotFound {
		return nil
	}
	return err
}
