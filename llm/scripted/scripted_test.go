package scripted_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/anthropic"
	"github.com/errand-dev/errand/llm/openai"
	"github.com/errand-dev/errand/llm/scripted"
)

// client is a real provider client pointed at a scripted server.
type client struct {
	name  string
	whole bool
	model func(base string, hc *http.Client) llm.Model
}

// clients are all ways to ask: each dialect, in a stream and in one piece.
func clients() []client {
	var all []client
	for _, whole := range []bool{false, true} {
		name := "stream"
		if whole {
			name = "whole"
		}
		all = append(all,
			client{"messages/" + name, whole, func(base string, hc *http.Client) llm.Model {
				return anthropic.New(anthropic.Options{Key: "k", BaseURL: base, HTTP: hc, Whole: whole, Model: llm.Entry{ID: "scripted", Thinking: "adaptive", MaxOutput: 4096}})
			}},
			client{"responses/" + name, whole, func(base string, hc *http.Client) llm.Model {
				return openai.NewResponses(openai.Options{Key: "k", BaseURL: base + "/v1", HTTP: hc, Whole: whole, Model: llm.Entry{ID: "scripted", Thinking: "effort"}})
			}},
			client{"chat/" + name, whole, func(base string, hc *http.Client) llm.Model {
				return openai.NewChat(openai.Options{Key: "k", BaseURL: base + "/v1", HTTP: hc, Whole: whole, Model: llm.Entry{ID: "scripted"}})
			}},
		)
	}
	return all
}

// serve starts a server for a script's text.
func serve(t *testing.T, text string) (*scripted.Server, *httptest.Server) {
	t.Helper()
	script, err := scripted.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	s := scripted.New(script)
	hs := httptest.NewServer(s)
	t.Cleanup(hs.Close)
	return s, hs
}

var toolRun = llm.Tool{Name: "run", Description: "Run a command.", Schema: json.RawMessage(`{"type":"object","properties":{"command":{"type":"string"}}}`)}

// talk is a conversation in the making.
type talk struct {
	t     *testing.T
	model llm.Model
	req   *llm.Request
}

func newTalk(t *testing.T, c client, hs *httptest.Server, prompt string) *talk {
	return &talk{t, c.model(hs.URL, hs.Client()), &llm.Request{
		System: "You are careful.", Tools: []llm.Tool{toolRun}, Key: "bc-1",
		Messages: []llm.Message{say(prompt)},
	}}
}

func say(text string) llm.Message {
	return llm.Message{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: text}}}
}

// ask asks for the next turn and adds it to the conversation. It checks that
// the text that streamed is the text that is answered.
func (k *talk) ask() *llm.Response {
	k.t.Helper()
	var streamed strings.Builder
	resp, err := k.model.Do(k.t.Context(), k.req, func(d llm.Delta) {
		if d.Type == llm.Text {
			streamed.WriteString(d.Text)
		}
	})
	if err != nil {
		k.t.Fatalf("asking: %v", err)
	}
	if got := textOf(resp); streamed.String() != got {
		k.t.Errorf("streamed %q, answered %q", streamed.String(), got)
	}
	k.req.Messages = append(k.req.Messages, resp.Message())
	return resp
}

// results adds a result for every call of the last answer.
func (k *talk) results(text string, more ...llm.Block) {
	var blocks []llm.Block
	for _, b := range k.req.Messages[len(k.req.Messages)-1].Blocks {
		if b.Type == llm.ToolCall {
			blocks = append(blocks, llm.Block{Type: llm.ToolResult, Call: b.Call, Text: text})
		}
	}
	k.req.Messages = append(k.req.Messages, llm.Message{Role: llm.User, Blocks: append(blocks, more...)})
}

func textOf(resp *llm.Response) string {
	text := ""
	for _, b := range resp.Blocks {
		if b.Type == llm.Text {
			text += b.Text
		}
	}
	return text
}

