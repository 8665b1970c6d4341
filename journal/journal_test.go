package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

func open(t *testing.T, r *secret.Redactor) (*journal.Journal, *store.Store, errand.AgentID) {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	id := errand.NewAgentID()
	if err := s.Write(t.Context(), func(tx *store.Tx) error {
		return tx.InsertAgent(errand.Agent{ID: id, CreatedAt: time.Now(), UpdatedAt: time.Now()}, "")
	}); err != nil {
		t.Fatal(err)
	}
	return journal.New(s, r), s, id
}

func note(text string) errand.Fact {
	return errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Level: "info", Text: text}}
}

// TestFollowersMissNothing writes from several goroutines while readers join at
// any time: each must see every event once and in order.
func TestFollowersMissNothing(t *testing.T) {
	j, _, id := open(t, &secret.Redactor{})
	const writers, each, readers = 4, 300, 8
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			next := errand.Seq(1)
			for e, err := range j.Follow(t.Context(), id, 0) {
				if err != nil || e.Seq != next {
					t.Errorf("got event %d, %v; want %d", e.Seq, err, next)
					return
				}
				if next++; next > writers*each {
					return
				}
			}
			t.Errorf("the sequence ended at %d", next)
		})
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := j.Append(t.Context(), id, "", note(fmt.Sprint(w, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestFollowOfADeletedAgentEnds begins to follow when the agent is gone already.
func TestFollowOfADeletedAgentEnds(t *testing.T) {
	j, s, id := open(t, &secret.Redactor{})
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.DeleteAgent(id) }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for e, err := range j.Follow(ctx, id, 0) {
		t.Errorf("got %+v, %v", e, err)
	}
	if ctx.Err() != nil {
		t.Error("the sequence did not end")
	}
}

func TestFollowEndsWithItsContextAndItsAgent(t *testing.T) {
	j, s, id := open(t, &secret.Redactor{})
	if _, err := j.Append(t.Context(), id, "", note("one")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range j.Follow(ctx, id, 0) {
		cancel()
	}
	seen := make(chan errand.Seq, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for e := range j.Follow(t.Context(), id, 0) {
			seen <- e.Seq
		}
	}()
	<-seen
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.DeleteAgent(id) }); err != nil {
		t.Fatal(err)
	}
	j.Deleted(id)
	<-ended
}

func TestNothingIsToldOfADecisionThatFailed(t *testing.T) {
	j, _, id := open(t, &secret.Redactor{})
	no := errors.New("no")
	_, err := j.Decide(t.Context(), func(tx *journal.Tx) error { return errors.Join(tx.Tell(id, "", note("lie")), no) })
	if !errors.Is(err, no) {
		t.Fatalf("Decide gave %v", err)
	}
	all, err := j.All(t.Context(), id)
	if err != nil || len(all) != 0 {
		t.Errorf("the journal has %d events, %v", len(all), err)
	}
}

func TestSecretsDoNotReachTheJournal(t *testing.T) {
	var r secret.Redactor
	const value = "hunter2-\"quoted\"\nsecret"
	r.Add(value)
	j, _, id := open(t, &r)
	events, err := j.Append(t.Context(), id, "", note("it is "+value+"."))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := j.All(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range append(events, kept...) {
		var n errand.Notice
		if err := json.Unmarshal(e.Data, &n); err != nil {
			t.Fatalf("%v in %s", err, e.Data)
		}
		if n.Text != "it is "+secret.Redacted+"." || strings.Contains(string(e.Data), "hunter2") {
			t.Errorf("the journal has %q", n.Text)
		}
	}
}
