package loop_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/anthropic"
	"github.com/errand-dev/errand/llm/openai"
	"github.com/errand-dev/errand/llm/scripted"
	"github.com/errand-dev/errand/loop"
	"github.com/errand-dev/errand/tool"
	"github.com/errand-dev/errand/tool/tooltest"
)

// book is a journal in memory that can be cut off as by kill -9.
type book struct {
	mu      sync.Mutex
	run     errand.RunID
	events  []errand.Event
	redact  func(string) string
	records int
	cut     int  // the number of the record at which the process dies; 0 is never
	written bool // it dies after that record was written, not before
	dead    bool
	seen    func(errand.Event) // is told of each event; may be nil
}

var errKilled = errors.New("killed")

func newBook(run errand.RunID, prompt string) *book {
	b := &book{run: run}
	b.Record(context.Background(), errand.Fact{Kind: errand.EventRunQueued, Data: errand.RunQueuedData{Prompt: errand.Prompt{Text: prompt}}})
	b.records = 0
	return b
}

func (b *book) Record(ctx context.Context, facts ...errand.Fact) ([]errand.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records++
	last := b.records == b.cut
	if b.dead || last && !b.written {
		b.dead = true
		return nil, errKilled
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	var events []errand.Event
	for _, f := range facts {
		data, err := json.Marshal(f.Data)
		if err != nil {
			return nil, err
		}
		if b.redact != nil {
			data = []byte(b.redact(string(data)))
		}
		e := errand.Event{Seq: errand.Seq(len(b.events) + len(events) + 1), Run: b.run, Time: time.Now(), Kind: f.Kind, Data: data}
		events = append(events, e)
	}
	b.events = append(b.events, events...)
	if b.seen != nil {
		for _, e := range events {
			b.seen(e)
		}
	}
	if last {
		b.dead = true
		return nil, errKilled
	}
	return events, nil
}

// revive lets a new process write, which dies at the record cut.
func (b *book) revive(cut int, written bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead, b.records, b.cut, b.written = false, 0, cut, written
}

// kinds gives the events of these kinds in a short form.
func (b *book) told(kinds ...errand.EventKind) []string {
	var out []string
	for _, e := range b.events {
		for _, k := range kinds {
			if e.Kind != k {
				continue
			}
			var d struct {
				Turn   int
				Op     string
				Text   string
				Reason string
				Output string
			}
			json.Unmarshal(e.Data, &d)
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %d %s", e.Kind, d.Turn, d.Op)))
		}
	}
	return out
}

func last[T any](t *testing.T, b *book, kind errand.EventKind) (d T) {
	t.Helper()
	for i := len(b.events) - 1; i >= 0; i-- {
		if b.events[i].Kind == kind {
			if err := json.Unmarshal(b.events[i].Data, &d); err != nil {
				t.Fatal(err)
			}
			return d
		}
	}
	t.Fatalf("there is no event %s", kind)
	return d
}

// bench is a loop with a scripted model and a real guest.
type bench struct {
	*testing.T
	guest  *tooltest.Guest
	line   *guest.Line
	root   string
	server *scripted.Server
	url    string
}

func newBench(t *testing.T, script string) *bench {
	t.Helper()
	s, err := scripted.Parse([]byte(script))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, server: scripted.New(s), guest: tooltest.Start(t)}
	web := httptest.NewServer(b.server)
	t.Cleanup(web.Close)
	b.url, b.line, b.root = web.URL, b.guest.Line(), t.TempDir()
	return b
}

var entry = llm.Entry{ID: "scripted", Provider: "anthropic", DisplayName: "Scripted", Window: 100_000, MaxOutput: 4000}

func (b *bench) options(j *book) loop.Options {
	return loop.Options{
		Run:    j.run,
		Model:  anthropic.New(anthropic.Options{Key: "test-key", BaseURL: b.url, Model: entry}),
		Entry:  entry,
		Tools:  tool.New(tool.Options{Line: b.line, Root: b.root, Spill: filepath.Join(b.root, ".spill")}),
		Boot:   b.line.Hello().Boot,
		System: "You are a test.",
		Events: append([]errand.Event(nil), j.events...),
		Record: j.Record,
		Retry:  llm.RetryOptions{Max: 4, Base: time.Millisecond},
	}
}

