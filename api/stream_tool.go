package api

import (
	"encoding/json"
	"time"

	"github.com/errand-dev/errand"
)

// update is the data of interaction_update: the fields that its Type wants.
// Types with "turn-re…" are Errand's own: turn-retrying tells that an attempt
// broke, turn-restarted that the turn begins anew and that what was streamed of
// it before is void. Clients leave types alone that they do not know.
type update struct {
	Type               string      `json:"type"`
	Text               *string     `json:"text,omitempty"`
	ThinkingDurationMs *int64      `json:"thinkingDurationMs,omitempty"`
	CallID             string      `json:"callId,omitempty"`
	ModelCallID        string      `json:"modelCallId,omitempty"`
	ToolCall           *updateTool `json:"toolCall,omitempty"`
	Usage              *Usage      `json:"usage,omitempty"`
	Summary            string      `json:"summary,omitempty"`
	Turn               int         `json:"turn,omitempty"`
	Attempt            int         `json:"attempt,omitempty"`
	Reason             string      `json:"reason,omitempty"`
	WaitMs             int64       `json:"waitMs,omitempty"`
	By                 string      `json:"by,omitempty"`    // who has the agent in hand, or had
	Until              *time.Time  `json:"until,omitempty"` // when it is handed back by itself
}

// updateTool is a tool call in the form of Cursor's SDK. Tools that the SDK has
// no name for look like those of an MCP server.
type updateTool struct {
	Type   string `json:"type"`
	Args   any    `json:"args"`
	Result any    `json:"result,omitempty"`
}

type object = map[string]any

func (s *Stream) toolCalled(d errand.ToolCalled, out *messages) {
	tool := StreamTool{CallID: d.Op, Name: d.Name, Status: "running"}
	tool.setArgs(d.Args)
	s.args[d.Op] = tool.Args
	out.pair(StreamToolCall, tool, update{
		Type: "tool-call-started", CallID: d.Op, ModelCallID: d.Call,
		ToolCall: toolUpdate(d.Name, tool.Args, nil),
	})
}

func (s *Stream) toolEnded(d errand.ToolEnded, out *messages) {
	tool := StreamTool{CallID: d.Op, Name: d.Name, Status: "completed"}
	args, called := s.args[d.Op]
	delete(s.args, d.Op)
	tool.Args = args
	if called && args == nil {
		tool.Truncated = &StreamTruncated{Args: true}
	}
	tool.setResult(toolResult(d))
	end := &d
	if tool.Truncated != nil && tool.Truncated.Result {
		end = nil
	}
	out.pair(StreamToolCall, tool, update{
		Type: "tool-call-completed", CallID: d.Op, ModelCallID: d.Call,
		ToolCall: toolUpdate(d.Name, args, end),
	})
}

func (t *StreamTool) setArgs(args json.RawMessage) {
	if len(args) <= maxStreamed {
		t.Args = args
		return
	}
	t.Truncated = &StreamTruncated{Args: true}
}

func (t *StreamTool) setResult(result json.RawMessage) {
	if len(result) <= maxStreamed {
		t.Result = result
		return
	}
	if t.Truncated == nil {
		t.Truncated = &StreamTruncated{}
	}
	t.Truncated.Result = true
}

// toolResult gives a result in Cursor's form: an object with success or error.
func toolResult(d errand.ToolEnded) json.RawMessage {
	fields := resultFields(d)
	var result object
	switch {
	case d.IsError:
		fields["message"] = d.Output
		result = object{"error": fields}
	case d.Name == "run_terminal_cmd":
		if _, ok := fields["stdout"]; !ok {
			fields["stdout"] = d.Output
		}
		result = object{"success": fields, "isBackground": fields["background"] == true}
	case d.Name == "read_file":
		if _, ok := fields["content"]; !ok {
			fields["content"] = d.Output
		}
		result = object{"success": fields}
	default:
		fields["output"] = d.Output
		result = object{"success": fields}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return nil // cannot be: it came out of JSON
	}
	return text
}

// resultFields gives a tool's structured result as an object of our own.
func resultFields(d errand.ToolEnded) object {
	fields := object{}
	if len(d.Result) > 0 && json.Unmarshal(d.Result, &fields) != nil || fields == nil {
		fields = object{"value": d.Result}
	}
	return fields
}

// toolUpdate gives a call in the SDK's form; ended is nil while it runs.
func toolUpdate(name string, args json.RawMessage, ended *errand.ToolEnded) *updateTool {
	var given object
	_ = json.Unmarshal(args, &given) // what the model wrote may be anything
	var t updateTool
	switch command, isCommand := given["command"].(string); {
	case name == "run_terminal_cmd" && isCommand:
		t = updateTool{Type: "shell", Args: object{"command": command}}
	case name == "read_file" && given["path"] != nil:
		t = updateTool{Type: "read", Args: object{"path": given["path"]}}
	default:
		t = updateTool{Type: "mcp", Args: object{"providerIdentifier": "errand", "toolName": name, "args": given}}
	}
	if ended != nil {
		t.Result = updateResult(t.Type, *ended)
	}
	return &t
}

func updateResult(kind string, d errand.ToolEnded) object {
	fields := resultFields(d)
	number := func(name string, otherwise any) any {
		if v, ok := fields[name].(float64); ok {
			return v
		}
		return otherwise
	}
	switch {
	case d.IsError && kind != "shell":
		return object{"status": "error", "error": object{"message": d.Output}}
	case kind == "shell":
		failed := 0
		if d.IsError {
			failed = 1
		}
		return object{"status": "success", "value": object{
			"exitCode": number("exitCode", failed), "signal": "", "stdout": d.Output, "stderr": "", "executionTime": d.DurationMs,
		}}
	case kind == "read":
		return object{"status": "success", "value": object{
			"content": d.Output, "totalLines": number("totalLines", 0), "fileSize": number("fileSize", len(d.Output)),
		}}
	}
	return object{"status": "success", "value": object{
		"content": []object{{"text": object{"text": d.Output}}}, "isError": d.IsError,
	}}
}
