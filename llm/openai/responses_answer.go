package openai

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/llm/wire"
)

// responsesAnswer puts an answer together. Deltas are only passed on: the items
// that count are the whole ones at the stream's end.
type responsesAnswer struct {
	client *wire.Client
	emit   func(llm.Delta)

	items []item           // those that were done, in order
	calls map[string]*item // tool calls under way, by item id
	final *responsesBody   // from the last event
}

// item is one item of an answer, with its own text beside it.
type item struct {
	Type      string          `json:"type"`
	ID        string          `json:"id"`
	Status    string          `json:"status"`
	Phase     string          `json:"phase"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments string          `json:"arguments"`
	Summary   []textPart      `json:"summary"`
	Content   []textPart      `json:"content"`
	Encrypted json.RawMessage `json:"encrypted_content"`

	raw json.RawMessage
}

type textPart struct {
	Type    string `json:"type"`
	Text    string `json:"text"`
	Refusal string `json:"refusal"`
}

// UnmarshalJSON keeps the item's own text.
func (i *item) UnmarshalJSON(b []byte) error {
	type plain item
	if err := json.Unmarshal(b, (*plain)(i)); err != nil {
		return err
	}
	i.raw = slices.Clone(b)
	return nil
}

// responsesBody is a response object.
type responsesBody struct {
	Object     string      `json:"object"`
	ID         string      `json:"id"`
	Model      string      `json:"model"`
	Status     string      `json:"status"`
	Output     []item      `json:"output"`
	Error      *wire.Fault `json:"error"`
	Incomplete *struct {
		Reason string `json:"reason"`
	} `json:"incomplete_details"`
	Usage *struct {
		Input   int64 `json:"input_tokens"`
		Output  int64 `json:"output_tokens"`
		Details struct {
			Cached  int64 `json:"cached_tokens"`
			Written int64 `json:"cache_write_tokens"`
		} `json:"input_tokens_details"`
	} `json:"usage"`
}

// Event takes one event of the stream.
func (a *responsesAnswer) Event(event wire.Event) (bool, error) {
	if string(event.Data) == "[DONE]" {
		return true, nil
	}
	var f struct {
		Type     string         `json:"type"`
		Delta    string         `json:"delta"`
		ItemID   string         `json:"item_id"`
		Item     *item          `json:"item"`
		Response *responsesBody `json:"response"`
	}
	if err := json.Unmarshal(event.Data, &f); err != nil {
		return false, fmt.Errorf("an event of the stream is not valid JSON: %w", err)
	}
	switch f.Type {
	case "response.output_text.delta", "response.refusal.delta":
		a.emit(llm.Delta{Type: llm.Text, Text: f.Delta})
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		a.emit(llm.Delta{Type: llm.Thinking, Text: f.Delta})
	case "response.output_item.added":
		a.began(f.Item)
	case "response.function_call_arguments.delta":
		if call := a.calls[f.ItemID]; call != nil {
			a.emit(llm.Delta{Type: llm.ToolCall, Call: call.CallID, Name: call.Name, Text: f.Delta})
		}
	case "response.output_item.done":
		if f.Item == nil {
			return false, fmt.Errorf("an item of the answer is missing from its event")
		}
		a.items = append(a.items, *f.Item)
	case "response.completed", "response.incomplete", "response.failed":
		if f.Response == nil {
			return false, fmt.Errorf("the last event of the stream holds no response")
		}
		if f.Response.Status == "" {
			f.Response.Status = strings.TrimPrefix(f.Type, "response.")
		}
		a.final = f.Response
		return true, nil
	case "error":
		return false, a.fault(event.Data)
	case "":
		// Compatible servers put a bare error object into the stream.
		return false, a.fault(event.Data)
	}
	return false, nil
}

// began notes a tool call so that its pieces can be shown under its name.
func (a *responsesAnswer) began(i *item) {
	if i == nil || i.Type != "function_call" {
		return
	}
	if a.calls == nil {
		a.calls = map[string]*item{}
	}
	a.calls[i.ID] = i
	a.emit(llm.Delta{Type: llm.ToolCall, Call: i.CallID, Name: i.Name})
}

// Whole takes an answer that came as one body.
func (a *responsesAnswer) Whole(body []byte) error {
	var b responsesBody
	if err := json.Unmarshal(body, &b); err != nil {
		return fmt.Errorf("the answer is not a response: %w", err)
	}
	if b.Object != "response" {
		return a.fault(body)
	}
	a.final = &b
	for _, i := range b.Output {
		for _, p := range i.Content {
			if i.Type == "message" && p.Text+p.Refusal != "" {
				a.emit(llm.Delta{Type: llm.Text, Text: p.Text + p.Refusal})
			}
		}
	}
	return nil
}

// fault gives the error that an event or a body describes.
func (a *responsesAnswer) fault(data []byte) error {
	var f wire.Fault
	if err := json.Unmarshal(data, &f); err != nil || f.Message == "" && f.Code == "" {
		return fmt.Errorf("the provider sent something that is neither an answer nor an error")
	}
	return a.client.Error(f)
}

// response gives the answer if it is whole.
func (a *responsesAnswer) response() (*llm.Response, error) {
	final := a.final
	switch {
	case final == nil:
		return nil, a.client.Broken("the stream was cut: it ended without response.completed")
	case final.Status == "failed":
		if final.Error == nil {
			return nil, a.client.Broken("the provider failed without a word")
		}
		return nil, a.client.Error(*final.Error)
	case final.Status != "completed" && final.Status != "incomplete":
		return nil, a.client.Broken("the answer ended with status %q", final.Status)
	}
	// Some servers leave the output out of the last event.
	items := final.Output
	if len(items) < len(a.items) {
		items = a.items
	}
	resp := &llm.Response{ID: final.ID, Model: final.Model}
	if u := final.Usage; u != nil {
		resp.Usage = usage(u.Input, u.Output, u.Details.Cached, u.Details.Written)
	}
	refused, err := a.addItems(resp, items, final.Status == "incomplete")
	if err != nil {
		return nil, err
	}
	resp.Stop = a.stop(resp.Blocks, refused)
	return resp, nil
}

// addItems adds the answer's items to resp. Of a cut answer, tool calls that are
// not marked whole are left out.
func (a *responsesAnswer) addItems(resp *llm.Response, items []item, cut bool) (refused bool, err error) {
	for n, i := range items {
		switch i.Type {
		case "reasoning":
			resp.Blocks = append(resp.Blocks, i.thinking())
		case "message":
			block, no, err := i.message()
			if err != nil {
				return false, a.client.Broken("%v", err)
			}
			refused = refused || no
			if block.Text != "" {
				resp.Blocks = append(resp.Blocks, block)
			}
		case "function_call":
			if cut && (i.Status != "completed" || n == len(items)-1) {
				continue
			}
			block, err := i.call()
			if err != nil {
				return false, a.client.Broken("%v", err)
			}
			resp.Blocks = append(resp.Blocks, block)
		}
	}
	return refused, nil
}

// thinking gives a reasoning item, which goes back as it came if the provider
// can read it again.
func (i item) thinking() llm.Block {
	var text []string
	for _, p := range append(slices.Clone(i.Summary), i.Content...) {
		if p.Text != "" {
			text = append(text, p.Text)
		}
	}
	b := llm.Block{Type: llm.Thinking, Text: strings.Join(text, "\n\n")}
	if !isNull(i.Encrypted) {
		b.Raw, b.Dialect = i.raw, responsesDialect
	}
	return b
}

// message gives a message item's text.
func (i item) message() (_ llm.Block, refused bool, err error) {
	var text strings.Builder
	for _, p := range i.Content {
		text.WriteString(p.Text + p.Refusal)
		refused = refused || p.Type == "refusal"
	}
	b := llm.Block{Type: llm.Text, Text: text.String()}
	if from := (origin{ID: i.ID, Phase: i.Phase}); from != (origin{}) {
		b.Dialect = responsesDialect
		b.Raw, err = wire.Encode(from)
	}
	return b, refused, err
}

// call gives a function call, if it is whole.
func (i item) call() (llm.Block, error) {
	args, ok := wholeObject(i.Arguments)
	switch {
	case i.Status != "" && i.Status != "completed":
		return llm.Block{}, fmt.Errorf("tool call %s (%s) is %s in an answer that is complete", i.CallID, i.Name, i.Status)
	case !ok:
		return llm.Block{}, fmt.Errorf("the arguments of tool call %s (%s) are not a whole JSON object", i.CallID, i.Name)
	case i.CallID == "" || i.Name == "":
		return llm.Block{}, fmt.Errorf("a tool call has no id or no name")
	}
	b := llm.Block{Type: llm.ToolCall, Call: i.CallID, Name: i.Name, Args: args}
	if i.ID != "" {
		raw, err := wire.Encode(origin{ID: i.ID})
		if err != nil {
			return llm.Block{}, err
		}
		b.Raw, b.Dialect = raw, responsesDialect
	}
	return b, nil
}

// stop gives why the model stopped.
func (a *responsesAnswer) stop(blocks []llm.Block, refused bool) llm.Stop {
	if a.final.Status == "incomplete" {
		if a.final.Incomplete != nil && a.final.Incomplete.Reason == "content_filter" {
			return llm.StopRefusal
		}
		return llm.StopLength
	}
	if refused {
		return llm.StopRefusal
	}
	if slices.ContainsFunc(blocks, func(b llm.Block) bool { return b.Type == llm.ToolCall }) {
		return llm.StopTools
	}
	return llm.StopEnd
}
