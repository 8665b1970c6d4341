// Package llm is the seam between Errand and language models: one Request, one
// Response, and the Model interface that a provider's wire client implements.
//
// The form is the smallest that holds what the providers agree on (text,
// thinking, tool calls, tool results, pictures) without losing what one of them
// needs back (signatures of thinking, encrypted reasoning): a block carries the
// provider's own data along unread. A Response is either whole or an error:
// a stream that was cut, or a tool call whose arguments were cut, never looks
// like an answer.
//
// Retrying, compaction and running tools are package loop's.
package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/errand-dev/errand"
)

// Model is one language model of one provider.
type Model interface {
	// Do sends req and blocks until the answer is whole, calling emit (if not
	// nil) from the calling goroutine for each piece as it streams. Errors from
	// the provider are *Error. Do makes one attempt; it does not retry.
	Do(ctx context.Context, req *Request, emit func(Delta)) (*Response, error)
}

// Role is who speaks.
type Role string

const (
	User      Role = "user"
	Assistant Role = "assistant"
)

// Request is one question with all that the model is to know.
type Request struct {
	System   string    // rules and role; cached by the provider where it can
	Tools    []Tool    // cached likewise
	Messages []Message // alternating, the last one from User; cached up to there
	// MaxOutput bounds the answer in tokens; zero is the model's own bound.
	MaxOutput int
	// Params are the agent's model parameters ("effort": "high"); a client
	// ignores what it does not know.
	Params map[string]string
	// Key is a stable name of the conversation, for providers that route by it.
	Key string
}

// Tool is a tool that the model may call.
type Tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema"` // JSON Schema of an object
}

// Message is one side's part of the conversation.
type Message struct {
	Role   Role    `json:"role"`
	Blocks []Block `json:"blocks"`
}

// BlockType says which fields of a Block are set.
type BlockType string

const (
	Text       BlockType = "text"        // Text
	Thinking   BlockType = "thinking"    // Text, Raw
	ToolCall   BlockType = "tool_call"   // Call, Name, Args, Raw
	ToolResult BlockType = "tool_result" // Call, Text, IsError, Images
	Image      BlockType = "image"       // Images[0]
)

// Block is one part of a message.
type Block struct {
	Type    BlockType       `json:"type"`
	Text    string          `json:"text,omitempty"`
	Call    string          `json:"call,omitempty"` // the provider's id of the tool call
	Name    string          `json:"name,omitempty"` // of the tool
	Args    json.RawMessage `json:"args,omitempty"` // always a whole JSON object
	IsError bool            `json:"isError,omitempty"`
	Images  []errand.Image  `json:"images,omitempty"`
	// Raw is the provider's own form of the block where the conversation needs
	// it back (a signature, encrypted reasoning), with the dialect it is of.
	Raw     json.RawMessage `json:"raw,omitempty"`
	Dialect string          `json:"dialect,omitempty"`
}

// Delta is a piece of an answer as it streams. Call and Args let a screen show
// a tool call forming; nothing is run on them.
type Delta struct {
	Type BlockType // Text, Thinking or ToolCall
	Text string    // text, thinking, or a piece of the arguments
	Call string
	Name string
}

// Stop says why the model stopped.
type Stop string

const (
	StopEnd     Stop = "end"     // it has said what it wanted to
	StopTools   Stop = "tools"   // it waits for tool results
	StopLength  Stop = "length"  // the output bound was reached; the answer is cut
	StopRefusal Stop = "refusal" // the provider declined
)

// Response is a whole answer.
type Response struct {
	ID     string // the provider's own
	Model  string // as the provider named it
	Blocks []Block
	Stop   Stop
	Usage  errand.Usage // exact, from the wire
}

// Message gives the answer as a part of the conversation.
func (r *Response) Message() Message { return Message{Role: Assistant, Blocks: r.Blocks} }

// Cause says what can be done about an Error.
type Cause string

const (
	RateLimited Cause = "rate_limited" // 429: wait, try again
	Overloaded  Cause = "overloaded"   // 5xx, 529, or an overload inside a stream: try again
	Broken      Cause = "broken"       // a cut stream, garbage, a network fault: try again
	TooLong     Cause = "too_long"     // the conversation passes the window: compact
	Rejected    Cause = "rejected"     // 400: the request is wrong
	Denied      Cause = "denied"       // 401, 403: the key is wrong or lacks rights
	NoModel     Cause = "no_model"     // 404: the model is unknown there
	NoCredit    Cause = "no_credit"    // the account has nothing left
)

// Error is a provider's refusal or failure.
type Error struct {
	Provider string
	Cause    Cause
	Status   int           // HTTP; 0 where there was none
	After    time.Duration // from Retry-After; 0 where the provider said nothing
	Message  string        // the provider's own words, at most 2 KiB
	Err      error
}

// Error names the provider, the status and its words.
func (e *Error) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("%s answered %d: %s", e.Provider, e.Status, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Provider, e.Message)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable says whether the same request may succeed later.
func Retryable(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Cause {
	case RateLimited, Overloaded, Broken:
		return true
	}
	return false
}
