package anthropic

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// answer puts an answer together from its stream, or from one body.
type answer struct {
	client *wire.Client
	emit   func(llm.Delta)

	id, model string
	stop      string
	usage     counts
	blocks    []*block
	started   bool // message_start was seen
	complete  bool // message_stop was seen
}

// block is one content block as it forms.
type block struct {
	content
	text   strings.Builder // of text, thinking or the pieces of a tool's input
	sign   strings.Builder // of a thinking block
	closed bool
}

// counts is the wire's usage. Absent fields keep what an earlier event said:
// the last event repeats only some of them.
type counts struct {
	Input      *int64 `json:"input_tokens"`
	Output     *int64 `json:"output_tokens"`
	CacheRead  *int64 `json:"cache_read_input_tokens"`
	CacheWrite *int64 `json:"cache_creation_input_tokens"`
}

// frame is any event's data; an answer in one body is a message of the same
// fields.
type frame struct {
	Type    string  `json:"type"`
	Message *whole  `json:"message"`
	Index   int     `json:"index"`
	Block   content `json:"content_block"`
	Delta   struct {
		Type        string `json:"type"`
		Text        string `json:"text"`
		Thinking    string `json:"thinking"`
		Signature   string `json:"signature"`
		PartialJSON string `json:"partial_json"`
		StopReason  string `json:"stop_reason"`
	} `json:"delta"`
	Usage counts `json:"usage"`
}

// whole is a message object.
type whole struct {
	Type       string    `json:"type"`
	ID         string    `json:"id"`
	Model      string    `json:"model"`
	Content    []content `json:"content"`
	StopReason string    `json:"stop_reason"`
	Usage      counts    `json:"usage"`
}

// Event takes one event of the stream.
func (a *answer) Event(event wire.Event) (bool, error) {
	var f frame
	if err := json.Unmarshal(event.Data, &f); err != nil {
		return false, fmt.Errorf("an event of the stream is not valid JSON: %w", err)
	}
	switch f.Type {
	case "message_start":
		if f.Message == nil || a.started {
			return false, fmt.Errorf("the stream starts a message without one, or twice")
		}
		a.started = true
		a.id, a.model = f.Message.ID, f.Message.Model
		a.usage.merge(f.Message.Usage)
	case "content_block_start":
		return false, a.open(f.Index, f.Block)
	case "content_block_delta":
		return false, a.grow(f)
	case "content_block_stop":
		return false, a.close(f.Index)
	case "message_delta":
		if f.Delta.StopReason != "" {
			a.stop = f.Delta.StopReason
		}
		a.usage.merge(f.Usage)
	case "message_stop":
		a.complete = true
		return true, nil
	case "error":
		return false, a.fault(event.Data)
	}
	// Pings, and kinds of events that came after this was written.
	return false, nil
}

// Whole takes an answer that came as one body.
func (a *answer) Whole(body []byte) error {
	var w whole
	if err := json.Unmarshal(body, &w); err != nil {
		return fmt.Errorf("the answer is not a message: %w", err)
	}
	if w.Type == "error" {
		return a.fault(body)
	}
	if w.Type != "message" {
		return fmt.Errorf("the answer is not a message but %q", w.Type)
	}
	a.id, a.model, a.stop, a.usage = w.ID, w.Model, w.StopReason, w.Usage
	a.started, a.complete = true, true
	for i, c := range w.Content {
		if err := a.open(i, c); err != nil {
			return err
		}
		b := a.blocks[i]
		if c.Type == "tool_use" {
			a.piece(b, string(c.Input))
		}
		b.closed = true
	}
	return nil
}

// fault gives the error that an event or a body describes.
func (a *answer) fault(data []byte) error {
	var f wire.Fault
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("an error of the provider is not valid JSON: %w", err)
	}
	return a.client.Error(f)
}

// open starts block i with what its first event holds.
func (a *answer) open(i int, c content) error {
	if i != len(a.blocks) {
		return fmt.Errorf("block %d starts when %d was to come", i, len(a.blocks))
	}
	b := &block{content: c}
	a.blocks = append(a.blocks, b)
	switch {
	case c.Type == "tool_use":
		a.emit(llm.Delta{Type: llm.ToolCall, Call: c.ID, Name: c.Name})
	case c.Text != nil:
		a.piece(b, *c.Text)
	case c.Thinking != nil:
		a.piece(b, *c.Thinking)
	}
	if c.Signature != nil {
		b.sign.WriteString(*c.Signature)
	}
	return nil
}

// grow adds a delta to its block.
func (a *answer) grow(f frame) error {
	if f.Index < 0 || f.Index >= len(a.blocks) || a.blocks[f.Index].closed {
		return fmt.Errorf("a piece arrived for block %d, which is not open", f.Index)
	}
	b := a.blocks[f.Index]
	b.sign.WriteString(f.Delta.Signature)
	a.piece(b, f.Delta.Text+f.Delta.Thinking+f.Delta.PartialJSON)
	return nil
}

