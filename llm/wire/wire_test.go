package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/llm"
)

// read reads all events of a text.
func read(r io.Reader) (events []string, err error) {
	events = []string{}
	for reader := NewReader(r); ; {
		e, err := reader.Next()
		if err != nil {
			return events, err
		}
		events = append(events, e.Name+"|"+string(e.Data))
	}
}

func TestReader(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string
	}{
		{"plain", "data: a\n\ndata: b\n\n", []string{"|a", "|b"}},
		{"named", "event: x\ndata: a\n\n", []string{"x|a"}},
		{"carriage returns", "event: x\r\ndata: a\r\n\r\n", []string{"x|a"}},
		{"many lines", "data: a\ndata:b\ndata:  c\n\n", []string{"|a\nb\n c"}},
		{"comments, ids, retries", ": ping\nid: 7\nretry: 10\ndata: a\n\n", []string{"|a"}},
		{"name without data", "event: x\n\ndata: a\n\n", []string{"|a"}},
		{"byte order mark", "\xef\xbb\xbfdata: a\n\n", []string{"|a"}},
		{"colons in data", "data: {\"a\":1}\n\n", []string{`|{"a":1}`}},
		{"not closed", "data: a\n\ndata: b\n", []string{"|a"}},
		{"line not ended", "data: a\n\ndata: b", []string{"|a"}},
		{"long line", "data: " + strings.Repeat("x", 100_000) + "\n\n", []string{"|" + strings.Repeat("x", 100_000)}},
		{"nothing", "", []string{}},
	}
	for _, tt := range tests {
		for name, r := range map[string]io.Reader{
			"at once":        strings.NewReader(tt.text),
			"byte by byte":   iotest.OneByteReader(strings.NewReader(tt.text)),
			"with its end":   iotest.DataErrReader(strings.NewReader(tt.text)),
			"half by halves": iotest.HalfReader(strings.NewReader(tt.text)),
		} {
			got, err := read(r)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != io.EOF {
				t.Errorf("%s, %s: error %v, events:\n%s", tt.name, name, err, diff)
			}
		}
	}
}

// endless gives the same bytes for ever.
type endless string

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

func TestReaderBounds(t *testing.T) {
	for name, text := range map[string]endless{"line": endless(strings.Repeat("x", 4096)), "event": endless("data: " + strings.Repeat("x", 4096) + "\n")} {
		if _, err := read(text); !errors.Is(err, ErrTooLarge) {
			t.Errorf("an endless %s ends with %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("event: x\ndata: a\n\n"))
	f.Add([]byte("\xef\xbb\xbfdata: a\r\n\r\n: c\ndata"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := read(bytes.NewReader(text))
		if err != io.EOF {
			t.Fatalf("reading ended with %v", err)
		}
		slow, _ := read(iotest.OneByteReader(bytes.NewReader(text)))
		if diff := cmp.Diff(got, slow); diff != "" {
			t.Errorf("events depend on how bytes arrive:\n%s", diff)
		}
	})
}

func TestAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		headers map[string]string
		want    time.Duration
	}{
		{nil, 0},
		{map[string]string{"Retry-After": "3"}, 3 * time.Second},
		{map[string]string{"Retry-After": "0.5"}, 500 * time.Millisecond},
		{map[string]string{"Retry-After": "-3"}, 0},
		{map[string]string{"Retry-After": "NaN"}, 0},
		{map[string]string{"Retry-After": "1e300"}, 24 * time.Hour},
		{map[string]string{"Retry-After": "soon"}, 0},
		{map[string]string{"Retry-After-Ms": "250", "Retry-After": "1"}, 250 * time.Millisecond},
		{map[string]string{"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30 * time.Second},
		{map[string]string{"Retry-After": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0},
		{map[string]string{"Retry-After": "Sun, 22 Nov 2026 09:00:10 GMT", "Date": "Sun, 22 Nov 2026 09:00:00 GMT"}, 10 * time.Second},
	}
	for _, tt := range tests {
		h := http.Header{}
		for k, v := range tt.headers {
			h.Set(k, v)
		}
		if got := after(h, now); got != tt.want {
			t.Errorf("after(%v) = %v, want %v", tt.headers, got, tt.want)
		}
	}
}

func TestErrorTextIsBoundedAndHasNoKey(t *testing.T) {
	c := Client{Provider: "p", Secret: "sk-secret"}.Start()
	e := c.Error(Fault{Status: 401, Message: "bad key sk-secret\x00\x1b[31m " + strings.Repeat("ü", 3000)})
	if strings.Contains(e.Error(), "sk-secret") || !strings.Contains(e.Error(), "[key]") {
		t.Errorf("the key is in %.60q", e.Error())
	}
	if len(e.Message) > maxMessage || !utf8.ValidString(e.Message) || strings.ContainsAny(e.Message, "\x00\x1b") {
		t.Errorf("the message is not clean: %d bytes", len(e.Message))
	}
}

// sink takes everything.
type sink struct{ events int }

func (s *sink) Event(Event) (bool, error) { s.events++; return false, nil }
func (s *sink) Whole([]byte) error        { return nil }

// answers makes a client of a function.
type answers func(*http.Request) (*http.Response, error)

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r) }

// streaming gives an answer whose body write fills until the request ends.
func streaming(write func(w io.Writer)) answers {
	return func(r *http.Request) (*http.Response, error) {
		body, w := io.Pipe()
		go func() {
			write(w)
			<-r.Context().Done()
			w.CloseWithError(r.Context().Err())
		}()
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: r}, nil
	}
}

func TestSilenceBreaksTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := streaming(func(w io.Writer) {
			for range 5 { // longer in all than the bound, never silent for it
				fmt.Fprint(w, ": ping\n")
				time.Sleep(90 * time.Second)
			}
			fmt.Fprint(w, "data: x\n\n")
		})
		c := Client{Provider: "p", HTTP: &http.Client{Transport: transport}}.Start()
		begin, s := time.Now(), &sink{}
		err := c.Post(t.Context(), "/", nil, s)
		var e *llm.Error
		if !errors.As(err, &e) || e.Cause != llm.Broken || !errors.Is(err, errSilent) {
			t.Errorf("error is %v, want Broken by silence", err)
		}
		if got, want := time.Since(begin), 5*90*time.Second+DefaultIdle; got != want || s.events != 1 {
			t.Errorf("gave up after %v and %d events, want %v and 1", got, s.events, want)
		}
	})
}

func TestSilenceBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Client{Provider: "p", Idle: time.Minute, HTTP: &http.Client{Transport: answers(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}}.Start()
		if err := c.Post(t.Context(), "/", nil, &sink{}); !errors.Is(err, errSilent) || !llm.Retryable(err) {
			t.Errorf("error is %v", err)
		}
	})
}

// A server may read a long question in silence, and then is held to Idle.
func TestSilenceBeforeTheFirstByte(t *testing.T) {
	for _, served := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			transport := streaming(func(w io.Writer) {
				if served {
					time.Sleep(9 * time.Minute)
					fmt.Fprint(w, "data: x\n\n")
				}
			})
			c := Client{Provider: "p", First: 10 * time.Minute, HTTP: &http.Client{Transport: transport}}.Start()
			begin, s := time.Now(), &sink{}
			err := c.Post(t.Context(), "/", nil, s)
			want, events, words := 10*time.Minute, 0, "for 10m0s"
			if served {
				want, events, words = 9*time.Minute+DefaultIdle, 1, "for 2m0s"
			}
			if got := time.Since(begin); got != want || s.events != events || !errors.Is(err, errSilent) || !strings.Contains(err.Error(), words) {
				t.Errorf("served %v: %d events and %v after %s", served, s.events, err, got)
			}
		})
	}
}

func TestKeyDoesNotFollowARedirect(t *testing.T) {
	asked := 0
	c := Client{Provider: "p", Base: "https://one.example", Header: http.Header{"X-Api-Key": {"k"}}, HTTP: &http.Client{Transport: answers(func(r *http.Request) (*http.Response, error) {
		asked++
		return &http.Response{StatusCode: 308, Header: http.Header{"Location": {"https://two.example/"}}, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
	})}}.Start()
	err := c.Post(t.Context(), "/x", nil, &sink{})
	if err == nil || !strings.Contains(err.Error(), "https://two.example/") || asked != 1 {
		t.Errorf("asked %d times, error %v", asked, err)
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":"b \u0026\u0026 c \u003cd\u003e"}`: `{"a":"b && c <d>"}`,
		`{"a":"\\u0026 \u00e4 \\\u0026"}`:        `{"a":"\\u0026 \u00e4 \\&"}`,
		`{"a":"plain"}`:                          `{"a":"plain"}`,
		`"\u00`:                                  `"\u00`,
		`\`:                                      `\`,
	} {
		if got := string(Unescape(json.RawMessage(in))); got != want {
			t.Errorf("Unescape(%s) = %s, want %s", in, got, want)
		}
	}
}
