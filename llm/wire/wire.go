// Package wire is what the providers' dialects have in common below their
// JSON: one POST whose answer is a stream of server-sent events or one JSON
// body, and the errors that both can end in.
//
// Three ideas. Everything read is bounded: a line, an event, a stream, an error
// body. Silence is bounded too: a stream on which no byte arrives for a while is
// broken, however healthy its connection looks. And every failure leaves here as
// an *llm.Error that says what can be done about it, with the provider's words
// and without the key.
//
// It knows no dialect: what the events mean, and how a provider names its
// errors, is told by packages anthropic and openai. It does not retry.
package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/errand-dev/errand/llm"
)

// Bounds of what is read from a provider.
const (
	maxError = 64 << 10 // bytes of an error's body
	maxWhole = 32 << 20 // bytes of a stream, or of an answer in one piece
)

// DefaultIdle is how long a provider may be silent before its answer counts as
// broken. Providers that think for long send pings or comments meanwhile.
const DefaultIdle = 120 * time.Second

// Client asks one provider. Its fields are set before the first call and not
// changed afterwards; it is then safe for use by many goroutines.
type Client struct {
	Provider string      // how errors name it: "anthropic"
	Base     string      // base URL, with or without a slash at its end
	Header   http.Header // sent with every request
	Secret   string      // struck out of every error text
	// HTTP makes the requests; nil is NewHTTP's. Redirects are not followed
	// whatever it says, because a key must not travel to another host.
	HTTP *http.Client
	Idle time.Duration // zero is DefaultIdle
	// First is how long the provider may be silent before the first byte of an
	// answer, which is when it reads the question; zero is Idle.
	First time.Duration
	// Classify gives the cause of a fault that the provider described; it may
	// return "" to leave it to the status.
	Classify func(Fault) llm.Cause
}

// Sink takes in an answer as it arrives.
type Sink interface {
	// Event takes one event of a stream. done ends the reading: what follows
	// would not matter. An *llm.Error is passed on; other errors are Broken.
	Event(Event) (done bool, err error)
	// Whole takes an answer that came as one JSON body.
	Whole(body []byte) error
}

// NewHTTP returns a client for talking to providers: it notices an HTTP/2
// connection that died without a word, which would otherwise be taken again for
// each retry.
func NewHTTP() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second}
	return &http.Client{Transport: transport}
}

// Start returns c ready for use: with defaults filled in and with redirects
// refused.
func (c Client) Start() *Client {
	hc := c.HTTP
	if hc == nil {
		hc = NewHTTP()
	}
	own := *hc
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.HTTP = &own
	c.Base = strings.TrimRight(c.Base, "/")
	if c.Idle == 0 {
		c.Idle = DefaultIdle
	}
	if c.First == 0 {
		c.First = c.Idle
	}
	return &c
}

// Post sends body as JSON to path below the base and feeds the answer to sink.
// It blocks until the answer has ended. When ctx ends first, its error is
// returned (wrapped); everything else that goes wrong is an *llm.Error.
func (c *Client) Post(ctx context.Context, path string, body any, sink Sink) error {
	encoded, err := Encode(body)
	if err != nil {
		return c.fail(llm.Rejected, 0, fmt.Sprintf("the request cannot be written as JSON: %v", err), err)
	}
	return c.exchange(ctx, http.MethodPost, path, encoded, func(resp *http.Response, body io.Reader) error {
		if isStream(resp) {
			return c.drink(body, sink)
		}
		whole, err := c.readWhole(body)
		if err != nil {
			return err
		}
		if !json.Valid(whole) {
			return c.fail(llm.Broken, 0, describeBody(whole), nil)
		}
		return c.brokenUnless(sink.Whole(whole))
	})
}

// Fetch reads path below the base as JSON into out. It blocks until the body
// was read; errors are as of Post.
func (c *Client) Fetch(ctx context.Context, path string, out any) error {
	return c.exchange(ctx, http.MethodGet, path, nil, func(_ *http.Response, body io.Reader) error {
		whole, err := c.readWhole(body)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(whole, out); err != nil {
			return c.fail(llm.Broken, 0, describeBody(whole), err)
		}
		return nil
	})
}

// errSilent is why a request of ours was ended by its watch.
var errSilent = errors.New("the provider fell silent")

