package handover_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/handover"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func ended(change func(*errand.TakeoverEnded)) string {
	e := errand.TakeoverEnded{Number: 1, Holder: errand.Caller{Key: "k", Name: "Ada"}, Since: noon, Ending: errand.Ending{Caller: errand.Caller{Key: "k", Name: "Ada"}, Why: errand.EndingHandback}}
	change(&e)
	return handover.Summary(e, noon.Add(17*time.Minute))
}

// TestSummary is what the model is told, in the parts that a person's work has.
func TestSummary(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*errand.TakeoverEnded)
		want   []string
	}{
		"nothing":       {func(*errand.TakeoverEnded) {}, []string{"[Ada took this machine over at 12:00 UTC and handed it back, 17m0s later.", "They changed no files and ran no commands"}},
		"a note":        {func(e *errand.TakeoverEnded) { e.Ending.Note = "Look at main.go." }, []string{"They say:\nLook at main.go.\n"}},
		"its time over": {func(e *errand.TakeoverEnded) { e.Ending = errand.Ending{Why: errand.EndingLimit} }, []string{"did not hand it back in time: it was handed back by itself, 17m0s later"}},
		"another":       {func(e *errand.TakeoverEnded) { e.Ending.Caller.Name = "Grace" }, []string{"and Grace handed it back,"}},
		"cancelled":     {func(e *errand.TakeoverEnded) { e.Ending.Why = errand.EndingCancel }, []string{"the run was cancelled by Ada"}},
		"a problem":     {func(e *errand.TakeoverEnded) { e.Changed.Problem = "git is broken." }, []string{"Not all of it is known. git is broken."}},
		"a new history": {func(e *errand.TakeoverEnded) { e.Changed.Rewritten, e.Changed.Head = true, "abc" }, []string{"It is no branch now, at abc."}},
		"a cut patch":   {func(e *errand.TakeoverEnded) { e.Changed = long() }, []string{"- added f0, +1 -0\n", "- and 240 more\n", "It is longer than this. All of it: git diff a b\n"}},
		"many commands": {func(e *errand.TakeoverEnded) { e.Changed = long() }, []string{"- 20 earlier ones are left out\n", "- in terminal desk: make 79"}},
		"a shell's text": {func(e *errand.TakeoverEnded) {
			e.Changed.Screens = []errand.TakenScreen{{Terminal: "sh", Text: "$ ls"}}
		}, []string{"Terminal sh showed meanwhile:\n$ ls"}},
	} {
		got := ended(test.change)
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: it does not say %q:\n%s", name, want, got)
			}
		}
		if len(got) > 64<<10 {
			t.Errorf("%s: it has %d bytes", name, len(got))
		}
	}
}

// long is more than the model is told.
func long() (c errand.Changes) {
	for n := range 300 {
		c.Files = append(c.Files, errand.ChangedFile{Path: fmt.Sprintf("f%d", n), Status: "added", Added: 1})
		c.Patch += fmt.Sprintf("+%0200d\n", n)
	}
	for n := range 80 {
		c.Commands = append(c.Commands, errand.TakenCommand{Where: "desk", Text: fmt.Sprintf("make %d", n)})
	}
	c.PatchCut, c.Whole = true, "git diff a b"
	return c
}

// TestReminder: at half of the time, and shortly before its end.
func TestReminder(t *testing.T) {
	for _, test := range []struct {
		length time.Duration
		before []time.Duration
	}{{4 * time.Hour, []time.Duration{2 * time.Hour, 5 * time.Minute}}, {10 * time.Minute, []time.Duration{5 * time.Minute, time.Minute}}} {
		held := errand.Takeover{Until: noon}
		for _, before := range test.before {
			if at, ok := handover.Reminder(held, test.length); !ok || !at.Equal(noon.Add(-before)) {
				t.Errorf("of %s, reminder %d is at %s, %t", test.length, held.Reminded+1, at, ok)
			}
			held.Reminded++
		}
		if _, ok := handover.Reminder(held, test.length); ok {
			t.Errorf("of %s, there is one more reminder", test.length)
		}
	}
}