const fixScript = `{
  // A test is fixed; then somebody asks for more.
  "conversations": [{
    "name": "fix",
    "match": "fix (?P<what>\\w+)",
    "turns": [
      {"thinking": "Let me look at it first.", "text": "Looking at {{what}}.", "calls": [
        {"name": "run", "args": {"command": "go test ./... # {{what}} \"quoted\""}},
        {"name": "run", "args": {}},
      ]},
      {"expect": "FAIL: (\\S+)", "thinking": "Now I know.", "calls": [{"name": "run", "args": {"command": "fix {{1}}"}}]},
      {"text": "Fixed, and more than one piece long so that it streams."},
    ],
    "followUps": [
      {"match": "again", "turns": [{"text": "First again."}]},
      {"match": "again", "turns": [{"text": "Second again."}]},
    ],
  }],
}`

func TestConversation(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			server, hs := serve(t, fixScript)
			k := newTalk(t, c, hs, "please fix parser now")

			first := k.ask()
			want := []llm.Block{
				{Type: llm.Thinking, Text: "Let me look at it first."},
				{Type: llm.Text, Text: "Looking at parser."},
				{Type: llm.ToolCall, Name: "run", Args: json.RawMessage(`{"command":"go test ./... # parser \"quoted\""}`)},
				{Type: llm.ToolCall, Name: "run", Args: json.RawMessage(`{}`)},
			}
			ignore := cmpopts.IgnoreFields(llm.Block{}, "Raw", "Dialect", "Call")
			if diff := cmp.Diff(want, first.Blocks, ignore); diff != "" {
				t.Errorf("first answer (-want +got):\n%s", diff)
			}
			if first.Stop != llm.StopTools {
				t.Errorf("first stop is %q", first.Stop)
			}
			if first.Usage.Input+first.Usage.CacheWrite == 0 || first.Usage.CacheRead != 0 || first.Usage.Output == 0 {
				t.Errorf("first usage is %+v", first.Usage)
			}

			k.results("--- FAIL: TestX\nexit 1")
			second := k.ask()
			if got := string(second.Blocks[len(second.Blocks)-1].Args); got != `{"command":"fix TestX"}` {
				t.Errorf("second call's arguments are %s", got)
			}
			if got, before := second.Usage.CacheRead, first.Usage.Input+first.Usage.CacheWrite; got != before {
				t.Errorf("second answer read %d tokens from the cache, the first request had %d", got, before)
			}
			k.results("ok")
			if last := k.ask(); last.Stop != llm.StopEnd || !strings.HasPrefix(textOf(last), "Fixed") {
				t.Errorf("third answer is %q, stop %q", textOf(last), last.Stop)
			}
			for _, want := range []string{"First again.", "Second again.", "Second again."} {
				k.req.Messages = append(k.req.Messages, say("again"))
				if got := textOf(k.ask()); got != want {
					t.Errorf("follow-up is answered %q, want %q", got, want)
				}
			}
			if got := len(server.Requests()); got != 6 {
				t.Errorf("%d requests are on record, want 6", got)
			}
		})
	}
}

// TestManyAtOnce lets many conversations of every client go on at the same time.
func TestManyAtOnce(t *testing.T) {
	_, hs := serve(t, fixScript)
	var wg sync.WaitGroup
	for i := range 10 {
		for _, c := range clients() {
			wg.Go(func() {
				what := fmt.Sprintf("part%d", i)
				k := newTalk(t, c, hs, "fix "+what)
				k.req.Key = what
				for _, want := range []string{"Looking at " + what + ".", "", "Fixed, and more than one piece long so that it streams."} {
					resp, err := k.model.Do(t.Context(), k.req, nil)
					if err != nil || textOf(resp) != want {
						t.Errorf("%s %s: %v, %v, want %q", c.name, what, resp, err, want)
						return
					}
					k.req.Messages = append(k.req.Messages, resp.Message())
					k.results("--- FAIL: Test")
				}
			})
		}
	}
	wg.Wait()
}

