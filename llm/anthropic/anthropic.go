// Package anthropic speaks the dialect of Anthropic's Messages API.
//
// Three ideas. The prompt is cached by marking where it stays the same: after
// the tools, after the rules, and after the last two of the user's messages, so
// that each turn reads what the one before wrote. Thinking goes back to the
// model with the signature it came with, and nobody reads that. And an answer
// exists only when the provider said that it is complete: a stream without its
// end, or a tool call with half its input, is an error.
//
// It makes one attempt. Retrying is llm.Do's.
package anthropic

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// DefaultBase is where Anthropic answers.
const DefaultBase = "https://api.anthropic.com"

// version is the API's version that this package was written for.
const version = "2023-06-01"

// defaultMaxOutput is asked for where neither request nor catalog name a bound:
// the API wants one, and every model in use allows this.
const defaultMaxOutput = 8192

// Options say whom to ask for what.
type Options struct {
	Key     string // sent as x-api-key; "" sends none
	BaseURL string // without /v1; "" is DefaultBase
	// Model is the catalog's entry; of it, Provider (in errors), Name,
	// MaxOutput and Thinking count.
	Model llm.Entry
	// HTTP makes the requests; nil is a client of its own. It must have no time
	// limit for a whole request: answers take minutes.
	HTTP *http.Client
	Idle time.Duration // longest silence of the provider; zero is wire.DefaultIdle
	// First is the longest silence before an answer begins; zero is Idle.
	First time.Duration
	// Whole asks for answers in one piece, for a proxy that cannot stream. Then
	// First bounds the whole answer.
	Whole bool
}

// Model is one model at Anthropic or at a server that speaks its dialect.
type Model struct {
	client *wire.Client
	opts   Options
}

// New returns a model. It does not touch the network.
func New(opts Options) *Model {
	return &Model{client: newClient(opts), opts: opts}
}

// Do makes one attempt, as llm.Model says.
func (m *Model) Do(ctx context.Context, req *llm.Request, emit func(llm.Delta)) (*llm.Response, error) {
	if emit == nil {
		emit = func(llm.Delta) {}
	}
	answer := &answer{client: m.client, emit: emit}
	if err := m.client.Post(ctx, "/v1/messages", m.encode(req), answer); err != nil {
		return nil, err
	}
	return answer.response()
}

// List asks which models the key may use and returns their names. Only Key,
// BaseURL, HTTP, Idle and First of opts count.
func List(ctx context.Context, opts Options) ([]string, error) {
	client := newClient(opts)
	var names []string
	path := "/v1/models?limit=1000"
	// Ten pages are ten times what exists; a server that says has_more for ever
	// must not hold us.
	for range 10 {
		var page struct {
			Data []struct {
				ID string `json:"id"`
			} `json:"data"`
			HasMore bool   `json:"has_more"`
			LastID  string `json:"last_id"`
		}
		if err := client.Fetch(ctx, path, &page); err != nil {
			return nil, err
		}
		for _, m := range page.Data {
			names = append(names, m.ID)
		}
		if !page.HasMore || page.LastID == "" {
			break
		}
		path = "/v1/models?limit=1000&after_id=" + url.QueryEscape(page.LastID)
	}
	return names, nil
}

// newClient returns the wire client for opts.
func newClient(opts Options) *wire.Client {
	header := http.Header{"Anthropic-Version": {version}}
	if opts.Key != "" {
		header.Set("X-Api-Key", opts.Key)
	}
	if opts.Model.Thinking == "budget" {
		// Older models think between tool calls only when asked by this name;
		// newer ones always do.
		header.Set("Anthropic-Beta", "interleaved-thinking-2025-05-14")
	}
	return wire.Client{
		Provider: cmp.Or(opts.Model.Provider, "anthropic"),
		Base:     strings.TrimSuffix(strings.TrimRight(cmp.Or(opts.BaseURL, DefaultBase), "/"), "/v1"),
		Header:   header,
		Secret:   opts.Key,
		HTTP:     opts.HTTP,
		Idle:     opts.Idle,
		First:    opts.First,
		Classify: classify,
	}.Start()
}

var (
	tooLong  = regexp.MustCompile(`(?i)prompt is too long|exceeds? (the )?context (limit|window)|input length and .max_tokens. exceed`)
	noCredit = regexp.MustCompile(`(?i)credit balance is too low|your specified API usage limits`)
)

// classify gives the cause of a fault by its type; the two that have no type of
// their own are known by the provider's words.
func classify(f wire.Fault) llm.Cause {
	switch f.Type {
	case "overloaded_error", "api_error", "timeout_error":
		return llm.Overloaded
	case "rate_limit_error":
		return llm.RateLimited
	case "authentication_error", "permission_error":
		return llm.Denied
	case "billing_error":
		return llm.NoCredit
	case "not_found_error":
		return llm.NoModel
	case "request_too_large":
		return llm.TooLong
	case "invalid_request_error":
		if tooLong.MatchString(f.Message) {
			return llm.TooLong
		}
		if noCredit.MatchString(f.Message) {
			return llm.NoCredit
		}
		return llm.Rejected
	}
	return ""
}
