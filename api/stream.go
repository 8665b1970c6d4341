package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/errand-dev/errand"
)

// The events of a run's stream.
const (
	StreamStatus            = "status"
	StreamAssistant         = "assistant"
	StreamThinking          = "thinking"
	StreamToolCall          = "tool_call"
	StreamInteractionUpdate = "interaction_update"
	StreamHeartbeat         = "heartbeat"
	StreamResult            = "result"
	StreamError             = "error"
	StreamDone              = "done"
)

// maxStreamed bounds a tool call's arguments and its result in the stream, in
// bytes of JSON. What is larger is left out and said to be.
const maxStreamed = 64 << 10

// Message is one message of a run's stream.
type Message struct {
	// ID resumes the stream after this message. It is empty for status,
	// heartbeat and done, which are not replayed by position. An
	// interaction_update has the id of the message it stands beside, and comes
	// after it.
	ID    string
	Event string
	Data  any // marshals to the message's JSON
}

// StreamText is the data of assistant and thinking: a piece of what streams.
type StreamText struct {
	Text string `json:"text"`
}

// StreamRunStatus is the data of status.
type StreamRunStatus struct {
	RunID  string `json:"runId"`
	Status string `json:"status"`
}

// StreamRunResult is the data of result. Error is Errand's own.
type StreamRunResult struct {
	RunID      string  `json:"runId"`
	Status     string  `json:"status"`
	Text       string  `json:"text,omitempty"`
	DurationMs *int64  `json:"durationMs,omitempty"`
	Git        *RunGit `json:"git,omitempty"`
	Error      *Error  `json:"error,omitempty"`
}

// StreamTool is the data of tool_call.
type StreamTool struct {
	CallID    string           `json:"callId"`
	Name      string           `json:"name"`
	Status    string           `json:"status"` // "running" or "completed"
	Args      json.RawMessage  `json:"args,omitempty"`
	Result    json.RawMessage  `json:"result,omitempty"`
	Truncated *StreamTruncated `json:"truncated,omitempty"`
}

// StreamTruncated says what was too large for the stream.
type StreamTruncated struct {
	Args   bool `json:"args,omitempty"`
	Result bool `json:"result,omitempty"`
}

// Stream folds an agent's journal into one run's messages. It wants every event
// of the journal in order, also those of other runs: what the agent has pushed
// is told with each of its runs. The same events give the same messages.
//
// A failed run ends with result, error and done, in that order: Cursor's client
// takes an error before the result for a fault of the stream.
type Stream struct {
	run      errand.RunID
	status   string // the last one told
	args     map[string]json.RawMessage
	branches []RunGitBranch
	thinking time.Time // since when the model thinks; zero when it does not
	ended    bool
}

// NewStream begins the stream of a run. The run's status, as the store has it
// now, is told first (Top); older statuses that the journal repeats are not
// told again.
func NewStream(run errand.Run) *Stream {
	return &Stream{run: run.ID, status: FromRunStatus(run.Status), args: map[string]json.RawMessage{}}
}

// Top gives the status message that opens every connection.
func (s *Stream) Top() Message {
	return Message{Event: StreamStatus, Data: StreamRunStatus{RunID: string(s.run), Status: s.status}}
}

// Ended says whether the run's last message was given.
func (s *Stream) Ended() bool { return s.ended }

// Fold gives the messages of one more event. An error means that the event's
// data is not what its kind says.
func (s *Stream) Fold(ev errand.Event) ([]Message, error) {
	out := messages{seq: ev.Seq}
	if ev.Kind == errand.EventPush {
		return nil, s.push(ev)
	}
	if ev.Run != s.run || s.ended {
		return nil, nil
	}
	s.endThinking(ev, &out)
	if err := s.fold(ev, &out); err != nil {
		return nil, fmt.Errorf("reading event %d: %w", ev.Seq, err)
	}
	return out.list, nil
}

func (s *Stream) fold(ev errand.Event, out *messages) error {
	switch ev.Kind {
	case errand.EventRunStatus:
		return decode(ev, func(d errand.RunStatusData) { s.statusChanged(d, out) })
	case errand.EventText:
		return decode(ev, func(d errand.TextData) {
			out.pair(StreamAssistant, StreamText{d.Text}, update{Type: "text-delta", Text: &d.Text})
		})
	case errand.EventThinking:
		return decode(ev, func(d errand.TextData) {
			out.pair(StreamThinking, StreamText{d.Text}, update{Type: "thinking-delta", Text: &d.Text})
		})
	case errand.EventTurnStarted:
		return decode(ev, func(d errand.TurnStarted) {
			if d.Attempt > 1 {
				out.update(update{Type: "turn-restarted", Turn: d.Turn, Attempt: d.Attempt})
			}
		})
	case errand.EventTurnRetried:
		return decode(ev, func(d errand.TurnRetried) {
			out.update(update{Type: "turn-retrying", Turn: d.Turn, Attempt: d.Attempt, Reason: d.Reason, WaitMs: d.WaitMs})
		})
	case errand.EventTurnEnded:
		return decode(ev, func(d errand.TurnEnded) {
			u := FromUsage(d.Usage)
			out.update(update{Type: "turn-ended", Usage: &u})
		})
	case errand.EventToolCalled:
		return decode(ev, func(d errand.ToolCalled) { s.toolCalled(d, out) })
	case errand.EventToolEnded:
		return decode(ev, func(d errand.ToolEnded) { s.toolEnded(d, out) })
	case errand.EventCompacted:
		return decode(ev, func(d errand.Compacted) {
			out.update(update{Type: "summary", Summary: d.Summary})
		})
	case errand.EventTakeoverStarted:
		return decode(ev, func(d errand.TakeoverStarted) {
			out.update(update{Type: "taken-over", By: d.Caller.Called(), Until: &d.Until})
		})
	case errand.EventTakeoverEnded:
		return decode(ev, func(d errand.TakeoverEnded) {
			out.update(update{Type: "handed-back", By: d.Holder.Called(), Reason: d.Ending.Why, Summary: d.Summary})
		})
	}
	return nil
}

