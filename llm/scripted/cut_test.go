package scripted_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/scripted"
)

// recording is a provider's answer, given again as often as asked.
type recording struct {
	header http.Header
	body   []byte
	end    error // after the body; nil is a clean end
}

func (r recording) RoundTrip(req *http.Request) (*http.Response, error) {
	end := r.end
	if end == nil {
		end = io.EOF
	}
	body := io.MultiReader(bytes.NewReader(r.body), failing{end})
	return &http.Response{StatusCode: 200, Header: r.header, Body: io.NopCloser(body), Request: req}, nil
}

// failing fails at once.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// recorder keeps the body that comes through it.
type recorder struct {
	http.RoundTripper
	got recording
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	r.got.header = resp.Header.Clone()
	r.got.body, err = io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(r.got.body))
	return resp, err
}

var question = &llm.Request{Tools: []llm.Tool{toolRun}, Messages: []llm.Message{say("go")}}

// record asks a scripted server once and gives what it sent.
func record(t testing.TB, c client, script string) (recording, *llm.Response) {
	s, err := scripted.Parse([]byte(script))
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(scripted.New(s))
	defer hs.Close()
	tape := &recorder{RoundTripper: hs.Client().Transport}
	resp, err := c.model(hs.URL, &http.Client{Transport: tape}).Do(t.Context(), question, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tape.got, resp
}

const cutScript = `{"conversations":[{"turns":[{"thinking":"Hm.","text":"Go ünïcode.","chunk":12,"calls":[
	{"name":"run","args":{"c":"rm -rf {\"a\":/}"}},{"name":"run","args":{}}]}]}]}`

// TestCutAnywhere cuts an answer at each of its bytes, with and without an
// error of the connection: what comes out is an error that may be retried, or
// all of the answer, and never a part of it.
func TestCutAnywhere(t *testing.T) {
	for _, c := range clients() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			whole, want := record(t, c, cutScript)
			answers := 0
			for n := range whole.body {
				// Both ends where they differ most, else one of them in turn.
				ends := []error{nil, io.ErrUnexpectedEOF}
				if n > 0 && whole.body[n-1] != '\n' {
					ends = ends[n%2:][:1]
				}
				for _, end := range ends {
					cut := recording{whole.header, whole.body[:n], end}
					got, err := c.model("http://provider", &http.Client{Transport: cut}).Do(t.Context(), question, nil)
					var e *llm.Error
					if err != nil {
						if !errors.As(err, &e) || e.Cause != llm.Broken {
							t.Fatalf("cut at %d of %d: error is %v, want Broken", n, len(whole.body), err)
						}
						continue
					}
					answers++
					if end == nil && strings.HasPrefix(c.name, "chat/") {
						// Servers that count nothing and close end so.
						got.Usage = want.Usage
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Fatalf("cut at %d of %d:\n%s", n, len(whole.body), diff)
					}
				}
			}
			if limit := len(whole.body) / 2; answers > limit {
				t.Errorf("%d cuts of %d gave an answer", answers, 2*len(whole.body))
			}
		})
	}
}

// FuzzAnswer feeds bytes to the clients as a provider's answer. Whatever comes,
// an answer has only whole tool calls, and an error is one of llm.
func FuzzAnswer(f *testing.F) {
	all := clients()
	for i, c := range all {
		for _, script := range []string{cutScript, `{"conversations":[{"turns":[{"text":"cut off","calls":[{"name":"run","args":{"a":[1,2]}}],"stop":"length"}]}]}`} {
			tape, _ := record(f, c, script)
			f.Add(i, tape.body)
		}
	}
	f.Fuzz(func(t *testing.T, which int, body []byte) {
		c := all[uint(which)%uint(len(all))]
		kind := "text/event-stream"
		if c.whole {
			kind = "application/json"
		}
		tape := recording{header: http.Header{"Content-Type": {kind}}, body: body}
		resp, err := c.model("http://provider", &http.Client{Transport: tape}).Do(t.Context(), question, func(llm.Delta) {})
		if err != nil {
			var e *llm.Error
			if !errors.As(err, &e) || e.Cause == "" || len(e.Message) > 2048 {
				t.Errorf("error is %#v", err)
			}
			return
		}
		if resp.Stop == "" || resp.Usage.Total() < 0 {
			t.Errorf("answer is %+v", resp)
		}
		for _, b := range resp.Blocks {
			var object map[string]any
			if b.Type == llm.ToolCall && (b.Call == "" || b.Name == "" || json.Unmarshal(b.Args, &object) != nil || object == nil) {
				t.Errorf("a tool call is not whole: %+v", b)
			}
		}
		// The answer must fit into a conversation again, and into a journal.
		if _, err := json.Marshal(resp.Message()); err != nil {
			t.Errorf("the answer cannot be kept: %v", err)
		}
		next := &llm.Request{Messages: []llm.Message{say("go"), resp.Message(), say("on")}}
		if _, err := c.model("http://provider", &http.Client{Transport: tape}).Do(t.Context(), next, nil); err != nil {
			var e *llm.Error
			if errors.As(err, &e) && e.Cause == llm.Rejected {
				t.Errorf("the answer cannot be sent back: %v", err)
			}
		}
	})
}

// BenchmarkStream measures a turn of about 40 kB through a client.
func BenchmarkStream(b *testing.B) {
	for _, c := range clients() {
		if c.whole {
			continue
		}
		b.Run(c.name, func(b *testing.B) {
			text, _ := json.Marshal(strings.Repeat("All work and no play. ", 200))
			tape, _ := record(b, c, `{"conversations":[{"turns":[{"text":`+string(text)+`}]}]}`)
			m := c.model("http://provider", &http.Client{Transport: tape})
			b.SetBytes(int64(len(tape.body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Do(b.Context(), question, func(llm.Delta) {}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