func (b *bench) read(name string) string {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.root, name))
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}

// work is a script that uses every kind of tool that changes something.
const work = `{"conversations":[{"match":"do it","turns":[
 {"thinking":"Let me see.","text":"I look first.","calls":[
  {"name":"run_terminal_cmd","args":{"command":"echo one >> counter; echo out"}},
  {"name":"write_file","args":{"path":"f.txt","content":"x\n"}},
  {"name":"read_file","args":{"path":"f.txt"}}]},
 {"expect":"1\\|x","calls":[
  {"name":"edit_file","args":{"path":"f.txt","edits":[{"old":"x","new":"xx"}]}},
  {"name":"apply_patch","args":{"patch":"*** Update File: f.txt\n+head\n xx\n"}},
  {"name":"no_such_tool","args":{}},
  {"name":"update_plan","args":{"items":[{"text":"a","status":"done"}]}}]},
 {"expect":"no tool .no_such_tool","calls":[{"name":"run_terminal_cmd","args":{"command":"echo two >> counter; cat f.txt"}}]},
 {"expect":"head\nxx","text":"All done.","calls":[{"name":"finish","args":{"summary":"Did it."}}]}
]}]}`

// models is a client for each dialect.
var models = map[string]func(b *bench) llm.Model{
	"messages": func(b *bench) llm.Model {
		return anthropic.New(anthropic.Options{Key: "test-key", BaseURL: b.url, Model: entry})
	},
	"responses": func(b *bench) llm.Model {
		return openai.NewResponses(openai.Options{Key: "test-key", BaseURL: b.url + "/v1", Model: entry})
	},
	"chat": func(b *bench) llm.Model {
		return openai.NewChat(openai.Options{Key: "test-key", BaseURL: b.url + "/v1", Model: entry})
	},
}

func TestRun(t *testing.T) {
	for name, model := range models {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, work)
			j := newBook("run-1", "Please do it.")
			o := b.options(j)
			o.Model = model(b)
			out, err := loop.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if out.Result != "Did it." || !out.Finished || out.Usage.Output == 0 {
				t.Errorf("wrong outcome: %+v", out)
			}
			if got := b.read("counter"); got != "one\ntwo\n" {
				t.Errorf("counter is %q", got)
			}
			if got := b.read("f.txt"); got != "head\nxx\n" {
				t.Errorf("f.txt is %q", got)
			}
			if d := cmp.Diff(finishedEvents, j.told(errand.EventTurnEnded, errand.EventToolCalled, errand.EventToolEnded, errand.EventPlan)); d != "" {
				t.Errorf("wrong events (-want +got):\n%s", d)
			}
			if text := last[errand.TextData](t, j, errand.EventText); text.Text != "All done." || text.Turn != 4 {
				t.Errorf("wrong last text: %+v", text)
			}
		})
	}
}

var finishedEvents = []string{
	"turn.ended 1",
	"tool.called 1 run-1.1.0", "tool.ended 1 run-1.1.0",
	"tool.called 1 run-1.1.1", "tool.ended 1 run-1.1.1",
	"tool.called 1 run-1.1.2", "tool.ended 1 run-1.1.2",
	"turn.ended 2",
	"tool.called 2 run-1.2.0", "tool.ended 2 run-1.2.0",
	"tool.called 2 run-1.2.1", "tool.ended 2 run-1.2.1",
	"tool.called 2 run-1.2.2", "tool.ended 2 run-1.2.2",
	"tool.called 2 run-1.2.3", "tool.ended 2 run-1.2.3", "plan 0",
	"turn.ended 3",
	"tool.called 3 run-1.3.0", "tool.ended 3 run-1.3.0",
	"turn.ended 4",
	"tool.called 4 run-1.4.0", "tool.ended 4 run-1.4.0",
}

