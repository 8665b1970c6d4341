package scripted

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/errand-dev/errand/llm"
)

// messagesBlock is a content block of the Messages dialect.
type messagesBlock struct {
	Type         string          `json:"type"`
	Text         string          `json:"text"`
	Thinking     string          `json:"thinking"`
	Signature    string          `json:"signature"`
	ID           string          `json:"id"`
	ToolUseID    string          `json:"tool_use_id"`
	Input        json.RawMessage `json:"input"`
	Content      messagesContent `json:"content"`
	CacheControl json.RawMessage `json:"cache_control"`
}

// messagesContent is a list of blocks, or a string that stands for one.
type messagesContent []messagesBlock

func (c *messagesContent) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		*c = messagesContent{{Type: "text", Text: text}}
		return nil
	}
	return json.Unmarshal(b, (*[]messagesBlock)(c))
}

// readMessages reads a request of the Messages dialect.
func readMessages(body []byte) (*ask, *refusal) {
	var req struct {
		Model     string          `json:"model"`
		MaxTokens int             `json:"max_tokens"`
		Stream    bool            `json:"stream"`
		System    messagesContent `json:"system"`
		Tools     json.RawMessage `json:"tools"`
		Metadata  struct {
			UserID string `json:"user_id"`
		} `json:"metadata"`
		Messages []struct {
			Role    string          `json:"role"`
			Content messagesContent `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, invalid("the request body is not valid JSON: %v", err)
	}
	a := &ask{dialect: llm.Messages, model: req.Model, key: req.Metadata.UserID, stream: req.Stream, counted: true, tools: string(req.Tools)}
	var tools []messagesBlock
	_ = json.Unmarshal(req.Tools, &tools) // only to look for marks
	marks := 0
	mark := func(blocks ...messagesBlock) {
		for _, b := range blocks {
			if len(b.CacheControl) > 0 {
				marks++
			}
		}
	}
	mark(tools...)
	for _, b := range req.System {
		a.system += b.Text
		mark(b)
	}
	for i, m := range req.Messages {
		if m.Role != "user" && m.Role != "assistant" {
			return nil, invalid("messages.%d.role: must be user or assistant, is %q", i, m.Role)
		}
		if len(m.Content) == 0 {
			return nil, invalid("messages.%d: all messages must have non-empty content", i)
		}
		for n, b := range m.Content {
			mark(b)
			if err := a.hear(m.Role == "assistant").addMessages(b); err != nil {
				return nil, invalid("messages.%d.content.%d: %v", i, n, err)
			}
		}
	}
	if marks > 4 {
		return nil, invalid("a maximum of 4 blocks with cache_control may be provided, found %d", marks)
	}
	a.marked = marks > 0
	return a, nil
}

// addMessages adds one block; its errors are the provider's own.
func (s *said) addMessages(b messagesBlock) error {
	switch b.Type {
	case "text":
		if strings.TrimSpace(b.Text) == "" {
			return fmt.Errorf("text content blocks must contain non-whitespace text")
		}
		s.Texts = append(s.Texts, b.Text)
	case "image":
		s.Images++
	case "thinking":
		if b.Signature != seal(b.Thinking) {
			return fmt.Errorf("invalid `signature` in `thinking` block")
		}
		s.Extra += len(b.Thinking)
	case "tool_use":
		var object map[string]any
		if json.Unmarshal(b.Input, &object) != nil || object == nil {
			return fmt.Errorf("tool_use.input: must be an object")
		}
		s.Calls = append(s.Calls, b.ID)
		s.Extra += len(b.Input)
	case "tool_result":
		s.Answers = append(s.Answers, b.ToolUseID)
		var text []string
		for _, part := range b.Content {
			text = append(text, part.Text)
			if part.Type == "image" {
				s.Images++
			}
		}
		s.Results = append(s.Results, strings.Join(text, "\n"))
	}
	return nil
}

// messagesUsage gives the usage in the dialect's names.
func messagesUsage(r *reply) map[string]any {
	return map[string]any{
		"input_tokens": r.usage.Input, "output_tokens": r.usage.Output,
		"cache_read_input_tokens": r.usage.CacheRead, "cache_creation_input_tokens": r.usage.CacheWrite,
	}
}

// messagesStop gives the dialect's word for why the answer ends.
func messagesStop(r *reply) string {
	switch {
	case r.stop == "length":
		return "max_tokens"
	case r.stop == "refusal":
		return "refusal"
	case len(r.calls) > 0:
		return "tool_use"
	}
	return "end_turn"
}

// messagesWhole gives the answer in one piece.
func messagesWhole(r *reply) []byte {
	content := []any{}
	if r.thinking != "" {
		content = append(content, map[string]any{"type": "thinking", "thinking": r.thinking, "signature": seal(r.thinking)})
	}
	if r.text != "" {
		content = append(content, map[string]any{"type": "text", "text": r.text})
	}
	for _, c := range r.calls {
		input := json.RawMessage(c.args)
		if !json.Valid(input) {
			input = json.RawMessage("{}") // so does the provider with a cut one
		}
		content = append(content, map[string]any{"type": "tool_use", "id": c.id, "name": c.name, "input": input})
	}
	return must(map[string]any{
		"id": "msg_" + r.id, "type": "message", "role": "assistant", "model": r.model, "content": content,
		"stop_reason": messagesStop(r), "stop_sequence": nil, "usage": messagesUsage(r),
	})
}

// messagesFrames gives the answer as a stream.
func messagesFrames(r *reply, _ *ask) []frame {
	var frames []frame
	add := func(kind string, fields map[string]any) {
		fields["type"] = kind
		frames = append(frames, frame{kind, fmt.Appendf(nil, "event: %s\ndata: %s\n\n", kind, must(fields))})
	}
	usage := messagesUsage(r)
	usage["output_tokens"] = 1
	add("message_start", map[string]any{"message": map[string]any{
		"id": "msg_" + r.id, "type": "message", "role": "assistant", "model": r.model, "content": []any{},
		"stop_reason": nil, "stop_sequence": nil, "usage": usage,
	}})
	add("ping", map[string]any{})
	index := 0
	block := func(open map[string]any, deltas ...map[string]any) {
		add("content_block_start", map[string]any{"index": index, "content_block": open})
		for _, d := range deltas {
			add("content_block_delta", map[string]any{"index": index, "delta": d})
		}
		add("content_block_stop", map[string]any{"index": index})
		index++
	}
	deltas := func(kind, field, text string) (out []map[string]any) {
		for _, p := range r.pieces(text) {
			out = append(out, map[string]any{"type": kind, field: p})
		}
		return out
	}
	if r.thinking != "" {
		block(map[string]any{"type": "thinking", "thinking": "", "signature": ""},
			append(deltas("thinking_delta", "thinking", r.thinking), map[string]any{"type": "signature_delta", "signature": seal(r.thinking)})...)
	}
	if r.text != "" {
		block(map[string]any{"type": "text", "text": ""}, deltas("text_delta", "text", r.text)...)
	}
	for _, c := range r.calls {
		pieces := []map[string]any{{"type": "input_json_delta", "partial_json": ""}} // the provider begins so
		if c.args != "{}" {
			pieces = append(pieces, deltas("input_json_delta", "partial_json", c.args)...)
		}
		block(map[string]any{"type": "tool_use", "id": c.id, "name": c.name, "input": map[string]any{}}, pieces...)
	}
	add("message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": messagesStop(r), "stop_sequence": nil},
		"usage": map[string]any{"output_tokens": r.usage.Output},
	})
	add("message_stop", map[string]any{})
	return frames
}

// messagesError gives an error in the dialect's form.
func messagesError(kind, message string) []byte {
	return must(map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": message}})
}