// piece adds text to a block and passes it on.
func (a *answer) piece(b *block, s string) {
	if s == "" {
		return
	}
	b.text.WriteString(s)
	switch b.Type {
	case "text":
		a.emit(llm.Delta{Type: llm.Text, Text: s})
	case "thinking":
		a.emit(llm.Delta{Type: llm.Thinking, Text: s})
	case "tool_use":
		a.emit(llm.Delta{Type: llm.ToolCall, Call: b.ID, Name: b.Name, Text: s})
	}
}

// close ends block i.
func (a *answer) close(i int) error {
	if i < 0 || i >= len(a.blocks) || a.blocks[i].closed {
		return fmt.Errorf("block %d ends and is not open", i)
	}
	a.blocks[i].closed = true
	return nil
}

// response gives the answer if it is whole.
func (a *answer) response() (*llm.Response, error) {
	switch {
	case !a.started:
		return nil, a.client.Broken("the stream ended before the answer began")
	case !a.complete:
		return nil, a.client.Broken("the stream was cut: it ended without message_stop")
	case a.stop == "":
		return nil, a.client.Broken("the answer ended without a stop reason")
	}
	resp := &llm.Response{ID: a.id, Model: a.model, Usage: a.usage.usage()}
	cut := a.stop == "max_tokens" || a.stop == "model_context_window_exceeded"
	for i, b := range a.blocks {
		// A tool call at the very end of an answer that ran out of room may look
		// whole and not be; it is never given out.
		// Nor is any of an answer that the provider took back.
		if b.Type == "tool_use" && (a.stop == "refusal" || cut && i == len(a.blocks)-1) {
			continue
		}
		if !b.closed && !cut {
			return nil, a.client.Broken("the stream was cut: block %d did not end", i)
		}
		done, ok, err := b.decode()
		if err != nil {
			return nil, a.client.Broken("%v", err)
		}
		if ok {
			resp.Blocks = append(resp.Blocks, done)
		}
	}
	resp.Stop = stop(a.stop, resp.Blocks)
	return resp, nil
}

// decode gives a block in our form; ok is false for kinds not known here.
func (b *block) decode() (_ llm.Block, ok bool, err error) {
	switch b.Type {
	case "text":
		return llm.Block{Type: llm.Text, Text: b.text.String()}, b.text.Len() > 0, nil
	case "thinking":
		return sealed(b.text.String(), seal{Signature: b.sign.String()})
	case "redacted_thinking":
		if b.Data == nil {
			return llm.Block{}, false, nil
		}
		return sealed("", seal{Data: *b.Data})
	case "tool_use":
		// A tool without parameters has no pieces of input; some servers send
		// the whole input with the block's start instead.
		args := cmp.Or(b.text.String(), string(b.Input), "{}")
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(args), &object); err != nil || object == nil {
			return llm.Block{}, false, fmt.Errorf("the input of tool call %s (%s) is not a whole JSON object", b.ID, b.Name)
		}
		if b.ID == "" || b.Name == "" {
			return llm.Block{}, false, fmt.Errorf("a tool call has no id or no name")
		}
		return llm.Block{Type: llm.ToolCall, Call: b.ID, Name: b.Name, Args: json.RawMessage(args)}, true, nil
	}
	return llm.Block{}, false, nil
}

// sealed gives a thinking block with what the provider wants back.
func sealed(text string, s seal) (llm.Block, bool, error) {
	b := llm.Block{Type: llm.Thinking, Text: text}
	if s != (seal{}) {
		raw, err := wire.Encode(s)
		if err != nil {
			return llm.Block{}, false, err
		}
		b.Raw, b.Dialect = raw, dialect
	}
	return b, text != "" || b.Raw != nil, nil
}

// stop gives why the model stopped. What is not known here is judged by what
// the answer holds.
func stop(reason string, blocks []llm.Block) llm.Stop {
	switch reason {
	case "max_tokens", "model_context_window_exceeded":
		return llm.StopLength
	case "refusal":
		return llm.StopRefusal
	}
	for _, b := range blocks {
		if b.Type == llm.ToolCall {
			return llm.StopTools
		}
	}
	return llm.StopEnd
}

// merge takes over the counts that next has.
func (c *counts) merge(next counts) {
	for _, f := range []struct{ to, from **int64 }{
		{&c.Input, &next.Input}, {&c.Output, &next.Output},
		{&c.CacheRead, &next.CacheRead}, {&c.CacheWrite, &next.CacheWrite},
	} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
}

// usage gives the counts in our form: the wire's do not overlap either.
func (c counts) usage() errand.Usage {
	value := func(p *int64) int64 {
		if p == nil || *p < 0 {
			return 0
		}
		return *p
	}
	return errand.Usage{Input: value(c.Input), Output: value(c.Output), CacheRead: value(c.CacheRead), CacheWrite: value(c.CacheWrite)}
}
