package openai

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// Responses is one model spoken to in the Responses dialect.
type Responses struct {
	client *wire.Client
	opts   Options
}

// NewResponses returns a model for the Responses dialect. It does not touch the
// network.
func NewResponses(opts Options) *Responses {
	return &Responses{client: newClient(opts), opts: opts}
}

// Do makes one attempt, as llm.Model says.
func (m *Responses) Do(ctx context.Context, req *llm.Request, emit func(llm.Delta)) (*llm.Response, error) {
	if emit == nil {
		emit = func(llm.Delta) {}
	}
	answer := &responsesAnswer{client: m.client, emit: emit}
	if err := m.client.Post(ctx, "/responses", m.encode(req), answer); err != nil {
		return nil, err
	}
	return answer.response()
}

// responsesRequest is the body of POST /responses.
type responsesRequest struct {
	Model           string          `json:"model"`
	Instructions    string          `json:"instructions,omitempty"`
	Input           []any           `json:"input"`
	Tools           []responsesTool `json:"tools,omitempty"`
	Reasoning       *reasoning      `json:"reasoning,omitempty"`
	Include         []string        `json:"include,omitempty"`
	MaxOutputTokens int             `json:"max_output_tokens,omitempty"`
	PromptCacheKey  string          `json:"prompt_cache_key,omitempty"`
	Store           bool            `json:"store"`
	Stream          bool            `json:"stream"`
}

type (
	responsesTool struct {
		Type        string          `json:"type"`
		Name        string          `json:"name"`
		Description string          `json:"description,omitempty"`
		Parameters  json.RawMessage `json:"parameters"`
		Strict      bool            `json:"strict"`
	}
	reasoning struct {
		Effort  string `json:"effort,omitempty"`
		Summary string `json:"summary,omitempty"`
	}
	inputMessage struct {
		Type    string `json:"type"`
		Role    string `json:"role"`
		ID      string `json:"id,omitempty"`
		Phase   string `json:"phase,omitempty"`
		Status  string `json:"status,omitempty"`
		Content []part `json:"content"`
	}
	part struct {
		Type        string    `json:"type"`
		Text        *string   `json:"text,omitempty"`
		ImageURL    string    `json:"image_url,omitempty"`
		Annotations *[]string `json:"annotations,omitempty"`
	}
	functionCall struct {
		Type      string `json:"type"`
		ID        string `json:"id,omitempty"`
		CallID    string `json:"call_id"`
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	}
	functionCallOutput struct {
		Type   string `json:"type"`
		CallID string `json:"call_id"`
		Output any    `json:"output"` // a string, or parts where there are pictures
	}
)

// origin is the Raw of a text or a tool call: what ties it to the reasoning
// before it.
type origin struct {
	ID    string `json:"id,omitempty"`
	Phase string `json:"phase,omitempty"`
}

// responsesDialect marks the Raw of blocks that came from here.
const responsesDialect = string(llm.Responses)

// encode gives the wire form of a request.
func (m *Responses) encode(req *llm.Request) *responsesRequest {
	out := &responsesRequest{
		Model:           m.opts.Model.Name(),
		Instructions:    req.System,
		Input:           []any{},
		MaxOutputTokens: m.opts.maxOutput(req),
		PromptCacheKey:  req.Key,
		Stream:          !m.opts.Whole,
	}
	if m.opts.Model.Thinking == "effort" {
		// Models that do not reason refuse both.
		out.Include = []string{"reasoning.encrypted_content"}
		if r := (reasoning{Effort: m.opts.effort(req), Summary: req.Params["summary"]}); r != (reasoning{}) {
			out.Reasoning = &r
		}
	}
	for _, t := range req.Tools {
		out.Tools = append(out.Tools, responsesTool{Type: "function", Name: t.Name, Description: t.Description, Parameters: t.Schema})
	}
	for _, msg := range req.Messages {
		if msg.Role == llm.Assistant {
			out.Input = append(out.Input, assistantItems(msg.Blocks)...)
		} else {
			out.Input = append(out.Input, userItems(msg.Blocks)...)
		}
	}
	return out
}

// userItems gives a user's message as input items, tool results first.
func userItems(blocks []llm.Block) []any {
	var items []any
	var parts []part
	for _, b := range blocks {
		switch b.Type {
		case llm.ToolResult:
			items = append(items, functionCallOutput{Type: "function_call_output", CallID: b.Call, Output: resultOutput(b)})
		case llm.Text:
			if b.Text != "" {
				parts = append(parts, part{Type: "input_text", Text: &b.Text})
			}
		case llm.Image:
			parts = append(parts, imageParts(b.Images)...)
		}
	}
	if len(parts) > 0 {
		items = append(items, inputMessage{Type: "message", Role: "user", Content: parts})
	}
	return items
}

// resultOutput gives a tool's result: plain text unless it has pictures.
func resultOutput(b llm.Block) any {
	if len(b.Images) == 0 {
		return b.Text
	}
	parts := imageParts(b.Images)
	if b.Text != "" {
		parts = append([]part{{Type: "input_text", Text: &b.Text}}, parts...)
	}
	return parts
}

// imageParts gives the wire form of pictures.
func imageParts(pictures []errand.Image) []part {
	var parts []part
	for _, p := range pictures {
		parts = append(parts, part{Type: "input_image", ImageURL: dataURL(p)})
	}
	return parts
}

// assistantItems gives an answer back as the items it was made of. Reasoning
// that nothing follows is left out: the API refuses it alone, and it is there
// when an answer was cut.
func assistantItems(blocks []llm.Block) []any {
	var items []any
	last := 0 // behind the last item that is not reasoning
	for _, b := range blocks {
		item, ok := assistantItem(b)
		if !ok {
			continue
		}
		items = append(items, item)
		if b.Type != llm.Thinking {
			last = len(items)
		}
	}
	return items[:last]
}

// assistantItem gives the wire form of one block of an answer.
func assistantItem(b llm.Block) (any, bool) {
	var from origin
	if b.Dialect == responsesDialect && b.Type != llm.Thinking {
		_ = json.Unmarshal(b.Raw, &from) // without it the item is good, only untied
	}
	switch b.Type {
	case llm.Thinking:
		return b.Raw, b.Dialect == responsesDialect && len(b.Raw) > 0
	case llm.Text:
		msg := inputMessage{Type: "message", Role: "assistant", ID: from.ID, Phase: from.Phase}
		msg.Content = []part{{Type: "output_text", Text: &b.Text}}
		if from.ID != "" {
			msg.Status = "completed"
			msg.Content[0].Annotations = &[]string{}
		}
		return msg, strings.TrimSpace(b.Text) != ""
	case llm.ToolCall:
		return functionCall{Type: "function_call", ID: from.ID, CallID: b.Call, Name: b.Name, Arguments: string(wire.Unescape(b.Args))}, true
	}
	return nil, false
}
