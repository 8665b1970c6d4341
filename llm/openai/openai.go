// Package openai speaks the two dialects of OpenAI's API: Responses, and Chat
// Completions as OpenAI and the many servers compatible with it speak it.
//
// Three ideas. Nothing is kept at the provider: reasoning comes back encrypted,
// is carried in the conversation and sent again. Chat Completions is read with
// patience, because compatible servers leave out ids, indexes, counts and the
// end mark, and send arguments as they please. And an answer exists only when it
// is complete: a stream without its end, or a tool call whose arguments are not
// a whole JSON object, is an error.
//
// It makes one attempt. Retrying is llm.Do's.
package openai

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// DefaultBase is where OpenAI answers.
const DefaultBase = "https://api.openai.com/v1"

// Options say whom to ask for what.
type Options struct {
	Key     string // sent as a bearer token; "" sends none, for local servers
	BaseURL string // with its /v1, as OPENAI_BASE_URL has it; "" is DefaultBase
	// Model is the catalog's entry; of it, Provider (in errors), Name,
	// MaxOutput and Thinking count.
	Model llm.Entry
	// HTTP makes the requests; nil is a client of its own. It must have no time
	// limit for a whole request: answers take minutes.
	HTTP *http.Client
	Idle time.Duration // longest silence of the provider; zero is wire.DefaultIdle
	// First is the longest silence before an answer begins; zero is Idle.
	First time.Duration
	// Whole asks for answers in one piece, for a server that cannot stream. Then
	// First bounds the whole answer.
	Whole bool
}

// official says whether OpenAI itself is asked, which knows fields that make
// other servers refuse a request.
func (o Options) official() bool { return o.BaseURL == "" || o.BaseURL == DefaultBase }

// maxOutput gives the bound to ask for; zero leaves it to the model.
func (o Options) maxOutput(req *llm.Request) int {
	if o.Model.MaxOutput > 0 {
		return min(req.MaxOutput, o.Model.MaxOutput)
	}
	return req.MaxOutput
}

// effort gives the wanted effort where the model knows one.
func (o Options) effort(req *llm.Request) string {
	if o.Model.Thinking != "effort" {
		return ""
	}
	return req.Params["effort"]
}

// List asks which models the key may use and returns their names. Only Key,
// BaseURL, HTTP, Idle and First of opts count.
func List(ctx context.Context, opts Options) ([]string, error) {
	var page struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := newClient(opts).Fetch(ctx, "/models", &page); err != nil {
		return nil, err
	}
	names := make([]string, 0, len(page.Data))
	for _, m := range page.Data {
		names = append(names, m.ID)
	}
	return names, nil
}

// newClient returns the wire client for opts.
func newClient(opts Options) *wire.Client {
	header := http.Header{}
	if opts.Key != "" {
		header.Set("Authorization", "Bearer "+opts.Key)
	}
	return wire.Client{
		Provider: cmp.Or(opts.Model.Provider, "openai"),
		Base:     cmp.Or(opts.BaseURL, DefaultBase),
		Header:   header,
		Secret:   opts.Key,
		HTTP:     opts.HTTP,
		Idle:     opts.Idle,
		First:    opts.First,
		Classify: classify,
	}.Start()
}

// tooLong knows the words of OpenAI, vLLM, llama.cpp and others; the last is a
// limit of tokens per minute that one request alone passes, which waiting does
// not mend.
var tooLong = regexp.MustCompile(`(?i)maximum context length|context (window|size|length).*exceed|exceed.*context (window|size|length)|too many tokens in|request too large for`)

// classify gives the cause of a fault by its code, then its type, then its words.
func classify(f wire.Fault) llm.Cause {
	for _, name := range []string{f.Code, f.Type} {
		switch name {
		case "context_length_exceeded", "exceed_context_size_error":
			return llm.TooLong
		case "insufficient_quota", "billing_hard_limit_reached", "billing_not_active":
			return llm.NoCredit
		case "invalid_api_key", "authentication_error", "permission_error":
			return llm.Denied
		case "model_not_found":
			return llm.NoModel
		}
	}
	if tooLong.MatchString(f.Message) && f.Status < 500 {
		return llm.TooLong
	}
	for _, name := range []string{f.Code, f.Type} {
		switch name {
		case "rate_limit_exceeded", "rate_limit_error":
			return llm.RateLimited
		case "server_error", "server_is_overloaded", "slow_down", "overloaded_error", "vector_store_timeout":
			return llm.Overloaded
		}
	}
	if f.Status == 0 {
		switch f.Type + f.Code {
		case "invalid_request_error", "invalid_prompt":
			return llm.Rejected
		}
		// Gateways put the status they got into the stream as a code.
		var status int
		if _, err := fmt.Sscanf(f.Code, "%d", &status); err == nil && status >= 400 && status < 600 {
			return wire.CauseOf(status)
		}
	}
	return ""
}

// dataURL gives a picture as both dialects take it.
func dataURL(p errand.Image) string {
	return "data:" + p.MIME + ";base64," + base64.StdEncoding.EncodeToString(p.Data)
}

// wholeObject gives args as a JSON object's text, or false for anything else. No
// text at all is an object without fields: tools without parameters are called
// so by some servers.
func wholeObject(args string) (json.RawMessage, bool) {
	if strings.TrimSpace(args) == "" {
		args = "{}"
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(args), &object); err != nil || object == nil {
		return nil, false
	}
	return json.RawMessage(args), true
}

// isNull says whether a raw field is absent or null.
func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(raw, []byte("null"))
}

// usage splits the input that a provider counted as one into parts that do not
// overlap.
func usage(input, output, cached, written int64) errand.Usage {
	cached = min(max(cached, 0), max(input, 0))
	written = min(max(written, 0), max(input, 0)-cached)
	return errand.Usage{
		Input:      max(input, 0) - cached - written,
		Output:     max(output, 0),
		CacheRead:  cached,
		CacheWrite: written,
	}
}
