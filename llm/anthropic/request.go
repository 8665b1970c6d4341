package anthropic

import (
	"encoding/json"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// dialect marks the Raw of blocks that came from here.
const dialect = string(llm.Messages)

// request is the body of POST /v1/messages.
type request struct {
	Model     string    `json:"model"`
	MaxTokens int       `json:"max_tokens"`
	System    []content `json:"system,omitempty"`
	Tools     []tool    `json:"tools,omitempty"`
	Messages  []message `json:"messages"`
	Thinking  *thinking `json:"thinking,omitempty"`
	Output    *output   `json:"output_config,omitempty"`
	Metadata  *metadata `json:"metadata,omitempty"`
	Stream    bool      `json:"stream"`
}

type (
	message struct {
		Role    string    `json:"role"`
		Content []content `json:"content"`
	}
	tool struct {
		Name         string          `json:"name"`
		Description  string          `json:"description,omitempty"`
		InputSchema  json.RawMessage `json:"input_schema"`
		CacheControl *cacheControl   `json:"cache_control,omitempty"`
	}
	thinking struct {
		Type         string `json:"type"`
		BudgetTokens int    `json:"budget_tokens,omitempty"`
		Display      string `json:"display,omitempty"`
	}
	output struct {
		Effort string `json:"effort"`
	}
	metadata struct {
		UserID string `json:"user_id"`
	}
	cacheControl struct {
		Type string `json:"type"`
	}
	source struct {
		Type      string `json:"type"`
		MediaType string `json:"media_type"`
		Data      []byte `json:"data"`
	}
)

// content is one block of the wire. Pointers tell what is absent from what is
// empty: thinking may be empty and must then go back so.
type content struct {
	Type         string          `json:"type"`
	Text         *string         `json:"text,omitempty"`
	Thinking     *string         `json:"thinking,omitempty"`
	Signature    *string         `json:"signature,omitempty"`
	Data         *string         `json:"data,omitempty"`
	Source       *source         `json:"source,omitempty"`
	ID           string          `json:"id,omitempty"`
	Name         string          `json:"name,omitempty"`
	Input        json.RawMessage `json:"input,omitempty"`
	ToolUseID    string          `json:"tool_use_id,omitempty"`
	Content      []content       `json:"content,omitempty"`
	IsError      bool            `json:"is_error,omitempty"`
	CacheControl *cacheControl   `json:"cache_control,omitempty"`
}

// seal is the Raw of a thinking block: one of its fields is set.
type seal struct {
	Signature string `json:"signature,omitempty"`
	Data      string `json:"data,omitempty"` // of a block whose text is withheld
}

// encode gives the wire form of a request.
func (m *Model) encode(req *llm.Request) *request {
	out := &request{
		Model:     m.opts.Model.Name(),
		MaxTokens: m.maxTokens(req),
		Stream:    !m.opts.Whole,
	}
	if strings.TrimSpace(req.System) != "" {
		out.System = []content{text(req.System)}
	}
	for _, t := range req.Tools {
		out.Tools = append(out.Tools, tool{Name: t.Name, Description: t.Description, InputSchema: t.Schema})
	}
	for _, msg := range req.Messages {
		if blocks := encodeBlocks(msg); len(blocks) > 0 {
			out.Messages = append(out.Messages, message{Role: string(msg.Role), Content: blocks})
		}
	}
	if req.Key != "" {
		out.Metadata = &metadata{UserID: req.Key}
	}
	m.setThinking(out, req.Params)
	out.markCache()
	return out
}

// maxTokens gives the bound of the answer.
func (m *Model) maxTokens(req *llm.Request) int {
	bound := m.opts.Model.MaxOutput
	if bound <= 0 {
		bound = defaultMaxOutput
	}
	if req.MaxOutput > 0 && (req.MaxOutput < bound || m.opts.Model.MaxOutput <= 0) {
		bound = req.MaxOutput
	}
	return bound
}

// setThinking says how much to think, in the way that the model understands.
func (m *Model) setThinking(out *request, params map[string]string) {
	effort := params["effort"]
	switch m.opts.Model.Thinking {
	case "adaptive":
		// Without a word on display newer models think unseen, and also move
		// what they say between tool calls out of sight.
		out.Thinking = &thinking{Type: "adaptive", Display: "summarized"}
		if effort != "" {
			out.Output = &output{Effort: effort}
		}
	case "budget":
		budget := map[string]int{"low": 4096, "medium": 12288, "high": 32768}[effort]
		// The API wants at least 1024, and room for the answer above it.
		budget = min(budget, out.MaxTokens/2)
		if budget >= 1024 {
			out.Thinking = &thinking{Type: "enabled", BudgetTokens: budget}
		}
	}
}

// markCache marks up to four places: all of the API's allowance.
func (r *request) markCache() {
	mark := &cacheControl{Type: "ephemeral"}
	if n := len(r.Tools); n > 0 {
		r.Tools[n-1].CacheControl = mark
	}
	if n := len(r.System); n > 0 {
		r.System[n-1].CacheControl = mark
	}
	// The last message is written for the next turn; the one before was written
	// by the last turn and is found again even when many blocks came between.
	left := 2
	for i := len(r.Messages) - 1; i >= 0 && left > 0; i-- {
		if r.Messages[i].Role != string(llm.User) {
			continue
		}
		blocks := r.Messages[i].Content
		blocks[len(blocks)-1].CacheControl = mark
		left--
	}
}

// encodeBlocks gives the wire form of a message's blocks. Blank texts are left
// out and tool results come first: the API refuses the rest.
func encodeBlocks(msg llm.Message) []content {
	var results, rest []content
	for _, b := range msg.Blocks {
		switch b.Type {
		case llm.Text:
			if strings.TrimSpace(b.Text) != "" {
				rest = append(rest, text(b.Text))
			}
		case llm.Thinking:
			if c, ok := encodeThinking(b); ok {
				rest = append(rest, c)
			}
		case llm.ToolCall:
			rest = append(rest, content{Type: "tool_use", ID: b.Call, Name: b.Name, Input: wire.Unescape(b.Args)})
		case llm.ToolResult:
			results = append(results, encodeResult(b))
		case llm.Image:
			rest = append(rest, images(b.Images)...)
		}
	}
	return append(results, rest...)
}

// encodeThinking gives a thinking block back as it came; one of another dialect
// says nothing here and is left out.
func encodeThinking(b llm.Block) (content, bool) {
	var s seal
	if b.Dialect != dialect || json.Unmarshal(b.Raw, &s) != nil {
		return content{}, false
	}
	if s.Data != "" {
		return content{Type: "redacted_thinking", Data: &s.Data}, true
	}
	return content{Type: "thinking", Thinking: &b.Text, Signature: &s.Signature}, s.Signature != ""
}

// encodeResult gives the wire form of a tool's result.
func encodeResult(b llm.Block) content {
	c := content{Type: "tool_result", ToolUseID: b.Call, IsError: b.IsError}
	if strings.TrimSpace(b.Text) != "" {
		c.Content = append(c.Content, text(b.Text))
	}
	switch {
	case !b.IsError:
		c.Content = append(c.Content, images(b.Images)...)
	case len(c.Content) == 0:
		// The API wants text in an error, and nothing else.
		c.Content = []content{text("The tool failed without a word.")}
	}
	return c
}

// images gives the wire form of pictures.
func images(pictures []errand.Image) []content {
	var out []content
	for _, p := range pictures {
		out = append(out, content{Type: "image", Source: &source{Type: "base64", MediaType: p.MIME, Data: p.Data}})
	}
	return out
}

// text gives a text block.
func text(s string) content { return content{Type: "text", Text: &s} }