func TestPlainEnd(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[{"text":"It is 42."}]}]}`)
	j := newBook("run-1", "What is it?")
	out, err := loop.Run(t.Context(), b.options(j))
	if err != nil || out.Result != "It is 42." || out.Finished {
		t.Fatalf("got %+v, %v", out, err)
	}
	// Run again on a run that is done asks nobody.
	again, err := loop.Run(t.Context(), b.options(j))
	if err != nil || again != out || len(b.server.Requests()) != 1 {
		t.Errorf("again: %+v, %v, %d requests", again, err, len(b.server.Requests()))
	}
}

func TestFollowUp(t *testing.T) {
	b := newBench(t, `{"conversations":[{"match":"first","turns":[{"text":"One."}],
		"followUps":[{"match":"second","turns":[{"calls":[{"name":"finish","args":{"summary":"Two."}}]}]},{"match":"third","turns":[{"text":"Three."}]}]}]}`)
	j := newBook("run-1", "The first.")
	for i, want := range []string{"One.", "Two.", "Three."} {
		if i > 0 {
			j.run = errand.RunID(fmt.Sprintf("run-%d", i+1))
			prompt := []string{"", "The second.", "The third."}[i]
			j.Record(t.Context(), errand.Fact{Kind: errand.EventRunQueued, Data: errand.RunQueuedData{Prompt: errand.Prompt{Text: prompt}}})
		}
		out, err := loop.Run(t.Context(), b.options(j))
		if err != nil || out.Result != want {
			t.Fatalf("run %d: %+v, %v", i+1, out, err)
		}
	}
}

// TestRedacted has a secret in a call's arguments: the journal and the model see
// none of it, and yet the call is made as the model meant it.
func TestRedacted(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[
		{"calls":[{"name":"run_terminal_cmd","args":{"command":"echo the secret is hunter2 | tee said"}}]},
		{"expect":"the secret is .REDACTED.","text":"I saw nothing."}]}]}`)
	j := newBook("run-1", "go")
	j.redact = hideHunter
	if _, err := loop.Run(t.Context(), b.options(j)); err != nil {
		t.Fatal(err)
	}
	if got := b.read("said"); got != "the secret is hunter2\n" {
		t.Errorf("the command wrote %q", got)
	}
}

func hideHunter(s string) string { return strings.ReplaceAll(s, "hunter2", "[REDACTED]") }

// TestRedactedRestart kills the process before a call with a secret was made:
// what is left of its arguments is not carried out, and the model is told.
func TestRedactedRestart(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[
		{"calls":[{"name":"run_terminal_cmd","args":{"command":"echo hunter2 > said"}}]},
		{"expect":"Whether the call was carried out is unknown","text":"I see."}]}]}`)
	j := newBook("run-1", "go")
	j.redact = hideHunter
	for at := 1; ; at++ {
		j.revive(at, true)
		if _, err := loop.Run(t.Context(), b.options(j)); !errors.Is(err, errKilled) {
			t.Fatalf("the run was not killed: %v", err)
		}
		if slices.ContainsFunc(j.events, func(e errand.Event) bool { return e.Kind == errand.EventTurnEnded }) {
			break
		}
	}
	j.revive(0, false)
	if out, err := loop.Run(t.Context(), b.options(j)); err != nil || out.Result != "I see." {
		t.Fatalf("got %+v, %v", out, err)
	}
	if _, err := os.Stat(filepath.Join(b.root, "said")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is left of the arguments was carried out: %v", err)
	}
}

// TestRedactedThinking has a secret in thinking that the provider signed and
// wants back to the letter: it gets it so, or not at all in a later process. Both
// providers that sign refuse anything else.
func TestRedactedThinking(t *testing.T) {
	for name, model := range models {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, `{"conversations":[{"turns":[
				{"thinking":"Is it hunter2?","calls":[{"name":"run_terminal_cmd","args":{"command":"true"}}]},
				{"thinking":"It is hunter2.","text":"Done."},
				{"text":"Again."}]}]}`)
			j := newBook("run-1", "go")
			j.redact = hideHunter
			o := b.options(j)
			first := &asked{Model: model(b)}
			o.Model = first
			if out, err := loop.Run(t.Context(), o); err != nil || out.Result != "Done." {
				t.Fatalf("got %+v, %v", out, err)
			}
			if back := first.requests[1].Messages[1].Blocks[0]; name != "chat" && (back.Type != llm.Thinking || back.Text != "Is it hunter2?") {
				t.Errorf("the thinking came back as %+v", back)
			}
			j.run = "run-2"
			j.Record(t.Context(), errand.Fact{Kind: errand.EventRunQueued, Data: errand.RunQueuedData{Prompt: errand.Prompt{Text: "once more"}}})
			o = b.options(j)
			o.Model = model(b)
			if out, err := loop.Run(t.Context(), o); err != nil || out.Result != "Again." {
				t.Fatalf("the follow-up: got %+v, %v", out, err)
			}
		})
	}
}

func TestRetries(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[{"text":"Here I am at last.","faults":[
		{"times":1,"status":529,"type":"overloaded_error","message":"busy"},
		{"times":1,"cut":{"events":4}}]}]}]}`)
	j := newBook("run-1", "go")
	out, err := loop.Run(t.Context(), b.options(j))
	if err != nil || out.Result != "Here I am at last." {
		t.Fatalf("got %+v, %v", out, err)
	}
	want := []string{"turn.started 1", "turn.retried 1", "turn.started 1", "turn.retried 1", "turn.started 1", "turn.ended 1"}
	if d := cmp.Diff(want, j.told(errand.EventTurnStarted, errand.EventTurnRetried, errand.EventTurnEnded)); d != "" {
		t.Errorf("wrong events (-want +got):\n%s", d)
	}
	if e := last[errand.TurnEnded](t, j, errand.EventTurnEnded); e.Attempt != 3 {
		t.Errorf("the answer is attempt %d, want 3", e.Attempt)
	}
	var text string
	for _, e := range j.events {
		var d errand.TextData
		if json.Unmarshal(e.Data, &d); e.Kind == errand.EventText && d.Attempt == 3 {
			text += d.Text
		}
	}
	if text != "Here I am at last." {
		t.Errorf("the last attempt streamed %q", text)
	}
}

