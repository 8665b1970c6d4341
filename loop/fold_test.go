package loop

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/tool"
)

// pages writes events.
type pages []errand.Event

func (p *pages) add(run errand.RunID, kind errand.EventKind, data any) {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	*p = append(*p, errand.Event{Seq: errand.Seq(len(*p) + 1), Run: run, Kind: kind, Data: raw})
}

func (p *pages) queued(run errand.RunID, text string) {
	p.add(run, errand.EventRunQueued, errand.RunQueuedData{Prompt: errand.Prompt{Text: text}})
}

func (p *pages) status(run errand.RunID, s errand.RunStatus) {
	p.add(run, errand.EventRunStatus, errand.RunStatusData{Status: s})
}

func (p *pages) started(run errand.RunID, turn, attempt int) {
	p.add(run, errand.EventTurnStarted, errand.TurnStarted{Turn: turn, Attempt: attempt})
}

func (p *pages) ended(run errand.RunID, turn int, stop llm.Stop, blocks ...llm.Block) {
	p.started(run, turn, 1)
	m, _ := json.Marshal(llm.Message{Role: llm.Assistant, Blocks: blocks})
	p.add(run, errand.EventTurnEnded, errand.TurnEnded{
		Turn: turn, Attempt: 1, Message: m, Stop: string(stop), Usage: errand.Usage{Input: 100, Output: 10},
	})
}

func (p *pages) called(run errand.RunID, turn int, id string) {
	p.add(run, errand.EventToolCalled, errand.ToolCalled{Turn: turn, Call: id, Op: "op-" + id, Boot: "b"})
}

func (p *pages) result(run errand.RunID, turn int, id, output string, failed bool) {
	p.add(run, errand.EventToolEnded, errand.ToolEnded{Turn: turn, Call: id, Op: "op-" + id, Name: "t", Output: output, IsError: failed})
}

func says(text string) llm.Block { return llm.Block{Type: llm.Text, Text: text} }

func calls(id string) llm.Block {
	return llm.Block{Type: llm.ToolCall, Call: id, Name: "t", Args: json.RawMessage(`{"a":1}`)}
}

// short writes messages as one line each.
func short(messages []llm.Message) []string {
	var out []string
	for _, m := range messages {
		var parts []string
		for _, b := range m.Blocks {
			switch b.Type {
			case llm.ToolCall:
				parts = append(parts, "call "+b.Call)
			case llm.ToolResult:
				parts = append(parts, fmt.Sprintf("result %s %s", b.Call, b.Text))
			case llm.Image:
				parts = append(parts, "image")
			default:
				parts = append(parts, b.Text)
			}
		}
		out = append(out, string(m.Role)+": "+strings.Join(parts, " | "))
	}
	return out
}