func TestSameRequestSameTurn(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			_, hs := serve(t, fixScript)
			k := newTalk(t, c, hs, "fix it")
			one := k.ask()
			k.req.Messages = k.req.Messages[:1]
			two := k.ask()
			if diff := cmp.Diff(one, two); diff != "" {
				t.Errorf("the second try differs:\n%s", diff)
			}
		})
	}
}

// faults is one turn that fails in some way before it is given.
func faultScript(fault string) string {
	return fmt.Sprintf(`{"key": "k", "models": ["scripted"], "conversations": [{"turns": [
		{"text": "All is well that ends well.", "calls": [{"name": "run", "args": {"command": "ls -l /tmp"}}], "faults": [%s]}]}]}`, fault)
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name, fault string
		streamOnly  bool
		cause       llm.Cause
		status      int
		after       time.Duration
		says        string
	}{
		{name: "rate limit", fault: `{"times":1,"status":429,"headers":{"Retry-After":"7"}}`, cause: llm.RateLimited, status: 429, after: 7 * time.Second},
		{name: "rate limit ms", fault: `{"times":1,"status":429,"headers":{"Retry-After-Ms":"1500","Retry-After":"2"}}`, cause: llm.RateLimited, status: 429, after: 1500 * time.Millisecond},
		{name: "overloaded", fault: `{"times":1,"status":529}`, cause: llm.Overloaded, status: 529},
		{name: "server error", fault: `{"times":1,"status":500}`, cause: llm.Overloaded, status: 500},
		{name: "bad gateway page", fault: `{"times":1,"status":502,"body":"<html><title>502 Bad Gateway</title></html>"}`, cause: llm.Overloaded, status: 502, says: "502 Bad Gateway"},
		{name: "wrong base url", fault: `{"times":1,"status":404,"body":"<html>not here</html>"}`, cause: llm.Rejected, status: 404, says: "base URL"},
		{name: "redirect", fault: `{"times":1,"status":307,"body":"moved","headers":{"Location":"https://elsewhere.example/"}}`, cause: llm.Rejected, status: 307, says: "elsewhere.example"},
		{name: "denied", fault: `{"times":1,"status":401,"message":"bad key k1"}`, cause: llm.Denied, status: 401},
		{name: "no model", fault: `{"times":1,"status":404,"message":"model: gone"}`, cause: llm.NoModel, status: 404, says: "model: gone"},
		{name: "too large", fault: `{"times":1,"status":413}`, cause: llm.TooLong, status: 413},
		{name: "rejected", fault: `{"times":1,"status":400,"message":"tools.0: bad schema"}`, cause: llm.Rejected, status: 400, says: "bad schema"},
		{name: "page", fault: `{"times":1,"garbage":"<!doctype html><title>Sign in</title>"}`, cause: llm.Broken, says: "web page"},
		{name: "broken json", fault: `{"times":1,"garbage":"data: {\"type\":\"message_start\",\n\n"}`, cause: llm.Broken},
		{name: "no bytes", fault: `{"times":1,"cut":{}}`, cause: llm.Broken},
		{name: "no bytes, clean", fault: `{"times":1,"cut":{"clean":true}}`, cause: llm.Broken, says: "empty"},
		{name: "cut", fault: `{"times":1,"cut":{"bytes":150}}`, cause: llm.Broken},
		{name: "cut, clean", fault: `{"times":1,"cut":{"bytes":150,"clean":true}}`, cause: llm.Broken},
		{name: "cut after events", streamOnly: true, fault: `{"times":1,"cut":{"events":5}}`, cause: llm.Broken},
		{name: "dropped", fault: `{"times":1,"drop":true}`, cause: llm.Broken},
		{name: "overload in the stream", fault: `{"times":1,"error":"overloaded_error","message":"Overloaded"}`, cause: llm.Overloaded, says: "Overloaded"},
	}
	for _, c := range clients() {
		for _, tt := range tests {
			if tt.streamOnly && c.whole {
				continue
			}
			t.Run(c.name+"/"+tt.name, func(t *testing.T) {
				server, hs := serve(t, faultScript(tt.fault))
				k := newTalk(t, c, hs, "hello")
				_, err := k.model.Do(t.Context(), k.req, nil)
				var e *llm.Error
				if !errors.As(err, &e) {
					t.Fatalf("error is %v (%T), want an *llm.Error", err, err)
				}
				status := tt.status
				if tt.name == "overload in the stream" && c.whole {
					status = 529
				}
				if e.Cause != tt.cause || e.Status != status || e.After != tt.after {
					t.Errorf("error is %q: cause %q status %d after %v, want %q %d %v", e, e.Cause, e.Status, e.After, tt.cause, status, tt.after)
				}
				if !strings.Contains(e.Error(), tt.says) {
					t.Errorf("error is %q and does not say %q", e, tt.says)
				}
				if resp := k.ask(); resp.Stop != llm.StopTools {
					t.Errorf("second try stopped with %q", resp.Stop)
				}
				got := server.Requests()
				if got[0].Outcome != "fault" || got[0].Try != 1 || got[1].Outcome != "answer" || got[1].Try != 2 {
					t.Errorf("record is %+v", got)
				}
			})
		}
	}
}

