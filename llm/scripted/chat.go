package scripted

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/errand-dev/errand/llm"
)

// readChat reads a request of the Chat Completions dialect.
func readChat(body []byte) (*ask, *refusal) {
	var req struct {
		Model   string `json:"model"`
		Stream  bool   `json:"stream"`
		Options struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
		Tools    json.RawMessage `json:"tools"`
		Key      string          `json:"prompt_cache_key"`
		Messages []struct {
			Role      string      `json:"role"`
			Content   chatContent `json:"content"`
			Reasoning string      `json:"reasoning_content"`
			ToolCalls []struct {
				ID       string `json:"id"`
				Function struct {
					Arguments string `json:"arguments"`
				} `json:"function"`
			} `json:"tool_calls"`
			ToolCallID string `json:"tool_call_id"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, invalid("the request body is not valid JSON: %v", err)
	}
	a := &ask{dialect: llm.Chat, model: req.Model, key: req.Key, stream: req.Stream, counted: req.Options.IncludeUsage, tools: string(req.Tools)}
	for i, m := range req.Messages {
		text, images := m.Content.text()
		switch m.Role {
		case "system", "developer":
			a.system += text
		case "user":
			u := a.hear(false)
			u.Texts, u.Images = append(u.Texts, text), u.Images+images
		case "tool":
			u := a.hear(false)
			u.Answers, u.Results = append(u.Answers, m.ToolCallID), append(u.Results, text)
		case "assistant":
			s := a.hear(true)
			if text != "" {
				s.Texts = append(s.Texts, text)
			}
			s.Extra += len(m.Reasoning)
			for _, c := range m.ToolCalls {
				if !json.Valid([]byte(c.Function.Arguments)) {
					return nil, invalid("messages[%d]: the arguments of %s are not valid JSON", i, c.ID)
				}
				s.Calls = append(s.Calls, c.ID)
				s.Extra += len(c.Function.Arguments)
			}
		default:
			return nil, invalid("messages[%d].role: unknown role %q", i, m.Role)
		}
	}
	return a, nil
}

// chatContent is a list of parts, a string that stands for one, or null.
type chatContent []struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (c *chatContent) UnmarshalJSON(b []byte) error {
	type parts chatContent
	var text *string
	if json.Unmarshal(b, &text) != nil {
		return json.Unmarshal(b, (*parts)(c))
	}
	if text != nil {
		*c = make(chatContent, 1)
		(*c)[0].Type, (*c)[0].Text = "text", *text
	}
	return nil
}

// text gives the content's text and how many pictures it has.
func (c chatContent) text() (string, int) {
	var texts []string
	images := 0
	for _, p := range c {
		if p.Type == "image_url" {
			images++
			continue
		}
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n"), images
}

// chatStop gives the dialect's word for why the answer ends.
func chatStop(r *reply) string {
	switch {
	case r.stop == "length":
		return "length"
	case r.stop == "refusal":
		return "content_filter"
	case len(r.calls) > 0:
		return "tool_calls"
	}
	return "stop"
}

// chatUsage gives the usage in the dialect's names, where the parts overlap.
func chatUsage(r *reply) map[string]any {
	u := r.usage
	input := u.Input + u.CacheRead + u.CacheWrite
	return map[string]any{
		"prompt_tokens": input, "completion_tokens": u.Output, "total_tokens": input + u.Output,
		"prompt_tokens_details": map[string]any{"cached_tokens": u.CacheRead, "cache_write_tokens": u.CacheWrite},
	}
}

// chatCall gives a tool call, whole or (with an index) as a piece of a stream.
func chatCall(c replyCall, args string) map[string]any {
	return map[string]any{"id": c.id, "type": "function", "function": map[string]any{"name": c.name, "arguments": args}}
}

// chatWhole gives the answer in one piece.
func chatWhole(r *reply) []byte {
	message := map[string]any{"role": "assistant", "content": nil}
	if r.text != "" {
		message["content"] = r.text
	}
	if r.thinking != "" {
		message["reasoning_content"] = r.thinking
	}
	var calls []any
	for _, c := range r.calls {
		calls = append(calls, chatCall(c, c.args))
	}
	if calls != nil {
		message["tool_calls"] = calls
	}
	return must(map[string]any{
		"id": "chatcmpl-" + r.id, "object": "chat.completion", "created": epoch, "model": r.model,
		"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": chatStop(r)}},
		"usage":   chatUsage(r),
	})
}

// chatFrames gives the answer as a stream. The kinds that Cut.Before knows are
// role, reasoning, content, tool_calls, finish, usage and done.
func chatFrames(r *reply, a *ask) []frame {
	var frames []frame
	chunk := func(kind string, choices []any, more map[string]any) {
		fields := map[string]any{"id": "chatcmpl-" + r.id, "object": "chat.completion.chunk", "created": epoch, "model": r.model, "choices": choices}
		for k, v := range more {
			fields[k] = v
		}
		frames = append(frames, frame{kind, fmt.Appendf(nil, "data: %s\n\n", must(fields))})
	}
	delta := func(kind string, said map[string]any, finish any) {
		chunk(kind, []any{map[string]any{"index": 0, "delta": said, "finish_reason": finish}}, nil)
	}
	delta("role", map[string]any{"role": "assistant", "content": nil}, nil)
	for _, p := range r.pieces(r.thinking) {
		delta("reasoning", map[string]any{"reasoning_content": p}, nil)
	}
	for _, p := range r.pieces(r.text) {
		delta("content", map[string]any{"content": p}, nil)
	}
	for i, c := range r.calls {
		opened := chatCall(c, "")
		opened["index"] = i
		delta("tool_calls", map[string]any{"tool_calls": []any{opened}}, nil)
		for _, p := range r.pieces(c.args) {
			delta("tool_calls", map[string]any{"tool_calls": []any{map[string]any{"index": i, "function": map[string]any{"arguments": p}}}}, nil)
		}
	}
	delta("finish", map[string]any{}, chatStop(r))
	if a.counted {
		chunk("usage", []any{}, map[string]any{"usage": chatUsage(r)})
	}
	return append(frames, frame{"done", []byte("data: [DONE]\n\n")})
}

// openaiError gives an error in the form of both of OpenAI's dialects.
func openaiError(kind, message string) []byte {
	return must(map[string]any{"error": map[string]any{"message": message, "type": kind, "param": nil, "code": kind}})
}