func TestFold(t *testing.T) {
	tests := []struct {
		name  string
		write func(p *pages)
		run   errand.RunID
		want  []string
		check func(t *testing.T, c Conversation)
	}{
		{"a prompt", func(p *pages) {
			p.queued("r1", "go")
		}, "r1", []string{"user: go"}, func(t *testing.T, c Conversation) {
			if c.Turn != 0 || c.Done || c.Open {
				t.Errorf("wrong: %+v", c)
			}
		}},
		{"a run that is done", func(p *pages) {
			p.queued("r1", "go")
			p.status("r1", errand.RunRunning)
			p.ended("r1", 1, llm.StopTools, says("look"), calls("c1"), calls("c2"))
			p.called("r1", 1, "c1")
			p.result("r1", 1, "c1", "one", false)
			p.result("r1", 1, "c2", "", false)
			p.ended("r1", 2, llm.StopEnd, says("done"))
		}, "r1", []string{
			"user: go", "assistant: look | call c1 | call c2", "user: result c1 one | result c2 (no output)", "assistant: done",
		}, func(t *testing.T, c Conversation) {
			if !c.Done || c.Finished || c.Result != "done" || c.Turn != 2 || c.Usage.Input != 200 || c.Tokens != 110 || c.Fresh != 0 {
				t.Errorf("wrong: %+v", c)
			}
		}},
		{"finished by the tool", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopTools, calls("c1"))
			p.add("r1", errand.EventToolEnded, errand.ToolEnded{Turn: 1, Call: "c1", Name: tool.Finish, Output: "ok", Result: json.RawMessage(`{"summary":"all done"}`)})
		}, "r1", []string{"user: go", "assistant: call c1", "user: result c1 ok"}, func(t *testing.T, c Conversation) {
			if !c.Done || !c.Finished || c.Result != "all done" {
				t.Errorf("wrong: %+v", c)
			}
		}},
		{"calls without results are pending", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopTools, calls("c1"), calls("c2"), calls("c3"))
			p.result("r1", 1, "c1", "one", false)
			p.called("r1", 1, "c2")
		}, "r1", []string{"user: go", "assistant: call c1 | call c2 | call c3", "user: result c1 one"}, func(t *testing.T, c Conversation) {
			want := []Call{
				{Turn: 1, ID: "c2", Op: "op-c2", Name: "t", Args: json.RawMessage(`{"a":1}`), Recorded: true, Boot: "b"},
				{Turn: 1, ID: "c3", Op: "r1.1.2", Name: "t", Args: json.RawMessage(`{"a":1}`)},
			}
			if d := cmp.Diff(want, c.Pending); d != "" {
				t.Errorf("wrong calls (-want +got):\n%s", d)
			}
		}},
		{"what streamed of an attempt that broke is void", func(p *pages) {
			p.queued("r1", "go")
			p.started("r1", 1, 1)
			p.add("r1", errand.EventText, errand.TextData{Turn: 1, Attempt: 1, Text: "half"})
			p.add("r1", errand.EventTurnRetried, errand.TurnRetried{Turn: 1, Attempt: 1})
			p.started("r1", 1, 2)
		}, "r1", []string{"user: go"}, func(t *testing.T, c Conversation) {
			if !c.Open || c.Turn != 1 || c.Attempt != 2 {
				t.Errorf("wrong: %+v", c)
			}
		}},
		{"a follow-up", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopEnd, says("done"))
			p.status("r1", errand.RunFinished)
			p.queued("r2", "more")
		}, "r2", []string{"user: go", "assistant: done", "user: more"}, func(t *testing.T, c Conversation) {
			if c.Done || c.Turn != 0 || c.Usage.Total() != 0 {
				t.Errorf("the second run begins with what the first left: %+v", c)
			}
		}},
		{"a prompt that waits is not told of", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopTools, calls("c1"))
			p.queued("r2", "more")
			p.result("r1", 1, "c1", "one", false)
		}, "r1", []string{"user: go", "assistant: call c1", "user: result c1 one"}, nil},
		{"a prompt that was cancelled while it waited", func(p *pages) {
			p.queued("r1", "go")
			p.queued("r2", "never mind")
			p.queued("r3", "more")
			p.ended("r1", 1, llm.StopEnd, says("done"))
			p.status("r2", errand.RunCancelled)
			p.status("r1", errand.RunFinished)
			p.status("r3", errand.RunPreparing)
		}, "r3", []string{"user: go", "assistant: done", "user: more"}, nil},
		{"a cancelled run with open calls", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopTools, calls("c1"), calls("c2"))
			p.result("r1", 1, "c1", "one", false)
			p.status("r1", errand.RunCancelled)
			p.queued("r2", "more")
		}, "r2", []string{
			"user: go", "assistant: call c1 | call c2", "user: result c1 one | result c2 " + interruptedText + " | more",
		}, nil},
		{"a run that failed before an answer", func(p *pages) {
			p.queued("r1", "go")
			p.started("r1", 1, 1)
			p.status("r1", errand.RunFailed)
			p.queued("r2", "more")
		}, "r2", []string{"user: go | more"}, nil},
		{"an answer that was cut", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopLength, says("half"))
		}, "r1", []string{"user: go", "assistant: half", "user: " + cutNote}, func(t *testing.T, c Conversation) {
			if c.Cut != 1 || c.Done {
				t.Errorf("wrong: %+v", c)
			}
		}},
		{"the note on a cut answer goes when a prompt comes", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopLength, says("half"))
			p.status("r1", errand.RunFailed)
			p.queued("r2", "more")
		}, "r2", []string{"user: go", "assistant: half", "user: more"}, nil},
		{"empty answers", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopEnd)
			p.ended("r1", 2, llm.StopEnd, says(" \n"))
		}, "r1", []string{"user: go | " + emptyNote + " | " + emptyNote}, func(t *testing.T, c Conversation) {
			if c.Empty != 2 || c.Done {
				t.Errorf("wrong: %+v", c)
			}
		}},
		{"the same failure three times", func(p *pages) {
			p.queued("r1", "go")
			for turn := 1; turn <= 3; turn++ {
				id := fmt.Sprint("c", turn)
				p.ended("r1", turn, llm.StopTools, calls(id))
				p.result("r1", turn, id, "no", true)
			}
		}, "r1", []string{
			"user: go", "assistant: call c1", "user: result c1 no", "assistant: call c2", "user: result c2 no",
			"assistant: call c3", "user: result c3 no\n\n" + repeatNote,
		}, func(t *testing.T, c Conversation) {
			if c.Repeats != 3 {
				t.Errorf("repeats is %d", c.Repeats)
			}
		}},
		{"compacted", func(p *pages) {
			p.queued("r0", "before")
			p.ended("r0", 1, llm.StopEnd, says("earlier"))
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopTools, calls("c1"))
			p.result("r1", 1, "c1", strings.Repeat("long ", keepBytes/5), false)
			p.ended("r1", 2, llm.StopTools, calls("c2"))
			p.result("r1", 2, "c2", "short", false)
			p.add("r1", errand.EventCompacted, errand.Compacted{Turn: 3, Summary: "SUM", Usage: errand.Usage{Input: 7}})
		}, "r1", []string{"user: go | " + summaryHead + "SUM", "assistant: call c2", "user: result c2 short"}, func(t *testing.T, c Conversation) {
			if !c.Compacted || c.Tokens != 0 || c.Fresh == 0 || c.Usage.Input != 207 {
				t.Errorf("wrong: %+v", c)
			}
		}},
		{"compacted, and then a follow-up", func(p *pages) {
			p.queued("r1", "go")
			p.ended("r1", 1, llm.StopTools, calls("c1"))
			p.result("r1", 1, "c1", strings.Repeat("x", keepBytes), false)
			p.add("r1", errand.EventCompacted, errand.Compacted{Turn: 2, Summary: "SUM"})
			p.ended("r1", 2, llm.StopEnd, says("done"))
			p.queued("r2", "more")
		}, "r2", []string{"user: go | " + summaryHead + "SUM", "assistant: done", "user: more"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var p pages
			test.write(&p)
			c := Fold(p, test.run)
			if d := cmp.Diff(test.want, short(c.Messages)); d != "" {
				t.Errorf("wrong conversation (-want +got):\n%s", d)
			}
			if test.check != nil {
				test.check(t, c)
			}
		})
	}
}