// endThinking tells how long the model thought, once it does something else.
func (s *Stream) endThinking(ev errand.Event, out *messages) {
	switch {
	case ev.Kind == errand.EventThinking:
		if s.thinking.IsZero() {
			s.thinking = ev.Time
		}
	case ev.Kind == errand.EventText, ev.Kind == errand.EventToolCalled, ev.Kind == errand.EventTurnEnded:
		if !s.thinking.IsZero() {
			ms := max(0, ev.Time.Sub(s.thinking).Milliseconds())
			out.update(update{Type: "thinking-completed", ThinkingDurationMs: &ms})
			s.thinking = time.Time{}
		}
	}
}

func (s *Stream) statusChanged(d errand.RunStatusData, out *messages) {
	status := FromRunStatus(d.Status)
	if rank(status) > rank(s.status) {
		s.status = status
		out.bare(StreamStatus, StreamRunStatus{RunID: string(s.run), Status: status})
	}
	if !d.Status.Ended() {
		return
	}
	result := StreamRunResult{RunID: string(s.run), Status: status, Text: d.Result, DurationMs: &d.DurationMs}
	if len(s.branches) > 0 {
		result.Git = &RunGit{Branches: append([]RunGitBranch(nil), s.branches...)}
	}
	if d.Error != nil {
		e := fromError(d.Error)
		result.Error = &e
	}
	out.add(StreamResult, result)
	if result.Error != nil {
		out.add(StreamError, result.Error)
	}
	out.bare(StreamDone, struct{}{})
	s.ended = true
}

// push notes what a branch of the agent has now.
func (s *Stream) push(ev errand.Event) error {
	return decode(ev, func(d errand.PushData) {
		name, ok := strings.CutPrefix(d.Ref, "refs/heads/")
		if d.Refused != "" || d.New == "" || !ok {
			return
		}
		branch := RunGitBranch{RepoURL: bareURL(d.Repository), Branch: name}
		for _, b := range s.branches {
			if b == branch {
				return
			}
		}
		s.branches = append(s.branches, branch)
	})
}

func decode[T any](ev errand.Event, use func(T)) error {
	var data T
	if err := json.Unmarshal(ev.Data, &data); err != nil {
		return err
	}
	use(data)
	return nil
}

// messages gathers what one event gives. Messages with an id are numbered
// within the event, so that a resume can begin between two of them.
type messages struct {
	seq  errand.Seq
	n    int
	list []Message
}

func (m *messages) bare(event string, data any) {
	m.list = append(m.list, Message{Event: event, Data: data})
}

func (m *messages) add(event string, data any) string {
	id := StreamID(m.seq, m.n)
	m.n++
	m.list = append(m.list, Message{ID: id, Event: event, Data: data})
	return id
}

func (m *messages) update(u update) { m.add(StreamInteractionUpdate, u) }

// pair adds a message and, beside it under the same id, the richer update.
func (m *messages) pair(event string, data any, u update) {
	id := m.add(event, data)
	m.list = append(m.list, Message{ID: id, Event: StreamInteractionUpdate, Data: u})
}

// StreamID names the nth message with an id that the event seq gives.
func StreamID(seq errand.Seq, n int) string { return fmt.Sprintf("%d-%d", seq, n) }

// ParseStreamID reads an id back. An id that was never ours is an Invalid
// error, code "invalid_last_event_id".
func ParseStreamID(id string) (seq errand.Seq, n int, err error) {
	a, b, _ := strings.Cut(id, "-")
	seq64, errA := strconv.ParseInt(a, 10, 64)
	n64, errB := strconv.ParseInt(b, 10, 32)
	if errA != nil || errB != nil || seq64 < 1 || n64 < 0 || StreamID(errand.Seq(seq64), int(n64)) != id {
		return 0, 0, InvalidStreamID(id)
	}
	return errand.Seq(seq64), int(n64), nil
}

// InvalidStreamID is the answer to a Last-Event-ID that is not one of the run.
func InvalidStreamID(id string) error {
	return errand.Errorf(errand.Invalid, "invalid_last_event_id", "Last-Event-ID %.80q is not an event of this run. Leave the header out to read the run from its beginning.", id)
}
