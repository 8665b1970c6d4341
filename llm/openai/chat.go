package openai

import (
	"context"
	"encoding/json"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// Chat is one model spoken to in the Chat Completions dialect.
type Chat struct {
	client *wire.Client
	opts   Options
}

// NewChat returns a model for the Chat Completions dialect, of OpenAI or of any
// compatible server. It does not touch the network.
func NewChat(opts Options) *Chat {
	return &Chat{client: newClient(opts), opts: opts}
}

// Do makes one attempt, as llm.Model says. A server that sends no usage gets
// zeros, and one whose stream ends after a finish reason without [DONE] has
// ended it well.
func (m *Chat) Do(ctx context.Context, req *llm.Request, emit func(llm.Delta)) (*llm.Response, error) {
	if emit == nil {
		emit = func(llm.Delta) {}
	}
	answer := &chatAnswer{client: m.client, emit: emit}
	if err := m.client.Post(ctx, "/chat/completions", m.encode(req), answer); err != nil {
		return nil, err
	}
	return answer.response()
}

// chatRequest is the body of POST /chat/completions.
type chatRequest struct {
	Model           string         `json:"model"`
	Messages        []chatMessage  `json:"messages"`
	Tools           []chatTool     `json:"tools,omitempty"`
	ReasoningEffort string         `json:"reasoning_effort,omitempty"`
	MaxTokens       int            `json:"max_tokens,omitempty"`
	MaxCompletion   int            `json:"max_completion_tokens,omitempty"`
	PromptCacheKey  string         `json:"prompt_cache_key,omitempty"`
	Stream          bool           `json:"stream"`
	StreamOptions   *streamOptions `json:"stream_options,omitempty"`
}

type (
	streamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	}
	chatTool struct {
		Type     string       `json:"type"`
		Function chatFunction `json:"function"`
	}
	chatFunction struct {
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters,omitempty"`
	}
	chatMessage struct {
		Role       string     `json:"role"`
		Content    any        `json:"content"` // a string, parts, or null
		ToolCalls  []chatCall `json:"tool_calls,omitempty"`
		ToolCallID string     `json:"tool_call_id,omitempty"`
		// Some models want their thinking back under the name they gave it.
		ReasoningContent string `json:"reasoning_content,omitempty"`
		Reasoning        string `json:"reasoning,omitempty"`
	}
	chatCall struct {
		ID       string `json:"id"`
		Type     string `json:"type"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	}
	chatPart struct {
		Type     string    `json:"type"`
		Text     string    `json:"text,omitempty"`
		ImageURL *imageURL `json:"image_url,omitempty"`
	}
	imageURL struct {
		URL string `json:"url"`
	}
)

// chatDialect marks the Raw of blocks that came from here.
const chatDialect = string(llm.Chat)

// field is the Raw of a thinking block: the name under which it came.
type field struct {
	Field string `json:"field"`
}

// encode gives the wire form of a request.
func (m *Chat) encode(req *llm.Request) *chatRequest {
	out := &chatRequest{
		Model:           m.opts.Model.Name(),
		ReasoningEffort: m.opts.effort(req),
		Stream:          !m.opts.Whole,
	}
	if out.Stream {
		out.StreamOptions = &streamOptions{IncludeUsage: true}
	}
	if m.opts.official() {
		out.MaxCompletion, out.PromptCacheKey = m.opts.maxOutput(req), req.Key
	} else {
		out.MaxTokens = m.opts.maxOutput(req) // the name that every server knows
	}
	if req.System != "" {
		out.Messages = append(out.Messages, chatMessage{Role: "system", Content: req.System})
	}
	for _, t := range req.Tools {
		out.Tools = append(out.Tools, chatTool{Type: "function", Function: chatFunction{Name: t.Name, Description: t.Description, Parameters: t.Schema}})
	}
	for _, msg := range req.Messages {
		if msg.Role == llm.Assistant {
			if am, ok := assistantMessage(msg.Blocks); ok {
				out.Messages = append(out.Messages, am)
			}
		} else {
			out.Messages = append(out.Messages, userMessages(msg.Blocks)...)
		}
	}
	return out
}

// assistantMessage gives an answer back; false for one with nothing to say.
func assistantMessage(blocks []llm.Block) (chatMessage, bool) {
	msg := chatMessage{Role: "assistant"}
	var text string
	var reasoning, reasoningContent string
	for _, b := range blocks {
		switch b.Type {
		case llm.Text:
			text += b.Text
		case llm.Thinking:
			var f field
			if b.Dialect != chatDialect || json.Unmarshal(b.Raw, &f) != nil {
				continue
			}
			if f.Field == "reasoning" {
				reasoning += b.Text
			} else {
				reasoningContent += b.Text
			}
		case llm.ToolCall:
			call := chatCall{ID: b.Call, Type: "function"}
			call.Function.Name, call.Function.Arguments = b.Name, string(wire.Unescape(b.Args))
			msg.ToolCalls = append(msg.ToolCalls, call)
		}
	}
	if text != "" {
		msg.Content = text
	}
	// Models that think between tool calls need it back there; older ones refuse
	// it anywhere else.
	if len(msg.ToolCalls) > 0 {
		msg.Reasoning, msg.ReasoningContent = reasoning, reasoningContent
	}
	return msg, text != "" || len(msg.ToolCalls) > 0
}

// userMessages gives a user's message: one for each tool result, and one for the
// rest. A result's pictures go into the latter, because a tool's message may
// hold text only.
func userMessages(blocks []llm.Block) []chatMessage {
	var msgs []chatMessage
	var parts []chatPart
	plain := true
	addImages := func(pictures []errand.Image) {
		for _, p := range pictures {
			plain = false
			parts = append(parts, chatPart{Type: "image_url", ImageURL: &imageURL{URL: dataURL(p)}})
		}
	}
	for _, b := range blocks {
		switch b.Type {
		case llm.ToolResult:
			msgs = append(msgs, chatMessage{Role: "tool", ToolCallID: b.Call, Content: b.Text})
			addImages(b.Images)
		case llm.Text:
			if b.Text != "" {
				parts = append(parts, chatPart{Type: "text", Text: b.Text})
			}
		case llm.Image:
			addImages(b.Images)
		}
	}
	switch {
	case len(parts) == 0:
		return msgs
	case plain && len(parts) == 1: // what every server understands
		return append(msgs, chatMessage{Role: "user", Content: parts[0].Text})
	}
	return append(msgs, chatMessage{Role: "user", Content: parts})
}