// Whatever happens in whatever order, a provider takes the conversation: sides
// alternate, the person begins, and every call has its result in the message
// that follows, every result its call.
func TestFoldIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p pages
		run, turn := 1, 0
		id := func() errand.RunID { return errand.RunID(fmt.Sprint("r", run)) }
		p.queued(id(), "prompt")
		open, done := []string{}, false
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			if done {
				// After a last answer nothing comes but another run.
				p.status(id(), errand.RunFinished)
				run, turn, done = run+1, 0, false
				p.queued(id(), "prompt")
			}
			switch rapid.SampledFrom([]string{"answer", "calls", "cut", "empty", "result", "compact", "next", "kill"}).Draw(t, "step") {
			case "answer":
				if len(open) == 0 {
					turn++
					p.ended(id(), turn, llm.StopEnd, says("words"))
					done = true
				}
			case "calls":
				if len(open) == 0 {
					turn++
					var blocks []llm.Block
					for i := range rapid.IntRange(1, 3).Draw(t, "calls") {
						open = append(open, fmt.Sprintf("%s.%d.%d", id(), turn, i))
						blocks = append(blocks, calls(open[i]))
					}
					p.ended(id(), turn, llm.StopTools, blocks...)
				}
			case "cut":
				if len(open) == 0 {
					turn++
					p.ended(id(), turn, llm.StopLength, says("half"))
				}
			case "empty":
				if len(open) == 0 {
					turn++
					p.ended(id(), turn, llm.StopEnd)
				}
			case "result":
				if len(open) > 0 {
					p.result(id(), turn, open[0], strings.Repeat("r", rapid.IntRange(0, keepBytes).Draw(t, "size")), rapid.Bool().Draw(t, "failed"))
					open = open[1:]
				}
			case "compact":
				if len(open) == 0 {
					p.add(id(), errand.EventCompacted, errand.Compacted{Turn: turn + 1, Summary: "sum"})
				}
			case "next":
				p.status(id(), errand.RunFailed)
				run, turn, open = run+1, 0, nil
				p.queued(id(), "prompt")
			case "kill":
				turn++
				p.started(id(), turn, 1)
				turn--
			}
		}
		c := Fold(p, id())
		checkSound(t, c)
		if len(c.Pending) != len(open) {
			t.Fatalf("%d calls are pending, want %d", len(c.Pending), len(open))
		}
		for level := range shrinkLevels {
			if len(c.Pending) == 0 {
				checkSound(t, Conversation{Messages: shrink(c.Messages, level)})
			}
		}
	})
}

