// Package journal is the one road on which facts go up: events are numbered,
// redacted, kept and only then seen.
//
// A decision and the events that tell of it are written in one transaction
// (Decide). Whoever wants to know follows: Follow reads what is there and waits
// for more, so that a reader that comes late, or again after a break, sees the
// same events in the same order as one that was there all the time.
//
// The journal does not interpret events. Screens, streams and conversations are
// folds over it, made elsewhere.
package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// Journal appends events and wakes those who follow. It may be used from many
// goroutines.
type Journal struct {
	store    *store.Store
	redactor *secret.Redactor

	mu    sync.Mutex
	tails map[string]*tail // of the journals that somebody follows
	any   chan struct{}    // closed at each event of any journal
	reads atomic.Int64     // of the store by those who follow, for tests
}

// New gives the journal over s. Every event passes redactor before it is kept.
func New(s *store.Store, redactor *secret.Redactor) *Journal {
	return &Journal{store: s, redactor: redactor, tails: map[string]*tail{}}
}

// Tx is a decision under way: a transaction that may also tell events.
type Tx struct {
	*store.Tx
	journal *Journal
	written []errand.Event
}

// Decide runs f in one transaction and gives the events that it told, as they
// were kept. Followers see them when, and only if, the transaction is
// committed.
func (j *Journal) Decide(ctx context.Context, f func(*Tx) error) ([]errand.Event, error) {
	var written []errand.Event
	err := j.store.Write(ctx, func(t *store.Tx) error {
		tx := &Tx{Tx: t, journal: j}
		err := f(tx)
		written = tx.written
		return err
	})
	if err != nil {
		return nil, err
	}
	j.wake(written)
	return written, nil
}

// Tell appends facts to the journal of an agent or a build as events of run (""
// for none).
func (t *Tx) Tell(of errand.Subject, run errand.RunID, facts ...errand.Fact) error {
	if len(facts) == 0 {
		return nil
	}
	events := make([]errand.Event, len(facts))
	for i, f := range facts {
		data, err := json.Marshal(f.Data)
		if err != nil {
			return fmt.Errorf("writing a %s event: %w", f.Kind, err)
		}
		events[i] = errand.Event{Run: run, Kind: f.Kind, Data: t.journal.redactor.JSON(data)}
	}
	if err := t.AppendEvents(of, events); err != nil {
		return err
	}
	t.written = append(t.written, events...)
	return nil
}

// Append tells facts in a transaction of their own and gives the events as they
// were kept.
func (j *Journal) Append(ctx context.Context, of errand.Subject, run errand.RunID, facts ...errand.Fact) ([]errand.Event, error) {
	if len(facts) == 0 {
		return nil, nil
	}
	return j.Decide(ctx, func(t *Tx) error { return t.Tell(of, run, facts...) })
}

// AppendConnections tells connections of a machine, which belong to no run.
func (j *Journal) AppendConnections(ctx context.Context, of errand.Subject, connections []errand.Connection) error {
	facts := make([]errand.Fact, len(connections))
	for i, c := range connections {
		facts[i] = errand.Fact{Kind: errand.EventConnection, Data: c}
	}
	_, err := j.Append(ctx, of, "", facts...)
	return err
}

func (j *Journal) wake(events []errand.Event) {
	if len(events) == 0 {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	woken := map[*tail]bool{}
	for _, e := range events {
		of := string(e.Agent) + string(e.Build) + string(e.Setup) // all but one are ""
		if t := j.tails[of]; t != nil {
			t.add(e)
			woken[t] = true
		}
	}
	for t := range woken {
		t.wake()
	}
	j.wakeAny()
}

// wakeAny wakes those who wait for any event. The caller holds mu.
func (j *Journal) wakeAny() {
	if j.any != nil {
		close(j.any)
		j.any = nil
	}
}

// Changed gives a channel that is closed at the next event of any journal.
func (j *Journal) Changed() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.any == nil {
		j.any = make(chan struct{})
	}
	return j.any
}

// page is how many events are read at once.
const page = 500

// Follow gives a journal's events after a number, first those that are there,
// then each as it is written, until ctx ends. A follower that reads slowly holds
// nobody up; what is new is read from the store for none of those who keep up.
// When the journal's subject is deleted the sequence ends; where it cannot be read
// an error is the last that it gives.
func (j *Journal) Follow(ctx context.Context, of errand.Subject, after errand.Seq) iter.Seq2[errand.Event, error] {
	return func(yield func(errand.Event, error) bool) {
		t := j.join(of.Journal())
		defer j.leave(of.Journal(), t)
		for {
			events, more, known := j.newer(t, after) // more before reading, so that nothing falls between
			if !known {
				j.reads.Add(1)
				var err error
				if events, err = j.store.Events(ctx, of, after, page); err != nil {
					yield(errand.Event{}, err)
					return
				}
			}
			for _, e := range events {
				after = e.Seq
				if !yield(e, nil) {
					return
				}
			}
			if len(events) == page {
				continue
			}
			if len(events) == 0 && !known {
				there, err := j.store.HasSubject(ctx, of)
				if err != nil {
					yield(errand.Event{}, err)
					return
				}
				if !there {
					return // deleted
				}
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Deleted wakes the followers of a journal whose subject is gone.
func (j *Journal) Deleted(of errand.Subject) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t := j.tails[of.Journal()]; t != nil {
		t.forget()
		t.wake()
	}
	j.wakeAny()
}

// All gives every event of a journal that is there now, oldest first.
func (j *Journal) All(ctx context.Context, of errand.Subject) ([]errand.Event, error) {
	var all []errand.Event
	for after := errand.Seq(0); ; {
		events, err := j.store.Events(ctx, of, after, page)
		if err != nil {
			return nil, err
		}
		all = append(all, events...)
		if len(events) < page {
			return all, nil
		}
		after = events[len(events)-1].Seq
	}
}
