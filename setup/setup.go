// Package setup guides people from a repository to an environment that is known
// to work.
//
// A setup is a row with a status and a journal of its own. Its way is: survey
// (package environment/survey proposes a file), work on the draft (people edit
// it, or go into a machine with it, or a model does), proof, acceptance. A proof
// makes the draft's machines as agents get them, from nothing: install runs, runs
// a second time on the disk that it left, then start and terminals come up on
// that disk, then their ports are looked for, then a command shows that the result works. What was proved is kept
// as a snapshot, so the first agent on it starts at once.
//
// Every machine is that of an agent whose id was written down before it was
// made, and every status that says "under way" can be entered again: after
// kill -9 the next process goes on where the row stands. What fails leads back
// to the draft with an error that says what to do; nothing is lost, and any step
// can be asked for again.
//
// The package makes no machines and reads no trees itself: that is package
// runner's, and package survey's.
package setup

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// Options are what Setups work with. All of it is the caller's and must outlive
// them.
type Options struct {
	Store    *store.Store
	Journal  *journal.Journal
	Redactor *secret.Redactor
	Runner   *runner.Runner
	Mirrors  *git.Mirrors
	Log      *slog.Logger
	// Programs gives those of the default image, with their versions. Nil, also
	// as an answer: they are not known.
	Programs func(context.Context) map[string]string
	// VerifyLimit is how long a verify command may take; 0 is 30 minutes.
	VerifyLimit time.Duration
	// PortLimit is how long a proof waits for the ports that a draft names; 0 is a
	// minute.
	PortLimit time.Duration
}

// Setups are the setups of a data directory. Methods may be called from many
// goroutines.
type Setups struct {
	Options
	wakeup chan struct{} // a setup became busy

	mu     sync.Mutex
	active map[errand.SetupID]*attempt
	work   sync.WaitGroup
}

// attempt is the work of this process on one setup.
type attempt struct {
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when it has ended
}

// errDeleted is why the work on a setup ends that is deleted.
var errDeleted = errors.New("the setup was deleted")

// New gives the setups of a store. Nothing is worked on until Run.
func New(o Options) *Setups {
	o.VerifyLimit = cmp.Or(o.VerifyLimit, 30*time.Minute)
	o.PortLimit = cmp.Or(o.PortLimit, time.Minute)
	if o.Programs == nil {
		o.Programs = func(context.Context) map[string]string { return nil }
	}
	return &Setups{Options: o, wakeup: make(chan struct{}, 1), active: map[errand.SetupID]*attempt{}}
}

