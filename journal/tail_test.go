package journal_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/secret"
)

// TestManyFollow: what is written is read from the store by none of two hundred
// who follow, and each gets all of it, in order.
func TestManyFollow(t *testing.T) {
	j, _, id := open(t, &secret.Redactor{})
	const followers, events = 200, 100
	var ready, done sync.WaitGroup
	append1 := func(text string) {
		t.Helper()
		if _, err := j.Append(t.Context(), id, "", note(text)); err != nil {
			t.Fatal(err)
		}
	}
	append1("the first")
	for range followers {
		ready.Add(1)
		done.Go(func() {
			next := errand.Seq(1)
			for e, err := range j.Follow(t.Context(), id, 0) {
				if err != nil || e.Seq != next {
					t.Errorf("got event %d, %v; want %d", e.Seq, err, next)
					return
				}
				if next == 1 {
					ready.Done()
				}
				if next++; next > events {
					return
				}
			}
		})
	}
	ready.Wait()
	before := journal.Reads(j)
	for n := range events - 1 {
		append1(fmt.Sprint(n))
	}
	done.Wait()
	// Whoever was not waiting yet when the first of them was written reads once.
	if reads := journal.Reads(j) - before; reads > followers {
		t.Errorf("%d followers of %d events read the store %d times", followers, events, reads)
	}
}

// TestFarBehind: one that reads slowly gets what the tail no longer has, and large
// events, from the store.
func TestFarBehind(t *testing.T) {
	j, _, id := open(t, &secret.Redactor{})
	const events = 600
	if _, err := j.Append(t.Context(), id, "", note("the first")); err != nil {
		t.Fatal(err)
	}
	next := errand.Seq(1)
	for e, err := range j.Follow(t.Context(), id, 0) {
		if err != nil || e.Seq != next {
			t.Fatalf("got event %d, %v; want %d", e.Seq, err, next)
		}
		if next == 1 {
			for n := range events - 1 {
				text := fmt.Sprint(n)
				if n%100 == 50 {
					text = strings.Repeat("x", 2<<20)
				}
				if _, err := j.Append(t.Context(), id, "", note(text)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if next++; next > events {
			return
		}
	}
}