func TestProviderCodes(t *testing.T) {
	tests := []struct {
		client, fault string
		cause         llm.Cause
	}{
		{"messages", `{"status":400,"message":"prompt is too long: 210000 tokens > 200000 maximum"}`, llm.TooLong},
		{"messages", `{"status":400,"message":"input length and max_tokens exceed context limit: 199000 + 8000 > 200000"}`, llm.TooLong},
		{"messages", `{"status":400,"message":"Your credit balance is too low to access the Anthropic API."}`, llm.NoCredit},
		{"messages", `{"status":402}`, llm.NoCredit},
		{"messages", `{"status":403}`, llm.Denied},
		{"messages", `{"status":504}`, llm.Overloaded},
		{"responses", `{"status":400,"type":"context_length_exceeded","message":"Your input exceeds the context window of this model."}`, llm.TooLong},
		{"responses", `{"status":429,"type":"insufficient_quota"}`, llm.NoCredit},
		{"responses", `{"error":"rate_limit_exceeded"}`, llm.RateLimited},
		{"responses", `{"error":"server_error"}`, llm.Overloaded},
		{"chat", `{"status":400,"body":"{\"object\":\"error\",\"message\":\"This model's maximum context length is 4096 tokens.\",\"code\":400}"}`, llm.TooLong},
		{"chat", `{"status":404,"body":"{\"error\":\"model 'x' not found\"}"}`, llm.NoModel},
		{"chat", `{"status":422,"body":"{\"detail\":\"no such field\"}"}`, llm.Rejected},
		{"chat", `{"error":"503"}`, llm.Overloaded},
		{"chat", `{"status":429,"message":"Request too large for gpt-x on tokens per min (TPM): Limit 10, Requested 20."}`, llm.TooLong},
	}
	for _, c := range clients() {
		for _, tt := range tests {
			if c.name != tt.client+"/stream" {
				continue
			}
			t.Run(c.name+"/"+tt.fault, func(t *testing.T) {
				_, hs := serve(t, faultScript(tt.fault))
				k := newTalk(t, c, hs, "hello")
				_, err := k.model.Do(t.Context(), k.req, nil)
				var e *llm.Error
				if !errors.As(err, &e) || e.Cause != tt.cause {
					t.Errorf("error is %#v, want cause %q", err, tt.cause)
				}
			})
		}
	}
}