func TestFailures(t *testing.T) {
	tests := []struct {
		name, script, code, want string
	}{
		{"bad key", `{"text":"x","faults":[{"status":401,"message":"invalid x-api-key"}]}`, "model_key_refused", "set ANTHROPIC_API_KEY"},
		{"no such model", `{"text":"x","faults":[{"status":404,"type":"not_found_error","message":"model: nope"}]}`, "invalid_model", "choose another model"},
		{"always busy", `{"text":"x","faults":[{"status":500,"message":"oops"}]}`, "model_unavailable", "follow-up later"},
		{"rate limit", `{"text":"x","faults":[{"status":429,"message":"slow down"}]}`, "model_rate_limited", "asked 4 times without a usable answer: send a follow-up later"},
		{"rate limit for long", `{"text":"x","faults":[{"status":429,"message":"slow down","headers":{"Retry-After":"3600"}}]}`, "model_rate_limited", "asked once and wants 1h0m0s of rest"},
		{"bad request", `{"text":"x","faults":[{"status":400,"message":"effort is unknown"}]}`, "model_rejected", "effort is unknown"},
		{"garbage", `{"text":"x","faults":[{"garbage":"<html>hello</html>"}]}`, "model_unavailable", "without a usable answer"},
		{"refusal", `{"text":"I can't.","stop":"refusal"}`, "model_refused", "declined"},
		{"same call again and again", `{"calls":[{"name":"read_file","args":{"path":"nope"}}]}`, "model_stuck", "5 times in a row"},
		{"cut again and again", `{"text":"very long text that is cut in the middle","stop":"length"}`, "model_cut", "5 times in a row"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, `{"conversations":[{"repeat":true,"turns":[`+test.script+`]}]}`)
			j := newBook("run-1", "go")
			_, err := loop.Run(t.Context(), b.options(j))
			var e *errand.Error
			if !errors.As(err, &e) || e.Code != test.code || !strings.Contains(e.Message, test.want) {
				t.Fatalf("got %v, want %s with %q", err, test.code, test.want)
			}
			// It stands: a restart does not try for ever.
			requests := len(b.server.Requests())
			if strings.HasPrefix(test.code, "model_stuck") || test.code == "model_cut" {
				if _, err := loop.Run(t.Context(), b.options(j)); err == nil || len(b.server.Requests()) != requests {
					t.Errorf("again: %v, %d more requests", err, len(b.server.Requests())-requests)
				}
			}
		})
	}
}

