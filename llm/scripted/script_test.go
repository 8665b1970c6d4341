package scripted_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/anthropic"
	"github.com/errand-dev/errand/llm/scripted"
)

// TestManual holds docs/scripted-model.md to the code: its scripts can be read,
// and it names every field.
func TestManual(t *testing.T) {
	text, err := os.ReadFile("../../docs/scripted-model.md")
	if err != nil {
		t.Fatal(err)
	}
	scripts := regexp.MustCompile("(?s)```jsonc\n(.*?)```").FindAllSubmatch(text, -1)
	if len(scripts) < 2 {
		t.Fatalf("the manual has %d scripts", len(scripts))
	}
	for i, m := range scripts {
		if _, err := scripted.Parse(m[1]); err != nil {
			t.Errorf("script %d of the manual: %v", i+1, err)
		}
	}
	fields(reflect.TypeFor[scripted.Script](), map[reflect.Type]bool{}, func(name string) {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("the manual does not explain %q", name)
		}
	})
}

// fields tells the JSON names of all fields below a type.
func fields(typ reflect.Type, seen map[reflect.Type]bool, tell func(string)) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		fields(typ.Elem(), seen, tell)
	case reflect.Struct:
		if seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); name != "" {
				tell(name)
				fields(typ.Field(i).Type, seen, tell)
			}
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	turn := func(s string) string {
		return `{"conversations":[{"name":"c","turns":[{"text":"ok"},` + s + `]}]}`
	}
	for text, says := range map[string]string{
		`{"conversations": [`:                                   "JSON",
		"{\n\n\"conversatoins\": []}":                           "line 3",
		`{}`:                                                    "list of conversations is empty",
		`{"conversations":[{"name":"c"}]}`:                      `conversation "c" has no turns`,
		`{"conversations":[null]}`:                              "null",
		`{"conversations":[{"match":"(","turns":[]}]}`:          "missing closing )",
		turn(`null`):                                            `turn 2 of conversation "c" is null`,
		turn(`{}`):                                              "says nothing",
		turn(`{"text":"x","stop":"never"}`):                     `stop is "never"`,
		turn(`{"text":"x","delay":"soon"}`):                     "soon",
		turn(`{"text":"x","delay":"-1s"}`):                      "below zero",
		turn(`{"calls":[{"args":{}}]}`):                         "no name",
		turn(`{"calls":[{"name":"run","args":[1]}]}`):           "not a JSON object",
		turn(`{"text":"x","faults":[{"times":1}]}`):             "must have one",
		turn(`{"text":"x","faults":[{"status":429,"cut":{}}]}`): "must have one",
		turn(`{"text":"x","faults":[{"status":99}]}`):           "300 to 599",
		`{"conversations":[{"name":"c","turns":[{"text":"x"}],"followUps":[{"name":"f","turns":[]}]}]}`: `follow-up "f" of conversation "c" has no turns`,
	} {
		_, err := scripted.Parse([]byte(text))
		if errand.KindOf(err) != errand.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error is %v and does not say %q", text, err, says)
		}
	}
}