func TestLength(t *testing.T) {
	script := `{"conversations":[{"turns":[
		{"text":"Here I go.","calls":[{"name":"run","args":{"command":"first"}},{"name":"run","args":{"command":"second, which is cut"}}],"stop":"length"},
		{"text":"This text is cut somewhere in the middle.","thinking":"Hm.","stop":"length"},
		{"text":"I would rather not.","stop":"refusal"}]}]}`
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			_, hs := serve(t, script)
			k := newTalk(t, c, hs, "go")
			resp := k.ask()
			var calls []string
			for _, b := range resp.Blocks {
				if b.Type == llm.ToolCall {
					calls = append(calls, string(b.Args))
				}
			}
			if diff := cmp.Diff([]string{`{"command":"first"}`}, calls); diff != "" || resp.Stop != llm.StopLength {
				t.Errorf("stop is %q, calls (-want +got):\n%s", resp.Stop, diff)
			}
			k.results("done", llm.Block{Type: llm.Text, Text: "go on"})
			if resp := k.ask(); resp.Stop != llm.StopLength || textOf(resp) == "" {
				t.Errorf("second answer is %q, stop %q", textOf(resp), resp.Stop)
			}
			k.req.Messages = append(k.req.Messages, say("go on"))
			if resp := k.ask(); resp.Stop != llm.StopRefusal {
				t.Errorf("third stop is %q", resp.Stop)
			}
		})
	}
}

func TestMismatch(t *testing.T) {
	script := `{"key":"k","models":["scripted"],"conversations":[{"name":"strict","match":"^hello","turns":[
		{"expectTools":"run","expectSystem":"careful","text":"one"},
		{"expect":"tests pass","text":"two"}]}]}`
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			server, hs := serve(t, script)
			k := newTalk(t, c, hs, "hello")
			k.ask()
			refused := func(what string, says ...string) {
				t.Helper()
				_, err := k.model.Do(t.Context(), k.req, nil)
				var e *llm.Error
				if !errors.As(err, &e) || e.Cause != llm.Rejected {
					t.Fatalf("%s: error is %v, want a rejection", what, err)
				}
				for _, s := range says {
					if !strings.Contains(e.Message, s) {
						t.Errorf("%s: the error does not say %q: %s", what, s, e.Message)
					}
				}
			}
			k.req.Messages = append(k.req.Messages, say("nothing passes"))
			refused("expect", "tests pass", "nothing passes", "turn 2")
			k.req.Messages[2] = say("tests pass")
			k.ask()
			k.req.Messages = append(k.req.Messages, say("more"))
			refused("exhausted", "2 turns", "turn 3")
			k.req.Messages = []llm.Message{say("good bye")}
			refused("no conversation", "good bye")
			k.req.Messages = []llm.Message{say("hello")}
			k.req.System = "careless"
			refused("rules", "careful", "careless")
			k.req.System, k.req.Tools = "careful", nil
			refused("tools", "run")
			log := server.Requests()
			if got := log[len(log)-1].Outcome; got != "mismatch" {
				t.Errorf("outcome on record is %q", got)
			}
		})
	}
}

func TestStrictness(t *testing.T) {
	call := llm.Block{Type: llm.ToolCall, Call: "c1", Name: "run", Args: json.RawMessage(`{}`)}
	result := llm.Block{Type: llm.ToolResult, Call: "c1", Text: "ok"}
	tests := []struct {
		name     string
		messages []llm.Message
		only     string
	}{
		{"call without result", []llm.Message{say("hello"), {Role: llm.Assistant, Blocks: []llm.Block{call}}, say("go on")}, ""},
		{"result without call", []llm.Message{say("hello"), {Role: llm.Assistant, Blocks: []llm.Block{{Type: llm.Text, Text: "x"}}}, {Role: llm.User, Blocks: []llm.Block{result}}}, ""},
		{"answer last", []llm.Message{say("hello"), {Role: llm.Assistant, Blocks: []llm.Block{{Type: llm.Text, Text: "x"}}}}, ""},
		{"no message", nil, ""},
		{"forged signature", []llm.Message{say("hello"), {Role: llm.Assistant, Blocks: []llm.Block{
			{Type: llm.Thinking, Text: "other", Raw: json.RawMessage(`{"signature":"x"}`), Dialect: string(llm.Messages)}, call}},
			{Role: llm.User, Blocks: []llm.Block{result}}}, "messages/stream"},
	}
	for _, c := range clients() {
		for _, tt := range tests {
			if tt.only != "" && tt.only != c.name {
				continue
			}
			t.Run(c.name+"/"+tt.name, func(t *testing.T) {
				_, hs := serve(t, `{"conversations":[{"turns":[{"text":"a"},{"text":"b"}]}]}`)
				k := newTalk(t, c, hs, "")
				k.req.Messages = tt.messages
				_, err := k.model.Do(t.Context(), k.req, nil)
				var e *llm.Error
				if !errors.As(err, &e) || e.Cause != llm.Rejected {
					t.Errorf("error is %v, want a rejection", err)
				}
			})
		}
	}
}

