package anthropic

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

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

var update = flag.Bool("update", false, "write the golden files anew")

// provider is an HTTP transport that keeps the request and gives a set answer.
type provider struct {
	answer string
	kind   string

	request *http.Request
	body    []byte
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.request = r
	p.body, _ = io.ReadAll(r.Body)
	if p.kind == "" {
		p.kind = "text/event-stream"
	}
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {p.kind}}, Body: io.NopCloser(strings.NewReader(p.answer)), Request: r}, nil
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
		System: "You are <careful> & kind.",
		Tools: []llm.Tool{
			{Name: "run", Description: "Run it.", Schema: json.RawMessage(`{"type":"object"}`)},
			{Name: "read", Description: "Read it.", Schema: json.RawMessage(`{"type":"object"}`)},
		},
		Key:       "bc-1",
		MaxOutput: 5000,
		Params:    map[string]string{"effort": "high"},
		Messages: []llm.Message{
			{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: "Look:"}, {Type: llm.Image, Images: []errand.Image{png}}}},
			{Role: llm.Assistant, Blocks: []llm.Block{
				{Type: llm.Thinking, Text: "Hm.", Raw: json.RawMessage(`{"signature":"sig"}`), Dialect: "anthropic-messages"},
				{Type: llm.Thinking, Raw: json.RawMessage(`{"signature":"unseen"}`), Dialect: "anthropic-messages"},
				{Type: llm.Thinking, Raw: json.RawMessage(`{"data":"withheld"}`), Dialect: "anthropic-messages"},
				{Type: llm.Thinking, Text: "of another", Raw: json.RawMessage(`{"id":"rs_1"}`), Dialect: "openai-responses"},
				{Type: llm.Text, Text: "  \n"},
				{Type: llm.ToolCall, Call: "c1", Name: "run", Args: json.RawMessage(`{"command":"ls"}`)},
				{Type: llm.ToolCall, Call: "c2", Name: "read", Args: json.RawMessage(`{}`)},
			}},
			{Role: llm.User, Blocks: []llm.Block{
				{Type: llm.Text, Text: "by the way"},
				{Type: llm.ToolResult, Call: "c1", Text: "out", Images: []errand.Image{png}},
				{Type: llm.ToolResult, Call: "c2", IsError: true},
			}},
			{Role: llm.Assistant, Blocks: []llm.Block{{Type: llm.Text, Text: "Done."}}},
			{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: "More."}}},
		},
	}
}

const hello = `event: message_start
data: {"type":"message_start","message":{"id":"m","model":"x","usage":{"input_tokens":3,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}

event: message_stop
data: {"type":"message_stop"}

`

func TestRequest(t *testing.T) {
	for _, tt := range []struct {
		name  string
		model llm.Entry
		whole bool
	}{
		{"adaptive", llm.Entry{ID: "new", MaxOutput: 64000, Thinking: "adaptive"}, false},
		{"budget", llm.Entry{ID: "old", Wire: "old-2025", MaxOutput: 4000, Thinking: "budget"}, false},
		{"plain", llm.Entry{ID: "plain"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &provider{answer: hello}
			m := New(Options{Key: "sk", BaseURL: "http://x/v1/", Model: tt.model, Whole: tt.whole, HTTP: &http.Client{Transport: p}})
			resp, err := m.Do(t.Context(), conversation(), nil)
			if err != nil {
				t.Fatal(err)
			}
			want := &llm.Response{ID: "m", Model: "x", Stop: llm.StopEnd, Blocks: []llm.Block{{Type: llm.Text, Text: "hi"}}, Usage: errand.Usage{Input: 3, Output: 2}}
			if diff := cmp.Diff(want, resp); diff != "" {
				t.Error(diff)
			}
			if p.request.URL.String() != "http://x/v1/messages" || p.request.Header.Get("X-Api-Key") != "sk" || p.request.Header.Get("Anthropic-Version") == "" {
				t.Errorf("asked %s with %v", p.request.URL, p.request.Header)
			}
			golden(t, tt.name, p.body)
			if n := bytes.Count(p.body, []byte("cache_control")); n != 4 {
				t.Errorf("%d places are marked for caching, want 4", n)
			}
		})
	}
}

