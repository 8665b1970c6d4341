package loop

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

func (p *pages) handedBack(text string) {
	p.add("", errand.EventTakeoverEnded, errand.TakeoverEnded{Number: 1, Summary: text})
}

// TestFoldTakeover: what a person did is told once all calls of the answer have a
// result; calls that had not begun are not carried out; and a request that was
// under way did not know of it.
func TestFoldTakeover(t *testing.T) {
	work := func(p *pages) {
		p.queued("r1", "go")
		p.status("r1", errand.RunRunning)
	}
	for _, c := range []struct {
		name    string
		write   func(p *pages)
		want    []string
		pending int
		done    bool
	}{
		{"between turns", func(p *pages) {
			work(p)
			p.ended("r1", 1, llm.StopTools, calls("a"))
			p.called("r1", 1, "a")
			p.result("r1", 1, "a", "ok", false)
			p.handedBack("they did X")
		}, []string{"user: go", "assistant: call a", "user: result a ok | they did X"}, 0, false},
		{"calls that had not begun", func(p *pages) {
			work(p)
			p.ended("r1", 1, llm.StopTools, calls("a"), calls("b"))
			p.called("r1", 1, "a")
			p.result("r1", 1, "a", "ok", false)
			p.handedBack("they did X")
		}, []string{"user: go", "assistant: call a | call b", "user: result a ok | result b " + takenText + " | they did X"}, 0, false},
		{"a call that goes on", func(p *pages) {
			work(p)
			p.ended("r1", 1, llm.StopTools, calls("a"), calls("b"))
			p.called("r1", 1, "a")
			p.handedBack("they did X")
		}, []string{"user: go", "assistant: call a | call b", "user: result b " + takenText}, 1, false},
		{"and has ended", func(p *pages) {
			work(p)
			p.ended("r1", 1, llm.StopTools, calls("a"), calls("b"))
			p.called("r1", 1, "a")
			p.handedBack("they did X")
			p.result("r1", 1, "a", "late", false)
		}, []string{"user: go", "assistant: call a | call b", "user: result b " + takenText + " | result a late | they did X"}, 0, false},
		{"a request was under way", func(p *pages) {
			work(p)
			p.started("r1", 1, 1)
			p.handedBack("they did X")
			p.add("r1", errand.EventTurnEnded, errand.TurnEnded{Turn: 1, Attempt: 1, Stop: string(llm.StopTools),
				Message: []byte(`{"role":"assistant","blocks":[{"type":"tool_call","call":"a","name":"t","args":{}}]}`)})
		}, []string{"user: go", "assistant: call a", "user: result a " + takenText + " | they did X"}, 0, false},
		{"and it broke", func(p *pages) {
			work(p)
			p.started("r1", 1, 1)
			p.handedBack("they did X")
			p.started("r1", 1, 2)
		}, []string{"user: go | they did X"}, 0, false},
		{"it was done", func(p *pages) {
			work(p)
			p.ended("r1", 1, llm.StopEnd, says("done"))
			p.handedBack("they did X")
		}, []string{"user: go", "assistant: done", "user: they did X"}, 0, false},
		{"between runs", func(p *pages) {
			work(p)
			p.ended("r1", 1, llm.StopEnd, says("done"))
			p.status("r1", errand.RunFinished)
			p.handedBack("they did X")
			p.handedBack("and Y")
			p.queued("r2", "more")
			p.status("r2", errand.RunRunning)
		}, []string{"user: go", "assistant: done", "user: they did X | and Y | more"}, 0, false},
		{"the run was cancelled", func(p *pages) {
			work(p)
			p.ended("r1", 1, llm.StopTools, calls("a"))
			p.called("r1", 1, "a")
			p.status("r1", errand.RunCancelled)
			p.handedBack("they did X")
			p.queued("r2", "more")
			p.status("r2", errand.RunRunning)
		}, []string{"user: go", "assistant: call a", "user: result a " + interruptedText + " | they did X | more"}, 0, false},
		{"before the first run", func(p *pages) {
			p.queued("r1", "go")
			p.handedBack("they did X")
			p.status("r1", errand.RunRunning)
		}, []string{"user: they did X | go"}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pages
			c.write(&p)
			run := errand.RunID("r1")
			if p[len(p)-1].Run == "r2" {
				run = "r2"
			}
			got := Fold(p, run)
			if diff := cmp.Diff(c.want, short(got.Messages)); diff != "" {
				t.Error(diff)
			}
			if len(got.Pending) != c.pending || got.Done != c.done {
				t.Errorf("pending %v, done %t", got.Pending, got.Done)
			}
		})
	}
}
