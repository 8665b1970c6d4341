package scripted

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/errand-dev/errand/llm"
)

// responsesItem is an input item of the Responses dialect.
type responsesItem struct {
	Type      string           `json:"type"`
	Role      string           `json:"role"`
	Content   responsesContent `json:"content"`
	CallID    string           `json:"call_id"`
	Arguments string           `json:"arguments"`
	Input     string           `json:"input"`
	Output    responsesContent `json:"output"`
	Summary   responsesContent `json:"summary"`
	Encrypted string           `json:"encrypted_content"`
}

// responsesContent is a list of parts, or a string that stands for one.
type responsesContent []struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

func (c *responsesContent) UnmarshalJSON(b []byte) error {
	type parts responsesContent
	var text string
	if json.Unmarshal(b, &text) != nil {
		return json.Unmarshal(b, (*parts)(c))
	}
	*c = make(responsesContent, 1)
	(*c)[0].Type, (*c)[0].Text = "input_text", text
	return nil
}

// text gives the content's text and how many pictures it has.
func (c responsesContent) text() (string, int) {
	var texts []string
	images := 0
	for _, p := range c {
		if p.Type == "input_image" {
			images++
			continue
		}
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n"), images
}

// readResponses reads a request of the Responses dialect.
func readResponses(body []byte) (*ask, *refusal) {
	var req struct {
		Model        string          `json:"model"`
		Instructions string          `json:"instructions"`
		Stream       bool            `json:"stream"`
		Tools        json.RawMessage `json:"tools"`
		Key          string          `json:"prompt_cache_key"`
		Previous     string          `json:"previous_response_id"`
		Input        json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, invalid("the request body is not valid JSON: %v", err)
	}
	if req.Previous != "" {
		return nil, invalid("Previous response with id '%s' not found: the scripted model keeps nothing.", req.Previous)
	}
	a := &ask{dialect: llm.Responses, model: req.Model, key: req.Key, stream: req.Stream, counted: true, system: req.Instructions, tools: string(req.Tools)}
	var prompt string
	if json.Unmarshal(req.Input, &prompt) == nil {
		a.hear(false).Texts = []string{prompt}
		return a, nil
	}
	var items []responsesItem
	if err := json.Unmarshal(req.Input, &items); err != nil {
		return nil, invalid("input: must be a string or a list of items: %v", err)
	}
	for i, item := range items {
		if err := a.addItem(item); err != nil {
			return nil, invalid("input[%d]: %v", i, err)
		}
		if item.Type == "reasoning" && (i+1 == len(items) || isUsers(items[i+1])) {
			return nil, invalid("input[%d]: Item of type 'reasoning' was provided without its required following item.", i)
		}
	}
	return a, nil
}

// isUsers says whether an item is of the user's side.
func isUsers(item responsesItem) bool {
	return item.Role == "user" || strings.HasSuffix(item.Type, "_output")
}

// addItem adds one item; its errors are the provider's own.
func (a *ask) addItem(item responsesItem) error {
	text, images := item.Content.text()
	switch {
	case item.Role == "system" || item.Role == "developer":
		a.system += "\n" + text
	case item.Role == "user":
		m := a.hear(false)
		m.Texts, m.Images = append(m.Texts, text), m.Images+images
	case item.Role == "assistant":
		m := a.hear(true)
		m.Texts = append(m.Texts, text)
	case item.Type == "reasoning":
		summary, _ := item.Summary.text()
		if item.Encrypted != seal(summary) {
			return fmt.Errorf("the encrypted content could not be verified")
		}
		a.hear(true).Extra += len(summary)
	case strings.HasSuffix(item.Type, "_call_output"):
		m := a.hear(false)
		out, images := item.Output.text()
		m.Answers, m.Results, m.Images = append(m.Answers, item.CallID), append(m.Results, out), m.Images+images
	case strings.HasSuffix(item.Type, "_call") && item.CallID != "":
		m := a.hear(true)
		if item.Type == "function_call" && !json.Valid([]byte(item.Arguments)) {
			return fmt.Errorf("the arguments of %s are not valid JSON", item.CallID)
		}
		m.Calls = append(m.Calls, item.CallID)
		m.Extra += len(item.Arguments) + len(item.Input)
	}
	return nil
}

// responsesItems gives the answer's items, whole.
func responsesItems(r *reply) []map[string]any {
	var items []map[string]any
	if r.thinking != "" {
		items = append(items, map[string]any{
			"type": "reasoning", "id": "rs_" + r.id, "encrypted_content": seal(r.thinking),
			"summary": []any{map[string]any{"type": "summary_text", "text": r.thinking}},
		})
	}
	if r.text != "" {
		part := map[string]any{"type": "output_text", "text": r.text, "annotations": []any{}}
		if r.stop == "refusal" {
			part = map[string]any{"type": "refusal", "refusal": r.text}
		}
		items = append(items, map[string]any{
			"type": "message", "id": "msg_" + r.id, "role": "assistant", "status": responsesState(r, len(r.calls) == 0), "content": []any{part},
		})
	}
	for i, c := range r.calls {
		items = append(items, map[string]any{
			"type": "function_call", "id": fmt.Sprintf("fc_%s_%d", r.id, i), "call_id": c.id, "name": c.name,
			"arguments": c.args, "status": responsesState(r, i == len(r.calls)-1),
		})
	}
	return items
}

// responsesState gives an item's status: of a cut answer the last is not whole.
func responsesState(r *reply, last bool) string {
	if last && r.stop == "length" {
		return "incomplete"
	}
	return "completed"
}

// responsesBody gives the response object in a state, with its items.
func responsesBody(r *reply, status string, items []map[string]any) map[string]any {
	if items == nil {
		items = []map[string]any{}
	}
	body := map[string]any{
		"id": "resp_" + r.id, "object": "response", "created_at": epoch, "status": status, "model": r.model,
		"output": items, "error": nil, "incomplete_details": nil, "usage": nil, "parallel_tool_calls": true, "store": false,
	}
	switch status {
	case "incomplete":
		body["incomplete_details"] = map[string]any{"reason": "max_output_tokens"}
		fallthrough
	case "completed":
		u := r.usage
		input := u.Input + u.CacheRead + u.CacheWrite
		body["usage"] = map[string]any{
			"input_tokens": input, "output_tokens": u.Output, "total_tokens": input + u.Output,
			"input_tokens_details":  map[string]any{"cached_tokens": u.CacheRead, "cache_write_tokens": u.CacheWrite},
			"output_tokens_details": map[string]any{"reasoning_tokens": tokens(r.thinking)},
		}
	}
	return body
}

// responsesEnd gives the status in which the answer ends.
func responsesEnd(r *reply) string {
	if r.stop == "length" {
		return "incomplete"
	}
	return "completed"
}

// responsesWhole gives the answer in one piece.
func responsesWhole(r *reply) []byte {
	return must(responsesBody(r, responsesEnd(r), responsesItems(r)))
}

// responsesFrames gives the answer as a stream.
func responsesFrames(r *reply, _ *ask) []frame {
	var frames []frame
	add := func(kind string, fields map[string]any) {
		fields["type"], fields["sequence_number"] = kind, len(frames)
		frames = append(frames, frame{kind, fmt.Appendf(nil, "event: %s\ndata: %s\n\n", kind, must(fields))})
	}
	add("response.created", map[string]any{"response": responsesBody(r, "in_progress", nil)})
	add("response.in_progress", map[string]any{"response": responsesBody(r, "in_progress", nil)})
	items := responsesItems(r)
	for i, item := range items {
		opened := map[string]any{}
		for k, v := range item {
			opened[k] = v
		}
		var deltas, done, field, text string
		place := map[string]any{"content_index": 0}
		switch item["type"] {
		case "reasoning":
			opened["summary"], opened["encrypted_content"] = []any{}, ""
			deltas, done, field, text = "response.reasoning_summary_text.delta", "response.reasoning_summary_text.done", "text", r.thinking
			place = map[string]any{"summary_index": 0}
		case "message":
			opened["content"], opened["status"] = []any{}, "in_progress"
			deltas, done, field, text = "response.output_text.delta", "response.output_text.done", "text", r.text
			if r.stop == "refusal" {
				deltas, done, field = "response.refusal.delta", "response.refusal.done", "refusal"
			}
		case "function_call":
			opened["arguments"], opened["status"] = "", "in_progress"
			deltas, done, field, text = "response.function_call_arguments.delta", "response.function_call_arguments.done", "arguments", item["arguments"].(string)
			place = map[string]any{}
		}
		at := func(more map[string]any) map[string]any {
			for k, v := range place {
				more[k] = v
			}
			more["item_id"], more["output_index"] = item["id"], i
			return more
		}
		add("response.output_item.added", map[string]any{"output_index": i, "item": opened})
		if item["type"] == "message" {
			add("response.content_part.added", at(map[string]any{"part": map[string]any{"type": "output_text", "text": "", "annotations": []any{}}}))
		}
		for _, p := range r.pieces(text) {
			add(deltas, at(map[string]any{"delta": p}))
		}
		if item["status"] != "incomplete" {
			add(done, at(map[string]any{field: text}))
			if parts, ok := item["content"].([]any); ok {
				add("response.content_part.done", at(map[string]any{"part": parts[0]}))
			}
		}
		add("response.output_item.done", map[string]any{"output_index": i, "item": item})
	}
	end := responsesEnd(r)
	add("response."+end, map[string]any{"response": responsesBody(r, end, items)})
	return frames
}