func TestOddStreams(t *testing.T) {
	start := "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n"
	tool := "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"c\",\"name\":\"run\",\"input\":%INPUT%}}\n\n"
	piece := "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n"
	closing := "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
	end := func(why string) string {
		return "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" + why + "\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n"
	}
	empty := strings.Replace(tool, "%INPUT%", "{}", 1)
	tests := []struct {
		name, stream string
		args         string // of the one tool call; "" is none
		stop         llm.Stop
		cause        llm.Cause
	}{
		{"no input", start + empty + closing + end("tool_use"), `{}`, llm.StopTools, ""},
		{"input with the start", start + strings.Replace(tool, "%INPUT%", `{"b":2}`, 1) + closing + end("tool_use"), `{"b":2}`, llm.StopTools, ""},
		{"input cut, block closed", start + empty + piece + closing + end("tool_use"), "", "", llm.Broken},
		{"block not closed", start + empty + end("tool_use"), "", "", llm.Broken},
		{"out of room, cut", start + empty + piece + closing + end("max_tokens"), "", llm.StopLength, ""},
		{"out of room, looks whole", start + empty + closing + end("max_tokens"), "", llm.StopLength, ""},
		{"window full", start + empty + piece + end("model_context_window_exceeded"), "", llm.StopLength, ""},
		{"refused", start + empty + piece + closing + end("refusal"), "", llm.StopRefusal, ""},
		{"unknown reason", start + empty + closing + end("novelty"), `{}`, llm.StopTools, ""},
		{"no stop reason", start + "data: {\"type\":\"message_stop\"}\n\n", "", "", llm.Broken},
		{"input is null", start + empty + strings.Replace(piece, `{\"a\":`, "null", 1) + closing + end("tool_use"), "", "", llm.Broken},
		{"no end", start + empty + closing + strings.TrimSuffix(end("tool_use"), "data: {\"type\":\"message_stop\"}\n\n"), "", "", llm.Broken},
		{"no start", end("end_turn"), "", "", llm.Broken},
		{"two starts", start + start + end("end_turn"), "", "", llm.Broken},
		{"piece for no block", start + piece + end("end_turn"), "", "", llm.Broken},
		{"piece after the block", start + empty + closing + piece + end("tool_use"), "", "", llm.Broken},
		{"blocks out of order", start + strings.Replace(empty, `"index":0`, `"index":3`, 1) + end("tool_use"), "", "", llm.Broken},
		{"unknown events and blocks", start + "data: {\"type\":\"novelty\"}\n\n" + strings.Replace(empty, "tool_use", "novelty", 1) + closing + end("end_turn"), "", llm.StopEnd, ""},
		{"rate limit inside", start + "data: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}\n\n", "", "", llm.RateLimited},
		{"unknown error inside", start + "data: {\"type\":\"error\",\"error\":{\"type\":\"novelty\",\"message\":\"?\"}}\n\n", "", "", llm.Broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := New(Options{HTTP: &http.Client{Transport: &provider{answer: tt.stream}}})
			resp, err := m.Do(t.Context(), conversation(), nil)
			if tt.cause != "" {
				if e, ok := err.(*llm.Error); !ok || e.Cause != tt.cause {
					t.Fatalf("got %+v, error %v, want cause %q", resp, err, tt.cause)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			args := ""
			for _, b := range resp.Blocks {
				args += string(b.Args)
			}
			if resp.Stop != tt.stop || args != tt.args {
				t.Errorf("stop %q, arguments %q, want %q and %q", resp.Stop, args, tt.stop, tt.args)
			}
		})
	}
}

func TestThinkingGoesBackAsItCame(t *testing.T) {
	stream := strings.Join([]string{
		`{"type":"message_start","message":{"id":"m"}}`,
		`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a <b> & c"}}`,
		`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Sig+/=="}}`,
		`{"type":"content_block_stop","index":0}`,
		`{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"xyz"}}`,
		`{"type":"content_block_stop","index":1}`,
		`{"type":"content_block_start","index":2,"content_block":{"type":"thinking","thinking":"","signature":"S2"}}`,
		`{"type":"content_block_stop","index":2}`,
		`{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`,
		`{"type":"message_stop"}`,
	}, "\n\ndata: ")
	p := &provider{answer: "data: " + stream + "\n\n"}
	m := New(Options{HTTP: &http.Client{Transport: p}})
	resp, err := m.Do(t.Context(), conversation(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Through the journal and back.
	kept, err := json.Marshal(resp.Message())
	if err != nil {
		t.Fatal(err)
	}
	var again llm.Message
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	req := &llm.Request{Messages: []llm.Message{{Role: llm.User, Blocks: []llm.Block{{Type: llm.Text, Text: "x"}}}, again}}
	if _, err := m.Do(t.Context(), req, nil); err != nil {
		t.Fatal(err)
	}
	var body struct {
		Messages []struct {
			Content []json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(p.body, &body); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range body.Messages[1].Content {
		got = append(got, string(c))
	}
	want := []string{
		`{"type":"thinking","thinking":"a <b> & c","signature":"Sig+/=="}`,
		`{"type":"redacted_thinking","data":"xyz"}`,
		`{"type":"thinking","thinking":"","signature":"S2"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestListReadsAllPages(t *testing.T) {
	pages := map[string]string{
		"":   `{"data":[{"id":"a"},{"id":"b"}],"has_more":true,"last_id":"b&"}`,
		"b&": `{"data":[{"id":"c"}],"has_more":false,"last_id":"c"}`,
	}
	hc := &http.Client{Transport: turn(func(r *http.Request) string { return pages[r.URL.Query().Get("after_id")] })}
	names, err := List(t.Context(), Options{HTTP: hc})
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// turn answers each request with the JSON that it makes of it.
type turn func(*http.Request) string

func (f turn) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(f(r))), Request: r}, nil
}