// Run works on setups that are under way, also those of an earlier process,
// until ctx ends. It returns when all work has stopped; it goes on at the next
// start. Call it once, beside Runner.Run.
func (s *Setups) Run(ctx context.Context) error {
	defer s.work.Wait()
	for {
		busy, err := s.Store.BusySetups(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("cannot look for setups", "error", err)
		}
		for _, setup := range busy {
			s.take(ctx, setup.ID)
		}
		var again <-chan time.Time
		if err != nil {
			again = time.After(30 * time.Second)
		}
		select {
		case <-s.wakeup:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// insist does what must be done in the store until that has succeeded, a setup is
// not there or not as it was, or ctx ends: with a full disk it waits for room.
func (s *Setups) insist(ctx context.Context, id errand.SetupID, what string, do func() error) error {
	for pause := (store.Pause{}); ; {
		err := do()
		if kind := errand.KindOf(err); err == nil || ctx.Err() != nil || kind == errand.NotFound || kind == errand.Conflict {
			return err
		}
		s.Log.Error("cannot "+what+"; trying again", "setup", id, "in", pause.Next(), "error", err)
		if !pause.Wait(ctx.Done()) {
			return ctx.Err()
		}
	}
}

// take works on a setup, unless somebody does.
func (s *Setups) take(ctx context.Context, id errand.SetupID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.active[id]; ok {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	a := &attempt{cancel, make(chan struct{})}
	s.active[id] = a
	s.work.Go(func() {
		defer cancel(nil)
		s.drive(ctx, id)
		s.letGo(id, a)
	})
}

// letGo notes that an attempt has ended.
func (s *Setups) letGo(id errand.SetupID, a *attempt) {
	s.mu.Lock()
	delete(s.active, id)
	s.mu.Unlock()
	close(a.done)
	s.nudge() // it may have become busy again meanwhile
}

// nudge makes Run look again.
func (s *Setups) nudge() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// drive does what a setup's status asks for until it waits for people again.
func (s *Setups) drive(ctx context.Context, id errand.SetupID) {
	for ctx.Err() == nil {
		var setup errand.Setup
		err := s.insist(ctx, id, "read a setup", func() (err error) {
			setup, err = s.Store.Setup(ctx, id)
			return err
		})
		if err != nil || !setup.Status.Busy() {
			return
		}
		err = s.step(ctx, &setup)
		if ctx.Err() != nil {
			return // the step is entered again, or nobody wants it any more
		}
		if err != nil {
			s.failed(ctx, setup, err)
		}
	}
}

// step does one status' work and writes the next status.
func (s *Setups) step(ctx context.Context, setup *errand.Setup) error {
	switch setup.Status {
	case errand.SetupSurveying:
		return s.survey(ctx, setup)
	case errand.SetupOpening:
		return s.open(ctx, setup)
	case errand.SetupWorking:
		return s.letWork(ctx, setup)
	case errand.SetupProving:
		return s.prove(ctx, setup)
	default:
		return s.write(ctx, setup)
	}
}

// failed leads a setup back to where people decide, with the error. What cannot
// be written is no reason to do the step again: it may have made machines.
func (s *Setups) failed(ctx context.Context, setup errand.Setup, err error) {
	e := *errand.AsError(err)
	if e.Kind == errand.Internal {
		s.Log.Error("a setup's step failed", "setup", setup.ID, "status", setup.Status, "error", err)
		e.Message += ". The server's log says more; try the step again."
	}
	next := errand.SetupProposed
	if setup.Status == errand.SetupWriting && proved(setup) {
		next = errand.SetupProved
	}
	setup.Error = s.redacted(&e)
	put := func() error { return s.put(ctx, &setup, next, "") }
	if err := s.insist(ctx, setup.ID, "write a setup's failure", put); errand.KindOf(err) == errand.Conflict {
		s.Log.Warn("a setup stands otherwise than the step that failed", "setup", setup.ID, "error", err)
	}
}

// proved says whether the latest proof is of the draft as it stands.
func proved(setup errand.Setup) bool {
	p := setup.Proof
	return p != nil && p.OK && p.Draft == setup.Draft && p.Verify == setup.Verify
}

// redacted gives an error as it may stand in a row, which does not pass the
// journal.
func (s *Setups) redacted(e *errand.Error) *errand.Error {
	if e == nil {
		return nil
	}
	clean := *e
	clean.Message, clean.Output, clean.Err = s.Redactor.String(e.Message), s.Redactor.String(e.Output), nil
	return &clean
}

// put writes a setup's next status with what else changed, and tells it. What
// was deleted meanwhile is NotFound, and what stands otherwise than setup says a
// Conflict. After an error setup is as it was.
func (s *Setups) put(ctx context.Context, setup *errand.Setup, next errand.SetupStatus, what string) error {
	written := *setup
	_, err := s.Journal.Decide(ctx, func(t *journal.Tx) error {
		now, err := t.Setup(ctx, setup.ID)
		if err != nil {
			return err
		}
		changed := !now.Status.Busy() && !now.UpdatedAt.Equal(setup.UpdatedAt)
		if changed || now.Status != setup.Status || now.Status != next && !now.Status.MayBecome(next) {
			return errand.Errorf(errand.Conflict, "setup_busy", "Setup %s is %s now; look at it again: errand setup show %s", setup.ID, now.Status, setup.ID)
		}
		written.Status, written.UpdatedAt = next, t.Now()
		if err := t.UpdateSetup(written); err != nil {
			return err
		}
		return t.Tell(setup.ID, "", errand.Fact{Kind: errand.EventSetupChanged, Data: errand.SetupChanged{
			Status: next, Error: setup.Error, What: what, Machine: setup.Machine,
		}})
	})
	if err == nil {
		*setup = written
	}
	return err
}

// keep writes what changed of a setup within a step.
func (s *Setups) keep(ctx context.Context, setup *errand.Setup) error {
	return s.Store.Write(ctx, func(t *store.Tx) error {
		if _, err := t.Setup(ctx, setup.ID); err != nil {
			return err
		}
		return t.UpdateSetup(*setup)
	})
}

// phase does one piece of a step between the events that open and close it. do
// gives a note for people.
func (s *Setups) phase(ctx context.Context, id errand.SetupID, phase errand.Phase, do func() (string, error)) error {
	if _, err := s.Journal.Append(ctx, id, "", errand.Fact{Kind: errand.EventPhaseStarted, Data: errand.PhaseStarted{Phase: phase}}); err != nil {
		return err
	}
	began := time.Now()
	note, err := do()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, told := s.Journal.Append(ctx, id, "", errand.Fact{Kind: errand.EventPhaseEnded, Data: errand.PhaseEnded{
		Phase: phase, DurationMs: time.Since(began).Milliseconds(), Note: note, Error: errand.AsError(err),
	}})
	return errors.Join(err, told)
}
