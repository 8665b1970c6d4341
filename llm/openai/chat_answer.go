package openai

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// chatAnswer puts an answer together from chunks, or from one body.
type chatAnswer struct {
	client *wire.Client
	emit   func(llm.Delta)

	id, model string
	text      strings.Builder
	thinking  strings.Builder
	field     string // under which thinking came
	refusal   bool
	calls     []*chatForming
	finish    string
	usage     *chatUsage
}

// chatForming is a tool call as it forms.
type chatForming struct {
	index    *int
	id, name string
	args     strings.Builder
}

// chatChunk is one chunk, or the whole answer: they differ in delta and message.
type chatChunk struct {
	ID      string          `json:"id"`
	Model   string          `json:"model"`
	Error   json.RawMessage `json:"error"`
	Choices []struct {
		Index        int       `json:"index"`
		Delta        *chatSaid `json:"delta"`
		Message      *chatSaid `json:"message"`
		FinishReason string    `json:"finish_reason"`
	} `json:"choices"`
	Usage *chatUsage `json:"usage"`
}

type chatSaid struct {
	Content          string      `json:"content"`
	ReasoningContent string      `json:"reasoning_content"`
	Reasoning        string      `json:"reasoning"`
	Refusal          string      `json:"refusal"`
	ToolCalls        []callPiece `json:"tool_calls"`
}

type callPiece struct {
	Index    *int   `json:"index"`
	ID       string `json:"id"`
	Function struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"` // a string; from some servers an object
	} `json:"function"`
}

type chatUsage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Hit        int64 `json:"prompt_cache_hit_tokens"`
	Details    *struct {
		Cached  int64 `json:"cached_tokens"`
		Written int64 `json:"cache_write_tokens"`
	} `json:"prompt_tokens_details"`
}

// Event takes one chunk of the stream.
func (a *chatAnswer) Event(event wire.Event) (bool, error) {
	if strings.TrimSpace(string(event.Data)) == "[DONE]" {
		return true, nil
	}
	return false, a.add(event.Data)
}

// Whole takes an answer that came as one body.
func (a *chatAnswer) Whole(body []byte) error { return a.add(body) }

// add takes a chunk or a whole answer.
func (a *chatAnswer) add(data []byte) error {
	var c chatChunk
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("a chunk of the answer is not valid JSON: %w", err)
	}
	if !isNull(c.Error) || c.Choices == nil && c.Usage == nil {
		var f wire.Fault
		if err := json.Unmarshal(data, &f); err == nil && f.Message+f.Code != "" {
			return a.client.Error(f)
		}
		if !isNull(c.Error) {
			return a.client.Broken("the provider sent an error without a word")
		}
	}
	if c.ID != "" {
		a.id = c.ID
	}
	if c.Model != "" {
		a.model = c.Model
	}
	if c.Usage != nil {
		a.usage = c.Usage
	}
	for _, choice := range c.Choices {
		if choice.Index != 0 {
			continue // nobody asked for more than one
		}
		for _, said := range []*chatSaid{choice.Delta, choice.Message} {
			if err := a.hear(said); err != nil {
				return err
			}
		}
		if choice.FinishReason != "" {
			a.finish = choice.FinishReason
		}
	}
	return nil
}

// hear takes in what was said.
func (a *chatAnswer) hear(said *chatSaid) error {
	if said == nil {
		return nil
	}
	if thought := said.ReasoningContent; thought != "" || said.Reasoning != "" {
		a.field = "reasoning_content"
		if thought == "" { // servers that send both send the same
			a.field, thought = "reasoning", said.Reasoning
		}
		a.thinking.WriteString(thought)
		a.emit(llm.Delta{Type: llm.Thinking, Text: thought})
	}
	if text := said.Content + said.Refusal; text != "" {
		a.refusal = a.refusal || said.Refusal != ""
		a.text.WriteString(text)
		a.emit(llm.Delta{Type: llm.Text, Text: text})
	}
	for _, piece := range said.ToolCalls {
		if err := a.grow(piece); err != nil {
			return err
		}
	}
	return nil
}

