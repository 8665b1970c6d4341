package openai

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// provider is an HTTP transport that keeps the request and gives a set answer.
type provider struct {
	answer string
	kind   string // content type; "" is a stream's

	request *http.Request
	body    []byte
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.request = r
	p.body, _ = io.ReadAll(r.Body)
	header := http.Header{"Content-Type": {p.kind}}
	if p.kind == "" {
		header = http.Header{"Content-Type": {"text/event-stream"}}
	}
	return &http.Response{StatusCode: 200, Header: header, Body: io.NopCloser(strings.NewReader(p.answer)), Request: r}, nil
}

// events makes a stream of JSON texts.
func events(data ...string) string {
	return "data: " + strings.Join(data, "\n\ndata: ") + "\n\n"
}

// golden compares a JSON text with a file, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

// conversation has every kind of block.
func conversation() *llm.Request {
	png := errand.Image{MIME: "image/png", Data: []byte("\x89PNG")}
	return &llm.Request{
		System:    "You are <careful> & kind.",
		Tools:     []llm.Tool{{Name: "run", Description: "Run it.", Schema: json.RawMessage(`{"type":"object"}`)}},
		Key:       "bc-1",
		MaxOutput: 5000,
		Params:    map[string]string{"effort": "high", "summary": "auto"},
		Messages: []llm.Message{
			{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: "Look:"}, {Type: llm.Image, Images: []errand.Image{png}}}},
			{Role: llm.Assistant, Blocks: []llm.Block{
				{Type: llm.Thinking, Text: "Hm.", Raw: json.RawMessage(`{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"enc"}`), Dialect: responsesDialect},
				{Type: llm.Thinking, Text: "Thus.", Raw: json.RawMessage(`{"field":"reasoning_content"}`), Dialect: chatDialect},
				{Type: llm.Thinking, Text: "of another", Raw: json.RawMessage(`{"signature":"x"}`), Dialect: "anthropic-messages"},
				{Type: llm.Text, Text: "Looking.", Raw: json.RawMessage(`{"id":"msg_1","phase":"commentary"}`), Dialect: responsesDialect},
				{Type: llm.ToolCall, Call: "c1", Name: "run", Args: json.RawMessage(`{"command":"a \u0026\u0026 b"}`), Raw: json.RawMessage(`{"id":"fc_1"}`), Dialect: responsesDialect},
				{Type: llm.ToolCall, Call: "c2", Name: "run", Args: json.RawMessage(`{}`)},
			}},
			{Role: llm.User, Blocks: []llm.Block{
				{Type: llm.Text, Text: "by the way"},
				{Type: llm.ToolResult, Call: "c1", Text: "out", Images: []errand.Image{png}},
				{Type: llm.ToolResult, Call: "c2", IsError: true},
			}},
			{Role: llm.Assistant, Blocks: []llm.Block{
				{Type: llm.Text, Text: "Cut"},
				{Type: llm.Thinking, Text: "alone", Raw: json.RawMessage(`{"type":"reasoning","id":"rs_2"}`), Dialect: responsesDialect},
			}},
			{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: "More."}}},
			{Role: llm.Assistant, Blocks: nil},
			{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: "And more."}}},
		},
	}
}