func TestScriptInGo(t *testing.T) {
	want := &scripted.Script{Conversations: []*scripted.Conversation{{
		Match: scripted.Pat("a+"),
		Turns: []*scripted.Turn{{Text: "hi", Delay: scripted.Duration(time.Second), Faults: []scripted.Fault{{Cut: &scripted.Cut{}}}}},
	}}}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := scripted.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if diff := cmp.Diff(string(text), string(again)); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// TestWhichTurn tries the ways in which a conversation can have gone.
func TestWhichTurn(t *testing.T) {
	_, hs := serve(t, `{"conversations":[
		{"name":"modelled","model":"other","turns":[{"text":"by model"}]},
		{"name":"ruled","system":"special rules","turns":[{"text":"by rules"}]},
		{"name":"main","match":"^start","turns":[{"text":"t1"},{"text":"t2"}],
		 "followUps":[{"match":"^more (?P<n>\\d+)","turns":[{"text":"more {{n}} {{1}} {{2}} {{missing}}"},{"text":"even more"}],"repeat":true}]},
		{"match":"SUMMARY","turns":[{"text":"after the summary"}]}]}`)
	said := func(text string) llm.Message {
		return llm.Message{Role: llm.Assistant, Blocks: []llm.Block{{Type: llm.Text, Text: text}}}
	}
	both := func(texts ...string) llm.Message {
		m := llm.Message{Role: llm.User}
		for _, text := range texts {
			m.Blocks = append(m.Blocks, llm.Block{Type: llm.Text, Text: text})
		}
		return m
	}
	tests := []struct {
		name, system, model string
		messages            []llm.Message
		want                string
	}{
		{"first", "", "", []llm.Message{say("start")}, "t1"},
		{"second", "", "", []llm.Message{say("start"), said("t1"), say("whatever")}, "t2"},
		{"follow-up", "", "", []llm.Message{say("start"), said("t1"), say("more 7")}, "more 7 7 {{2}} {{missing}}"},
		{"follow-up goes on", "", "", []llm.Message{say("start"), said("t1"), say("more 7"), said("x"), say("go on")}, "even more"},
		{"follow-up repeats", "", "", []llm.Message{say("start"), said("t1"), say("more 7"), said("x"), say("go on"), said("y"), say("go on")}, "even more"},
		{"follow-up again", "", "", []llm.Message{say("start"), said("t1"), say("more 7"), said("x"), say("more 8")}, "more 8 8 {{2}} {{missing}}"},
		{"follow-up before any answer", "", "", []llm.Message{both("start", "more 9")}, "more 9 9 {{2}} {{missing}}"},
		{"summary", "", "", []llm.Message{both("SUMMARY of it", "start")}, "after the summary"},
		{"rules", "my special rules", "", []llm.Message{say("start")}, "by rules"},
		{"model", "", "other", []llm.Message{say("start")}, "by model"},
	}
	for _, c := range clients() {
		if c.name != "messages/stream" {
			continue // the dialects differ only in reading, which TestConversation tries
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				m := anthropic.New(anthropic.Options{Key: "k", BaseURL: hs.URL, Model: llm.Entry{ID: "m" + tt.model}})
				resp, err := m.Do(t.Context(), &llm.Request{System: tt.system, Messages: tt.messages}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := textOf(resp); got != tt.want {
					t.Errorf("answer is %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestRetryThroughFaults(t *testing.T) {
	server, hs := serve(t, faultScript(`
		{"times":2,"status":429,"headers":{"Retry-After-Ms":"1"}},
		{"times":1,"error":"overloaded_error"},
		{"times":1,"cut":{"bytes":200}}`))
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			k := newTalk(t, c, hs, "hello from "+c.name)
			var causes []llm.Cause
			resp, err := llm.Do(t.Context(), k.model, k.req, nil, llm.RetryOptions{Base: time.Millisecond, OnRetry: func(_ int, err error, _ time.Duration) {
				causes = append(causes, err.(*llm.Error).Cause)
			}})
			if err != nil || resp.Stop != llm.StopTools {
				t.Fatalf("%+v, %v", resp, err)
			}
			want := []llm.Cause{llm.RateLimited, llm.RateLimited, llm.Overloaded, llm.Broken}
			if diff := cmp.Diff(want, causes); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := len(server.Requests()); got != 5*len(clients()) {
		t.Errorf("%d requests on record", got)
	}
}

func TestPlainEndpoints(t *testing.T) {
	_, hs := serve(t, `{"conversations":[{"turns":[{"text":"hi"}]}]}`)
	ask := func(method, path, body, key string) (int, map[string]any) {
		req, err := http.NewRequestWithContext(t.Context(), method, hs.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", key)
		resp, err := hs.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, got
	}
	body := `{"model":"m","max_tokens":10,"messages":[{"role":"user","content":"how long is this?"}]}`
	if status, got := ask("POST", "/v1/messages/count_tokens", body, "k"); status != 200 || got["input_tokens"].(float64) < 4 {
		t.Errorf("counting: %d %v", status, got)
	}
	if status, got := ask("POST", "/v1/messages", body, ""); status != 401 {
		t.Errorf("without a key: %d %v", status, got)
	}
	if status, got := ask("POST", "/v1/messages", `{"messages":`, "k"); status != 400 {
		t.Errorf("broken body: %d %v", status, got)
	}
	if status, got := ask("GET", "/nowhere", "", "k"); status != 404 {
		t.Errorf("elsewhere: %d %v", status, got)
	}
	status, got := ask("GET", "/requests", "", "")
	var outcomes []string
	for _, r := range got["requests"].([]any) {
		outcomes = append(outcomes, r.(map[string]any)["outcome"].(string))
	}
	if diff := cmp.Diff([]string{"denied", "invalid"}, outcomes); diff != "" || status != 200 {
		t.Errorf("requests: %d\n%s", status, diff)
	}
}

func TestServe(t *testing.T) {
	script, err := scripted.Parse([]byte(`{"conversations":[{"turns":[{"text":"hi","faults":[{"times":1,"stall":{"bytes":10}}]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- scripted.Serve(ctx, listener, script) }()

	hc, seen := &http.Client{}, make(chan struct{})
	hc.Transport = notice{http.DefaultTransport, seen}
	model := anthropic.New(anthropic.Options{Key: "k", BaseURL: "http://" + listener.Addr().String(), HTTP: hc})
	asked := make(chan error, 1)
	go func() {
		_, err := model.Do(t.Context(), &llm.Request{Messages: []llm.Message{say("hello")}}, nil)
		asked <- err
	}()
	<-seen // a stalled answer must not keep the server from ending
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("serving ended with %v", err)
	}
	if err := <-asked; !llm.Retryable(err) {
		t.Errorf("asking ended with %v", err)
	}
}

// TestDelays runs the server's handler in a bubble of fake time, without a
// network.
func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script, err := scripted.Parse([]byte(`{"conversations":[{"turns":[{"text":"one two three","delay":"30s","pause":"1s","chunk":4}]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		w := &timed{begin: time.Now(), header: http.Header{}}
		req, _ := http.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"stream":true,"messages":[{"role":"user","content":"x"}]}`))
		req.Header.Set("Authorization", "Bearer k")
		scripted.New(script).ServeHTTP(w, req)
		// role, four pieces, finish, done
		want := []time.Duration{30 * time.Second, 31 * time.Second, 32 * time.Second, 33 * time.Second, 34 * time.Second, 35 * time.Second, 36 * time.Second}
		if diff := cmp.Diff(want, w.writes); diff != "" {
			t.Error(diff)
		}
	})
}

// timed notes when it was written to.
type timed struct {
	begin  time.Time
	header http.Header
	writes []time.Duration
}

func (w *timed) Header() http.Header { return w.header }
func (w *timed) WriteHeader(int)     {}
func (w *timed) Flush()              {}
func (w *timed) Write(p []byte) (int, error) {
	w.writes = append(w.writes, time.Since(w.begin))
	return len(p), nil
}