// exchange makes one request under a watch on silence and hands a good answer
// to read.
func (c *Client) exchange(ctx context.Context, method, path string, body []byte, read func(*http.Response, io.Reader) error) error {
	watched, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(c.First, func() { cancel(errSilent) })
	defer watch.Stop()

	bound := c.First
	err := c.ask(watched, method, path, body, func(resp *http.Response) error {
		stream := &watchedReader{r: resp.Body, arrived: func() {
			bound = c.Idle
			watch.Reset(bound)
		}}
		if resp.StatusCode/100 != 2 {
			return c.refusal(resp, stream)
		}
		return read(resp, stream)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("asking %s: %w", c.Provider, ctx.Err())
	case errors.Is(context.Cause(watched), errSilent):
		return c.fail(llm.Broken, 0, fmt.Sprintf("no byte arrived for %s", bound), errSilent)
	}
	return err
}

// ask makes one request and hands any answer to read.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, read func(*http.Response) error) error {
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, bytes.NewReader(body))
	if err != nil {
		return c.fail(llm.Rejected, 0, fmt.Sprintf("the base URL is wrong: %v", err), err)
	}
	for name, values := range c.Header {
		req.Header[name] = values
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return c.fail(llm.Broken, 0, fmt.Sprintf("no answer: %v", err), err)
	}
	defer resp.Body.Close()
	return read(resp)
}

// watchedReader tells of each byte that arrives.
type watchedReader struct {
	r       io.Reader
	arrived func()
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.arrived()
	}
	return n, err
}

// drink feeds a stream's events to sink until it is done or the stream ends.
// Whether an ended stream was whole is for the sink's owner to say.
func (c *Client) drink(body io.Reader, sink Sink) error {
	head := &beginning{r: io.LimitReader(body, maxWhole)}
	events := NewReader(head)
	for n := 0; ; n++ {
		event, err := events.Next()
		if err == io.EOF && n == 0 {
			return c.fail(llm.Broken, 0, describeBody(head.kept), nil)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return c.fail(llm.Broken, 0, fmt.Sprintf("the stream broke: %v", err), err)
		}
		done, err := sink.Event(event)
		if err != nil {
			return c.brokenUnless(err)
		}
		if done {
			return nil
		}
	}
}

// beginning keeps the first bytes read, to tell people what came instead of
// events.
type beginning struct {
	r    io.Reader
	kept []byte
}

func (b *beginning) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.kept = append(b.kept, p[:min(n, 1024-len(b.kept))]...)
	return n, err
}

// readWhole reads a body within bounds.
func (c *Client) readWhole(body io.Reader) ([]byte, error) {
	whole, err := io.ReadAll(io.LimitReader(body, maxWhole+1))
	if err != nil {
		return nil, c.fail(llm.Broken, 0, fmt.Sprintf("the answer broke off: %v", err), err)
	}
	if len(whole) > maxWhole {
		return nil, c.fail(llm.Broken, 0, fmt.Sprintf("the answer is longer than %d MiB", maxWhole>>20), nil)
	}
	return whole, nil
}

// isStream says whether the answer is a stream of events. What has no type, or
// a plain one, is taken for a stream: compatible servers forget the header.
func isStream(resp *http.Response) bool {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return kind != "application/json" && kind != "text/html"
}

// Encode writes v as JSON without escaping <, > and &, which would cost tokens
// in some dialects and help nobody.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// Unescape gives a JSON text with <, > and & written as themselves. What has
// been kept by encoding/json has them escaped; sent back so, it would not be
// what the model said, and not what the provider has cached.
func Unescape(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte(`\u00`)) {
		return raw
	}
	out := make(json.RawMessage, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || i+1 == len(raw) {
			out = append(out, raw[i])
			continue
		}
		if i+6 <= len(raw) {
			if plain, ok := escaped[string(raw[i:i+6])]; ok {
				out = append(out, plain)
				i += 5
				continue
			}
		}
		out = append(out, raw[i], raw[i+1])
		i++
	}
	return out
}

// escaped are the escapes of encoding/json that no other writer makes.
var escaped = map[string]byte{`\u003c`: '<', `\u003e`: '>', `\u0026`: '&'}