func TestRequest(t *testing.T) {
	chat := events(`{"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}`)
	responses := events(`{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"hi"}]}]}}`)
	for _, tt := range []struct {
		name, answer, path string
		model              func(hc *http.Client) llm.Model
	}{
		{"responses", responses, "https://api.openai.com/v1/responses", func(hc *http.Client) llm.Model {
			return NewResponses(Options{Key: "sk", HTTP: hc, Model: llm.Entry{ID: "thinker", MaxOutput: 4000, Thinking: "effort"}})
		}},
		{"responses-plain", responses, "http://x/v1/responses", func(hc *http.Client) llm.Model {
			return NewResponses(Options{Key: "sk", BaseURL: "http://x/v1/", HTTP: hc, Whole: true, Model: llm.Entry{ID: "plain"}})
		}},
		{"chat", chat, "https://api.openai.com/v1/chat/completions", func(hc *http.Client) llm.Model {
			return NewChat(Options{Key: "sk", HTTP: hc, Model: llm.Entry{ID: "thinker", Wire: "thinker-1", Thinking: "effort"}})
		}},
		{"chat-compatible", chat, "http://x/v1/chat/completions", func(hc *http.Client) llm.Model {
			return NewChat(Options{Key: "sk", BaseURL: "http://x/v1", HTTP: hc, Model: llm.Entry{ID: "local"}})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &provider{answer: tt.answer}
			resp, err := tt.model(&http.Client{Transport: p}).Do(t.Context(), conversation(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&llm.Response{Stop: llm.StopEnd, Blocks: []llm.Block{{Type: llm.Text, Text: "hi"}}}, resp); diff != "" {
				t.Error(diff)
			}
			if p.request.URL.String() != tt.path || p.request.Header.Get("Authorization") != "Bearer sk" {
				t.Errorf("asked %s with %v", p.request.URL, p.request.Header)
			}
			golden(t, tt.name, p.body)
		})
	}
}

// outcome is what a test of an odd stream expects.
type outcome struct {
	text, thinking string
	calls          []string // name and arguments
	stop           llm.Stop
	usage          errand.Usage
	cause          llm.Cause // of the error; then nothing else counts
}

func check(t *testing.T, want outcome, resp *llm.Response, err error) {
	t.Helper()
	if want.cause != "" {
		if e, ok := err.(*llm.Error); !ok || e.Cause != want.cause {
			t.Fatalf("got %+v, error %v, want cause %q", resp, err, want.cause)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	got := outcome{stop: resp.Stop, usage: resp.Usage}
	ids := map[string]bool{}
	for _, b := range resp.Blocks {
		switch b.Type {
		case llm.Text:
			got.text += b.Text
		case llm.Thinking:
			got.thinking += b.Text
		case llm.ToolCall:
			got.calls = append(got.calls, b.Name+string(b.Args))
			if b.Call == "" || ids[b.Call] {
				t.Errorf("call id %q is empty or used twice", b.Call)
			}
			ids[b.Call] = true
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(outcome{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCompatibleServers(t *testing.T) {
	finish := func(why string) string { return `{"choices":[{"delta":{},"finish_reason":"` + why + `"}]}` }
	tests := []struct {
		name, kind, answer string
		want               outcome
	}{
		{"by index, interleaved", "", events(
			`{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"run","arguments":""}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"read","arguments":"{\"p\""}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"c\":1}"}},{"index":1,"function":{"arguments":":2}"}}]}}]}`,
			finish("tool_calls"), "[DONE]"),
			outcome{calls: []string{`run{"c":1}`, `read{"p":2}`}, stop: llm.StopTools}},
		{"no index, no id, in one piece", "", events(
			`{"choices":[{"delta":{"tool_calls":[{"function":{"name":"run","arguments":"{\"c\":1}"}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"function":{"name":"run","arguments":"{\"c\":2}"}}]}}]}`,
			finish("stop")),
			outcome{calls: []string{`run{"c":1}`, `run{"c":2}`}, stop: llm.StopTools}},
		{"every call has index 0", "", events(
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":"{\"c\":1}"}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"b","function":{"name":"run","arguments":"{\"c\":2}"}}]}}]}`,
			finish("tool_calls")),
			outcome{calls: []string{`run{"c":1}`, `run{"c":2}`}, stop: llm.StopTools}},
		{"id and name in every piece", "", events(
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":"{\"c\""}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":":1}"}}]}}]}`,
			finish("tool_calls")),
			outcome{calls: []string{`run{"c":1}`}, stop: llm.StopTools}},
		{"no index in the pieces", "", events(
			`{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"run","arguments":""}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"c\":1}"}}]}}]}`,
			finish("tool_calls")),
			outcome{calls: []string{`run{"c":1}`}, stop: llm.StopTools}},
		{"arguments as an object", "", events(
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":{"c":1}}}]}}]}`, finish("tool_calls")),
			outcome{calls: []string{`run{"c":1}`}, stop: llm.StopTools}},
		{"no arguments at all", "", events(
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run"}}]}}]}`, finish("tool_calls")),
			outcome{calls: []string{`run{}`}, stop: llm.StopTools}},
		{"thinking", "", events(
			`{"choices":[{"delta":{"reasoning_content":"I "}}]}`, `{"choices":[{"delta":{"reasoning_content":"think","content":""}}]}`,
			`{"choices":[{"delta":{"content":"so"}}]}`, finish("stop")),
			outcome{thinking: "I think", text: "so", stop: llm.StopEnd}},
		{"thinking by another name", "", events(`{"choices":[{"delta":{"reasoning":"I think"}}]}`, `{"choices":[{"delta":{"content":"so"}}]}`, finish("stop")),
			outcome{thinking: "I think", text: "so", stop: llm.StopEnd}},
		{"usage", "", events(finish("stop"), `{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":10}}}`, "[DONE]"),
			outcome{stop: llm.StopEnd, usage: errand.Usage{Input: 30, Output: 7, CacheRead: 60, CacheWrite: 10}}},
		{"usage with every chunk", "", events(
			`{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":100,"completion_tokens":1}}`,
			`{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":2,"prompt_cache_hit_tokens":40}}`),
			outcome{text: "a", stop: llm.StopEnd, usage: errand.Usage{Input: 60, Output: 2, CacheRead: 40}}},
		{"more cached than asked", "", events(finish("stop"), `{"choices":[],"usage":{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":60}}}`),
			outcome{stop: llm.StopEnd, usage: errand.Usage{CacheRead: 10}}},
		{"null everywhere", "", events(`{"choices":[{"delta":{"content":null,"tool_calls":null},"finish_reason":null}],"usage":null,"error":null}`, finish("stop")),
			outcome{stop: llm.StopEnd}},
		{"one body in place of a stream", "application/json; charset=utf-8", `{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`,
			outcome{text: "hi", stop: llm.StopEnd, usage: errand.Usage{Input: 1, Output: 2}}},
		{"no content type", "text/plain", events(`{"choices":[{"delta":{"content":"hi"}}]}`, finish("stop")),
			outcome{text: "hi", stop: llm.StopEnd}},
		{"another choice", "", events(`{"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":"stop"}]}`, `{"choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]}`),
			outcome{text: "yes", stop: llm.StopEnd}},
		{"out of room in a call", "", events(
			`{"choices":[{"delta":{"content":"x","tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":"{}"}},{"index":1,"id":"b","function":{"name":"run","arguments":"{\"c\":"}}]}}]}`, finish("length")),
			outcome{text: "x", calls: []string{`run{}`}, stop: llm.StopLength}},
		{"filtered", "", events(`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":"{}"}}]}}]}`, finish("content_filter")),
			outcome{stop: llm.StopRefusal}},
		{"arguments cut", "", events(`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":"{\"c\":"}}]}}]}`, finish("tool_calls"), "[DONE]"),
			outcome{cause: llm.Broken}},
		{"arguments are a list", "", events(`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":"[1]"}}]}}]}`, finish("tool_calls")),
			outcome{cause: llm.Broken}},
		{"arguments are null", "", events(`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"run","arguments":"null"}}]}}]}`, finish("tool_calls")),
			outcome{cause: llm.Broken}},
		{"piece of no call", "", events(`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}`, finish("tool_calls")),
			outcome{cause: llm.Broken}},
		{"end mark only", "", events("[DONE]"), outcome{cause: llm.Broken}},
		{"no finish reason", "", events(`{"choices":[{"delta":{"content":"half"}}]}`, "[DONE]"), outcome{cause: llm.Broken}},
		{"error inside", "", events(`{"choices":[{"delta":{"content":"half"}}]}`, `{"error":{"message":"upstream","code":502}}`), outcome{cause: llm.Overloaded}},
		{"error as a string", "", events(`{"error":"out of memory"}`), outcome{cause: llm.Broken}},
		{"error in one body", "application/json", `{"object":"error","message":"nope","type":"rate_limit_error"}`, outcome{cause: llm.RateLimited}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewChat(Options{BaseURL: "http://x", HTTP: &http.Client{Transport: &provider{answer: tt.answer, kind: tt.kind}}})
			resp, err := m.Do(t.Context(), conversation(), nil)
			check(t, tt.want, resp, err)
		})
	}
}

func TestResponsesStreams(t *testing.T) {
	call := func(args, status string) string {
		quoted, _ := json.Marshal(args)
		return `{"type":"function_call","id":"fc","call_id":"c","name":"run","arguments":` + string(quoted) + `,"status":"` + status + `"}`
	}
	done := func(item string) string { return `{"type":"response.output_item.done","item":` + item + `}` }
	end := func(status, rest string) string {
		return `{"type":"response.` + status + `","response":{"id":"r","status":"` + status + `"` + rest + `}}`
	}
	usage := `,"usage":{"input_tokens":100,"output_tokens":9,"input_tokens_details":{"cached_tokens":60,"cache_write_tokens":30}}`
	tests := []struct {
		name, answer string
		want         outcome
	}{
		{"output in the last event", events(end("completed", `,"output":[`+call(`{"a":1}`, "completed")+`]`+usage)),
			outcome{calls: []string{`run{"a":1}`}, stop: llm.StopTools, usage: errand.Usage{Input: 10, Output: 9, CacheRead: 60, CacheWrite: 30}}},
		{"output in its own events only", events(done(call(`{"a":1}`, "completed")), end("completed", `,"output":[]`)),
			outcome{calls: []string{`run{"a":1}`}, stop: llm.StopTools}},
		{"reasoning", events(end("completed", `,"output":[{"type":"reasoning","id":"rs","summary":[{"text":"one"},{"text":"two"}],"encrypted_content":"e"},{"type":"message","content":[{"type":"output_text","text":"so"}]}]`)),
			outcome{thinking: "one\n\ntwo", text: "so", stop: llm.StopEnd}},
		{"refusal", events(end("completed", `,"output":[{"type":"message","content":[{"type":"refusal","refusal":"no"}]}]`)),
			outcome{text: "no", stop: llm.StopRefusal}},
		{"incomplete, call cut", events(end("incomplete", `,"incomplete_details":{"reason":"max_output_tokens"},"output":[`+call(`{"a":1}`, "completed")+`,`+call(`{"a`, "incomplete")+`]`)),
			outcome{calls: []string{`run{"a":1}`}, stop: llm.StopLength}},
		{"incomplete, last call looks whole", events(end("incomplete", `,"output":[`+call(`{"a":1}`, "completed")+`]`)),
			outcome{stop: llm.StopLength}},
		{"filtered", events(end("incomplete", `,"incomplete_details":{"reason":"content_filter"},"output":[]`)),
			outcome{stop: llm.StopRefusal}},
		{"other kinds of items", events(end("completed", `,"output":[{"type":"novelty"},{"type":"message","content":[{"type":"output_text","text":"hi"}]}]`)),
			outcome{text: "hi", stop: llm.StopEnd}},
		{"call cut in a complete answer", events(end("completed", `,"output":[`+call(`{"a`, "completed")+`]`)), outcome{cause: llm.Broken}},
		{"call incomplete in a complete answer", events(end("completed", `,"output":[`+call(`{"a":1}`, "in_progress")+`]`)), outcome{cause: llm.Broken}},
		{"not completed", events(done(call(`{"a":1}`, "completed"))), outcome{cause: llm.Broken}},
		{"end mark only", events("[DONE]"), outcome{cause: llm.Broken}},
		{"failed: overloaded", events(end("failed", `,"error":{"code":"server_is_overloaded","message":"busy"}`)), outcome{cause: llm.Overloaded}},
		{"failed: rate limit", events(end("failed", `,"error":{"code":"rate_limit_exceeded","message":"slow"}`)), outcome{cause: llm.RateLimited}},
		{"failed: too long", events(end("failed", `,"error":{"code":"context_length_exceeded","message":"long"}`)), outcome{cause: llm.TooLong}},
		{"failed: without a word", events(end("failed", ``)), outcome{cause: llm.Broken}},
		{"error event", events(`{"type":"error","code":"server_error","message":"oops"}`), outcome{cause: llm.Overloaded}},
		{"error event, wrapped", events(`{"type":"error","error":{"type":"insufficient_quota","code":"insufficient_quota","message":"pay"}}`), outcome{cause: llm.NoCredit}},
		{"bare error", events(`{"error":{"message":"oops","code":"server_error"}}`), outcome{cause: llm.Overloaded}},
		{"cancelled elsewhere", events(end("completed", `,"status":"cancelled"`)), outcome{cause: llm.Broken}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewResponses(Options{HTTP: &http.Client{Transport: &provider{answer: tt.answer}}})
			resp, err := m.Do(t.Context(), conversation(), nil)
			check(t, tt.want, resp, err)
		})
	}
}

func TestReasoningGoesBackAsItCame(t *testing.T) {
	items := `{"type":"reasoning","id":"rs_9","summary":[{"type":"summary_text","text":"a < b"}],"encrypted_content":"abc=="},` +
		`{"type":"message","id":"msg_9","phase":"final_answer","role":"assistant","status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]},` +
		`{"type":"function_call","id":"fc_9","call_id":"c9","name":"run","arguments":"{\"a\":\"x && y\"}","status":"completed"}`
	p := &provider{answer: events(`{"type":"response.completed","response":{"output":[` + items + `]}}`)}
	m := NewResponses(Options{HTTP: &http.Client{Transport: p}})
	resp, err := m.Do(t.Context(), &llm.Request{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(resp.Message()) // through the journal and back
	if err != nil {
		t.Fatal(err)
	}
	var again llm.Message
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Do(t.Context(), &llm.Request{Messages: []llm.Message{again}}, nil); err != nil {
		t.Fatal(err)
	}
	var sent struct{ Input []map[string]any }
	var came []map[string]any
	if err := json.Unmarshal(p.body, &sent); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte("["+items+"]"), &came); err != nil {
		t.Fatal(err)
	}
	delete(came[2], "status") // of a call it need not be told
	if diff := cmp.Diff(came, sent.Input); diff != "" {
		t.Errorf("(-came +sent):\n%s", diff)
	}
}