// grow adds a piece of a tool call to the call it belongs to.
func (a *chatAnswer) grow(piece callPiece) error {
	args := ""
	if raw := piece.Function.Arguments; !isNull(raw) {
		if raw[0] != '"' {
			args = string(raw)
		} else if err := json.Unmarshal(raw, &args); err != nil {
			return fmt.Errorf("the arguments of a tool call are not valid JSON: %w", err)
		}
	}
	call := a.find(piece)
	if call == nil {
		if piece.Function.Name == "" {
			return fmt.Errorf("a piece of a tool call belongs to none")
		}
		call = &chatForming{index: piece.Index, id: piece.ID, name: piece.Function.Name}
		if call.id == "" {
			// The result must name the call, and names must differ throughout
			// the conversation.
			call.id = "call_" + strings.ReplaceAll(uuid.NewString(), "-", "")
		}
		a.calls = append(a.calls, call)
		a.emit(llm.Delta{Type: llm.ToolCall, Call: call.id, Name: call.name})
	}
	if args != "" {
		call.args.WriteString(args)
		a.emit(llm.Delta{Type: llm.ToolCall, Call: call.id, Name: call.name, Text: args})
	}
	return nil
}

// find gives the call that a piece goes on with, or nil if it starts one. The
// index decides; but some servers number every call 0, so another id or, without
// an index, a name starts a call too.
func (a *chatAnswer) find(piece callPiece) *chatForming {
	starts := piece.Function.Name != ""
	for i := len(a.calls) - 1; i >= 0; i-- {
		call := a.calls[i]
		switch {
		case piece.ID != "" && piece.ID == call.id:
			return call
		case piece.Index != nil && call.index != nil:
			if *piece.Index == *call.index && !(starts && piece.ID != "") {
				return call
			}
		case !starts && piece.ID == "":
			return call // the last one
		}
	}
	return nil
}

// response gives the answer if it is whole.
func (a *chatAnswer) response() (*llm.Response, error) {
	if a.finish == "" {
		return nil, a.client.Broken("the stream was cut: it ended without a finish reason")
	}
	resp := &llm.Response{ID: a.id, Model: a.model}
	if u := a.usage; u != nil {
		cached, written := u.Hit, int64(0)
		if u.Details != nil {
			cached, written = max(u.Details.Cached, cached), u.Details.Written
		}
		resp.Usage = usage(u.Prompt, u.Completion, cached, written)
	}
	if a.thinking.Len() > 0 {
		raw, err := wire.Encode(field{a.field})
		if err != nil {
			return nil, a.client.Broken("%v", err)
		}
		resp.Blocks = append(resp.Blocks, llm.Block{Type: llm.Thinking, Text: a.thinking.String(), Raw: raw, Dialect: chatDialect})
	}
	if a.text.Len() > 0 {
		resp.Blocks = append(resp.Blocks, llm.Block{Type: llm.Text, Text: a.text.String()})
	}
	if err := a.addCalls(resp); err != nil {
		return nil, err
	}
	resp.Stop = a.stop()
	return resp, nil
}

// addCalls adds the tool calls. The last one of an answer that ran out of room
// is cut, whatever it looks like, and left out; so are all of a refused one.
func (a *chatAnswer) addCalls(resp *llm.Response) error {
	calls := a.calls
	switch {
	case a.finish == "content_filter":
		calls = nil
	case a.finish == "length" && len(calls) > 0:
		calls = calls[:len(calls)-1]
	}
	for _, call := range calls {
		args, ok := wholeObject(call.args.String())
		if !ok {
			return a.client.Broken("the arguments of tool call %s (%s) are not a whole JSON object", call.id, call.name)
		}
		resp.Blocks = append(resp.Blocks, llm.Block{Type: llm.ToolCall, Call: call.id, Name: call.name, Args: args})
	}
	return nil
}

// stop gives why the model stopped. Some servers say "stop" beside tool calls.
func (a *chatAnswer) stop() llm.Stop {
	switch {
	case a.finish == "length":
		return llm.StopLength
	case a.finish == "content_filter", a.refusal:
		return llm.StopRefusal
	case len(a.calls) > 0:
		return llm.StopTools
	}
	return llm.StopEnd
}
