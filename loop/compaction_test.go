package loop_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/anthropic"
	"github.com/errand-dev/errand/loop"
)

// long is a script whose first command prints more than a small window holds.
// The summary is asked for as a follow-up; what comes after it is a conversation
// that begins with the prompt and the summary.
const long = `{"conversations":[
 {"match":"your own summary","turns":[
  {"calls":[{"name":"run_terminal_cmd","args":{"command":"echo after >> counter"}}]},
  {"calls":[{"name":"finish","args":{"summary":"Did it."}}]}]},
 {"match":"do it","turns":[
  {"calls":[{"name":"run_terminal_cmd","args":{"command":"echo before >> counter; seq 1 6000"}}],"usage":{"input":100,"output":10}}],
  "followUps":[{"match":"will be replaced by a summary","turns":[{"text":"SUMMARY: counted to 6000.","usage":{"input":7000,"output":20},"faults":[TOOLONG{"times":1,"status":529,"message":"busy"}]}]}]}
]}`

func (b *bench) smallWindow(j *book) loop.Options {
	o := b.options(j)
	o.Entry.Window, o.Entry.MaxOutput = 8000, 1000
	return o
}

func TestCompaction(t *testing.T) {
	b := newBench(t, strings.ReplaceAll(long, "TOOLONG", ""))
	j := newBook("run-1", "Please do it.")
	out, err := loop.Run(t.Context(), b.smallWindow(j))
	if err != nil || out.Result != "Did it." {
		t.Fatalf("got %+v, %v", out, err)
	}
	c := last[errand.Compacted](t, j, errand.EventCompacted)
	if c.Summary != "SUMMARY: counted to 6000." || c.Usage.Input != 7000 || c.TokensBefore < 6400 || c.Turn != 2 {
		t.Errorf("wrong event: %+v", c)
	}
	if out.Usage.Input < 7100 {
		t.Errorf("the summary's usage is not counted: %+v", out.Usage)
	}
	if n := last[errand.Notice](t, j, errand.EventNotice); !strings.Contains(n.Text, "busy") {
		t.Errorf("the retry is not told: %+v", n)
	}
	if got := b.read("counter"); got != "before\nafter\n" {
		t.Errorf("counter is %q", got)
	}
}

// The provider says that the conversation is too long, though the window that we
// know of is larger: it is compacted, also where it is too long for that.
func TestCompactionWhenRefused(t *testing.T) {
	tooLong := `{"times":TIMES,"status":400,"type":"invalid_request_error","message":"prompt is too long: 9000 tokens > 8000 maximum"}`
	script := strings.ReplaceAll(long, "TOOLONG", strings.Replace(tooLong, "TIMES", "1", 1)+",")
	script = strings.Replace(script, `"usage":{"input":100,"output":10}}]`,
		`"usage":{"input":100,"output":10}},{"text":"never","faults":[`+strings.Replace(tooLong, "TIMES", "0", 1)+`]}]`, 1)
	b := newBench(t, script)
	j := newBook("run-1", "Please do it.")
	out, err := loop.Run(t.Context(), b.options(j))
	if err != nil || out.Result != "Did it." {
		t.Fatalf("got %+v, %v", out, err)
	}
	if c := last[errand.Compacted](t, j, errand.EventCompacted); c.Summary == "" {
		t.Error("no summary")
	}
}