func TestTurnLimit(t *testing.T) {
	b := newBench(t, `{"conversations":[{"repeat":true,"turns":[{"calls":[{"name":"run_terminal_cmd","args":{"command":"true"}}]}]}]}`)
	j := newBook("run-1", "go")
	o := b.options(j)
	o.MaxTurns = 3
	_, err := loop.Run(t.Context(), o)
	var e *errand.Error
	if !errors.As(err, &e) || e.Code != "turn_limit" {
		t.Fatalf("got %v", err)
	}
	if n := len(j.told(errand.EventToolEnded)); n != 3 {
		t.Errorf("%d calls were done, want 3", n)
	}
}

// A run that is cancelled while a command runs returns at once, and the next one
// has a conversation that the provider takes.
func TestCancelled(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[{"calls":[{"name":"run_terminal_cmd","args":{"command":"touch begun; sleep 60"}},{"name":"read_file","args":{"path":"x"}}]}],
		"followUps":[{"match":"again","turns":[{"expect":"Interrupted","text":"I see."}]}]}]}`)
	j := newBook("run-1", "go")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("cancelled by a person")
	j.seen = func(e errand.Event) {
		if e.Kind == errand.EventToolCalled {
			cancel(why)
		}
	}
	o := b.options(j)
	if _, err := loop.Run(ctx, o); !errors.Is(err, why) {
		t.Fatalf("got %v, want the cause", err)
	}
	if err := o.Tools.Stop(t.Context(), loop.Op("run-1", 1, 0)); err != nil {
		t.Fatal(err)
	}
	j.seen = nil
	j.Record(t.Context(), errand.Fact{Kind: errand.EventRunStatus, Data: errand.RunStatusData{Status: errand.RunCancelled}})
	j.run = "run-2"
	j.Record(t.Context(), errand.Fact{Kind: errand.EventRunQueued, Data: errand.RunQueuedData{Prompt: errand.Prompt{Text: "Now again."}}})
	out, err := loop.Run(t.Context(), b.options(j))
	if err != nil || out.Result != "I see." {
		t.Fatalf("got %+v, %v", out, err)
	}
}

// A command that was under way when the process died is joined again, and all of
// its output is there.
func TestRejoined(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[
		{"calls":[{"name":"run_terminal_cmd","args":{"command":"echo first; echo ran >> counter; until [ -e go ]; do sleep 0.05; done; echo last"}}]},
		{"expect":"first\\nlast\\n.exit status 0","text":"I saw it."}]}]}`)
	j := newBook("run-1", "go")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	o := b.options(j)
	go func() {
		_, err := loop.Run(ctx, o)
		ended <- err
	}()
	waitFor(t, filepath.Join(b.root, "counter"))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	b.line.Close()
	b.line = b.guest.Line()
	if err := os.WriteFile(filepath.Join(b.root, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := loop.Run(t.Context(), b.options(j))
	if err != nil || out.Result != "I saw it." {
		t.Fatalf("got %+v, %v", out, err)
	}
	if got := b.read("counter"); got != "ran\n" {
		t.Errorf("counter is %q", got)
	}
}

// The machine is restarted while a command runs: the call is not repeated.
func TestRebooted(t *testing.T) {
	b := newBench(t, `{"conversations":[{"turns":[
		{"calls":[{"name":"run_terminal_cmd","args":{"command":"echo ran >> counter; sleep 60"}}]},
		{"expect":"whether it finished is unknown","text":"I looked."}]}]}`)
	j := newBook("run-1", "go")
	ended := make(chan error, 1)
	o := b.options(j)
	go func() {
		_, err := loop.Run(t.Context(), o)
		ended <- err
	}()
	waitFor(t, filepath.Join(b.root, "counter"))
	b.guest.Restart()
	if err := <-ended; !errors.Is(err, guest.ErrRebooted) {
		t.Fatalf("got %v, want guest.ErrRebooted", err)
	}
	b.line = b.guest.Line()
	out, err := loop.Run(t.Context(), b.options(j))
	if err != nil || out.Result != "I looked." {
		t.Fatalf("got %+v, %v", out, err)
	}
	if got := b.read("counter"); got != "ran\n" {
		t.Errorf("counter is %q", got)
	}
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	for range 1000 {
		if stat, err := os.Stat(path); err == nil && stat.Size() > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not come", path)
}