func TestKeyAndModels(t *testing.T) {
	_, hs := serve(t, `{"key":"right","models":["one","two"],"conversations":[{"turns":[{"text":"hi"}]}]}`)
	for _, list := range []func(key string) ([]string, error){
		func(key string) ([]string, error) {
			return anthropic.List(t.Context(), anthropic.Options{Key: key, BaseURL: hs.URL})
		},
		func(key string) ([]string, error) {
			return openai.List(t.Context(), openai.Options{Key: key, BaseURL: hs.URL + "/v1"})
		},
	} {
		names, err := list("right")
		if diff := cmp.Diff([]string{"one", "two"}, names); diff != "" || err != nil {
			t.Errorf("models (%v):\n%s", err, diff)
		}
		for _, key := range []string{"", "wrong"} {
			var e *llm.Error
			if _, err := list(key); !errors.As(err, &e) || e.Cause != llm.Denied {
				t.Errorf("listing with key %q gives %v, want a denial", key, err)
			}
		}
	}
	m := anthropic.New(anthropic.Options{Key: "right", BaseURL: hs.URL, Model: llm.Entry{ID: "three"}})
	var e *llm.Error
	if _, err := m.Do(t.Context(), &llm.Request{Messages: []llm.Message{say("hi")}}, nil); !errors.As(err, &e) || e.Cause != llm.NoModel {
		t.Errorf("an unknown model gives %v", err)
	}
}

func TestUsageIsExact(t *testing.T) {
	want := errand.Usage{Input: 11, Output: 22, CacheRead: 33, CacheWrite: 44}
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			_, hs := serve(t, `{"conversations":[{"turns":[{"text":"hi","usage":{"input":11,"output":22,"cacheRead":33,"cacheWrite":44}}]}]}`)
			if diff := cmp.Diff(want, newTalk(t, c, hs, "hi").ask().Usage); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTriesAreCountedPerConversation(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			_, hs := serve(t, faultScript(`{"times":2,"status":500}`))
			failures := func(prompt string) int {
				k := newTalk(t, c, hs, prompt)
				for n := 0; ; n++ {
					if _, err := k.model.Do(t.Context(), k.req, nil); err == nil {
						return n
					}
				}
			}
			for _, prompt := range []string{"one", "two"} {
				if got := failures(prompt); got != 2 {
					t.Errorf("%q failed %d times, want 2", prompt, got)
				}
			}
		})
	}
}

func TestStallEndsWithTheClient(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			_, hs := serve(t, faultScript(`{"stall":{"bytes":40}}`))
			ctx, cancel := context.WithCancel(t.Context())
			k := newTalk(t, c, hs, "hello")
			done := make(chan error, 1)
			seen := make(chan struct{})
			hs.Client().Transport = notice{hs.Client().Transport, seen}
			k.model = c.model(hs.URL, hs.Client())
			go func() {
				_, err := k.model.Do(ctx, k.req, nil)
				done <- err
			}()
			<-seen
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("error is %v, want the context's", err)
			}
		})
	}
}

// notice tells when an answer has begun.
type notice struct {
	http.RoundTripper
	seen chan struct{}
}

func (n notice) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := n.RoundTripper.RoundTrip(r)
	close(n.seen)
	return resp, err
}