// A prompt that alone is too long ends with words that say so.
func TestTooLong(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[{"text":"x","faults":[{"status":400,"type":"invalid_request_error","message":"prompt is too long: 9000 tokens > 8000 maximum"}]}]}]}`)
	j := newBook("run-1", "go")
	o := b.options(j)
	o.Model = anthropic.New(anthropic.Options{Key: "test-key", BaseURL: b.url, Model: o.Entry})
	_, err := loop.Run(t.Context(), o)
	if e := errand.AsError(err); e == nil || e.Code != "context_too_long" {
		t.Fatalf("got %v", err)
	}
}

// Killed at any record of a run that is compacted.
func TestCompactionKilledAnywhere(t *testing.T) {
	b := newBench(t, strings.ReplaceAll(long, "TOOLONG", ""))
	whole := newBook("run-whole", "Please do it.")
	if _, err := loop.Run(t.Context(), b.smallWindow(whole)); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= whole.records; at++ {
		own := *b
		own.root = t.TempDir()
		j := newBook(errand.RunID("run-"+string(rune('a'+at))), "Please do it.")
		j.revive(at, at%2 == 0)
		if _, err := loop.Run(t.Context(), own.smallWindow(j)); err == nil {
			t.Fatalf("cut %d: nothing was cut", at)
		}
		j.revive(0, false)
		out, err := loop.Run(t.Context(), own.smallWindow(j))
		if err != nil || out.Result != "Did it." {
			t.Fatalf("cut %d: %+v, %v", at, out, err)
		}
		if got := own.read("counter"); got != "before\nafter\n" {
			t.Errorf("cut %d: counter is %q", at, got)
		}
	}
}

// What is not a whole summary replaces nothing: it is asked for again, and a cut
// one with more room.
func TestCompactionTakesOnlyASummary(t *testing.T) {
	script := func(answers ...string) string {
		var followUps []string
		for _, a := range answers {
			followUps = append(followUps, `{"match":`+a+`}`)
		}
		return strings.ReplaceAll(strings.Replace(long,
			`{"match":"will be replaced by a summary",`, strings.Join(append(followUps, `{"match":"will be replaced by a summary",`), ","), 1), "TOOLONG", "")
	}
	const (
		call    = `{"text":"Let me run the tests first.","calls":[{"name":"run_terminal_cmd","args":{"command":"make test"}}],"usage":{"input":1000,"output":1}}`
		cut     = `{"text":"SUMMARY: counted to a number that is cut.","stop":"length","usage":{"input":1000,"output":1}}`
		refused = `{"text":"I cannot help with that.","stop":"refusal","usage":{"input":1000,"output":1}}`
	)
	for name, answer := range map[string]string{"a tool call": call, "a cut one": cut, "a refusal": refused} {
		t.Run(name, func(t *testing.T) {
			// The first request alone ends with the words of the list.
			b := newBench(t, script(`"Leave out what no longer matters.$","turns":[`+answer+`]`))
			j := newBook("run-1", "Please do it.")
			out, err := loop.Run(t.Context(), b.smallWindow(j))
			if err != nil || out.Result != "Did it." {
				t.Fatalf("got %+v, %v", out, err)
			}
			c := last[errand.Compacted](t, j, errand.EventCompacted)
			if c.Summary != "SUMMARY: counted to 6000." || c.Usage.Input != 8000 {
				t.Errorf("wrong event: %+v", c)
			}
		})
		t.Run(name+" each time", func(t *testing.T) {
			b := newBench(t, script(`"will be replaced by a summary","repeat":true,"turns":[`+answer+`]`))
			j := newBook("run-1", "Please do it.")
			o := b.smallWindow(j)
			model := &asked{Model: o.Model}
			o.Model = model
			_, err := loop.Run(t.Context(), o)
			if e := errand.AsError(err); e == nil || e.Code != "context_too_long" {
				t.Errorf("got %v", err)
			}
			want := []int{1000, 8 << 10, 8 << 10, 8 << 10}
			if answer == cut {
				want = []int{1000, 8 << 10, 16 << 10, 32_000}
			}
			var room []int
			for _, req := range model.requests {
				room = append(room, req.MaxOutput)
			}
			if !slices.Equal(room, want) {
				t.Errorf("room for the answers was %v, want %v", room, want)
			}
			if n := len(j.told(errand.EventCompacted)); n != 0 {
				t.Errorf("compacted %d times by an answer that is no summary", n)
			}
		})
	}
}

// asked is a model that keeps the requests it got.
type asked struct {
	llm.Model
	requests []*llm.Request
}

func (m *asked) Do(ctx context.Context, req *llm.Request, emit func(llm.Delta)) (*llm.Response, error) {
	m.requests = append(m.requests, req)
	return m.Model.Do(ctx, req, emit)
}