func checkSound(t *rapid.T, c Conversation) {
	pending := map[string]bool{}
	for _, p := range c.Pending {
		pending[p.ID] = true
	}
	var open map[string]bool
	for i, m := range c.Messages {
		if want := []llm.Role{llm.User, llm.Assistant}[i%2]; m.Role != want || len(m.Blocks) == 0 {
			t.Fatalf("message %d is from %s with %d blocks:\n%s", i, m.Role, len(m.Blocks), strings.Join(short(c.Messages), "\n"))
		}
		for _, b := range m.Blocks {
			switch {
			case b.Type == llm.ToolResult && (!open[b.Call] || b.Text == ""):
				t.Fatalf("result %s has no call or no text:\n%s", b.Call, strings.Join(short(c.Messages), "\n"))
			case b.Type == llm.ToolResult:
				delete(open, b.Call)
			}
		}
		for id := range open {
			if !pending[id] {
				t.Fatalf("call %s has no result:\n%s", id, strings.Join(short(c.Messages), "\n"))
			}
		}
		open = map[string]bool{}
		for _, b := range m.Blocks {
			if b.Type == llm.ToolCall {
				open[b.Call] = true
			}
		}
	}
}

func TestThreshold(t *testing.T) {
	tests := []struct{ window, output, want int64 }{
		{200_000, 8_000, 160_000},
		{200_000, 64_000, 136_000},
		{8_000, 8_000, 6_400},
		{0, 0, 102_400},
	}
	for _, test := range tests {
		if got := threshold(test.window, test.output); got != test.want {
			t.Errorf("threshold(%d, %d) = %d, want %d", test.window, test.output, got, test.want)
		}
	}
}

func BenchmarkFold(b *testing.B) {
	var p pages
	p.queued("r1", "go")
	for turn := 1; turn <= 1000; turn++ {
		id := fmt.Sprint("c", turn)
		p.started("r1", turn, 1)
		for range 20 {
			p.add("r1", errand.EventText, errand.TextData{Turn: turn, Attempt: 1, Text: "some words of an answer"})
		}
		p.ended("r1", turn, llm.StopTools, calls(id))
		p.called("r1", turn, id)
		p.result("r1", turn, id, strings.Repeat("output ", 500), false)
	}
	b.ReportAllocs()
	for b.Loop() {
		Fold(p, "r1")
	}
}
