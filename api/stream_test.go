package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

const (
	agentID = errand.AgentID("bc-00000000-0000-0000-0000-000000000001")
	runID   = errand.RunID("run-00000000-0000-0000-0000-000000000001")
	otherID = errand.RunID("run-00000000-0000-0000-0000-000000000002")
)

// journal numbers facts as the journal does, 10 ms apart.
type journal struct{ events []errand.Event }

func (j *journal) tell(t *testing.T, run errand.RunID, kind errand.EventKind, data any) {
	t.Helper()
	text, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	seq := errand.Seq(len(j.events) + 1)
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).Add(time.Duration(seq) * 10 * time.Millisecond)
	j.events = append(j.events, errand.Event{Agent: agentID, Seq: seq, Run: run, Time: at, Kind: kind, Data: text})
}

// sample is a journal with a whole run, a retried turn, and another run beside.
func sample(t *testing.T) []errand.Event {
	var j journal
	tell := func(kind errand.EventKind, data any) { t.Helper(); j.tell(t, runID, kind, data) }
	j.tell(t, "", errand.EventAgentCreated, errand.AgentCreated{})
	tell(errand.EventRunQueued, errand.RunQueuedData{Prompt: errand.Prompt{Text: "go"}})
	tell(errand.EventRunStatus, errand.RunStatusData{Status: errand.RunPreparing})
	tell(errand.EventPhaseStarted, errand.PhaseStarted{Phase: errand.PhaseMachine})
	j.tell(t, otherID, errand.EventText, errand.TextData{Turn: 1, Attempt: 1, Text: "another run's"})
	tell(errand.EventRunStatus, errand.RunStatusData{Status: errand.RunRunning})
	tell(errand.EventTurnStarted, errand.TurnStarted{Turn: 1, Attempt: 1})
	tell(errand.EventText, errand.TextData{Turn: 1, Attempt: 1, Text: "bro"})
	tell(errand.EventTurnRetried, errand.TurnRetried{Turn: 1, Attempt: 1, Reason: "cut", WaitMs: 5})
	tell(errand.EventTurnStarted, errand.TurnStarted{Turn: 1, Attempt: 2})
	tell(errand.EventThinking, errand.TextData{Turn: 1, Attempt: 2, Text: "hm"})
	tell(errand.EventThinking, errand.TextData{Turn: 1, Attempt: 2, Text: "m"})
	tell(errand.EventText, errand.TextData{Turn: 1, Attempt: 2, Text: "I look."})
	tell(errand.EventTurnEnded, errand.TurnEnded{Turn: 1, Attempt: 2, Message: json.RawMessage(`{}`), Usage: errand.Usage{Input: 7, Output: 3}})
	tell(errand.EventToolCalled, errand.ToolCalled{Turn: 1, Call: "c1", Op: "op1", Name: "run_terminal_cmd", Args: json.RawMessage(`{"command":"ls"}`)})
	tell(errand.EventToolEnded, errand.ToolEnded{Turn: 1, Call: "c1", Op: "op1", Name: "run_terminal_cmd", Output: "a\nb\n", DurationMs: 12, Result: json.RawMessage(`{"command":"ls","exitCode":0}`)})
	j.tell(t, otherID, errand.EventPush, errand.PushData{Repository: "https://user@example.com/org/app.git", Ref: "refs/heads/errand/x-1234", New: "c0ffee"})
	tell(errand.EventPush, errand.PushData{Repository: "https://example.com/org/app.git", Ref: "refs/heads/main", New: "c0ffee", Refused: "not yours"})
	tell(errand.EventRunStatus, errand.RunStatusData{Status: errand.RunFinished, Result: "Done.", DurationMs: 1234})
	tell(errand.EventNotice, errand.Notice{Text: "too late for the stream"})
	return j.events
}

// fold gives the stream's messages as lines "id event data".
func fold(t *testing.T, status errand.RunStatus, events []errand.Event) []string {
	t.Helper()
	s := api.NewStream(errand.Run{ID: runID, Status: status})
	lines := []string{line(t, s.Top())}
	for _, e := range events {
		messages, err := s.Fold(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			lines = append(lines, line(t, m))
		}
	}
	return lines
}

func line(t *testing.T, m api.Message) string {
	t.Helper()
	data, err := json.Marshal(m.Data)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %s %s", m.ID, m.Event, data)
}

func TestStream(t *testing.T) {
	want := strings.Split(strings.TrimSpace(`
 status {"runId":"run-00000000-0000-0000-0000-000000000001","status":"CREATING"}
 status {"runId":"run-00000000-0000-0000-0000-000000000001","status":"RUNNING"}
8-0 assistant {"text":"bro"}
8-0 interaction_update {"type":"text-delta","text":"bro"}
9-0 interaction_update {"type":"turn-retrying","turn":1,"attempt":1,"reason":"cut","waitMs":5}
10-0 interaction_update {"type":"turn-restarted","turn":1,"attempt":2}
11-0 thinking {"text":"hm"}
11-0 interaction_update {"type":"thinking-delta","text":"hm"}
12-0 thinking {"text":"m"}
12-0 interaction_update {"type":"thinking-delta","text":"m"}
13-0 interaction_update {"type":"thinking-completed","thinkingDurationMs":20}
13-1 assistant {"text":"I look."}
13-1 interaction_update {"type":"text-delta","text":"I look."}
14-0 interaction_update {"type":"turn-ended","usage":{"inputTokens":7,"outputTokens":3,"cacheWriteTokens":0,"cacheReadTokens":0,"totalTokens":10}}
15-0 tool_call {"callId":"op1","name":"run_terminal_cmd","status":"running","args":{"command":"ls"}}
15-0 interaction_update {"type":"tool-call-started","callId":"op1","modelCallId":"c1","toolCall":{"type":"shell","args":{"command":"ls"}}}
16-0 tool_call {"callId":"op1","name":"run_terminal_cmd","status":"completed","args":{"command":"ls"},"result":{"isBackground":false,"success":{"command":"ls","exitCode":0,"stdout":"a\nb\n"}}}
16-0 interaction_update {"type":"tool-call-completed","callId":"op1","modelCallId":"c1","toolCall":{"type":"shell","args":{"command":"ls"},"result":{"status":"success","value":{"executionTime":12,"exitCode":0,"signal":"","stderr":"","stdout":"a\nb\n"}}}}
 status {"runId":"run-00000000-0000-0000-0000-000000000001","status":"FINISHED"}
19-0 result {"runId":"run-00000000-0000-0000-0000-000000000001","status":"FINISHED","text":"Done.","durationMs":1234,"git":{"branches":[{"repoUrl":"example.com/org/app","branch":"errand/x-1234"}]}}
 done {}`), "\n")
	want[0] = " " + strings.TrimSpace(want[0])
	if diff := cmp.Diff(want, fold(t, errand.RunQueued, sample(t))); diff != "" {
		t.Error(diff)
	}
}

// The status on top is the newest there is; the journal's older ones do not come
// after it.
func TestStreamDoesNotGoBack(t *testing.T) {
	for status, want := range map[errand.RunStatus][]string{
		errand.RunQueued:    {"CREATING", "RUNNING", "FINISHED"},
		errand.RunPreparing: {"CREATING", "RUNNING", "FINISHED"},
		errand.RunRunning:   {"RUNNING", "FINISHED"},
		errand.RunFinished:  {"FINISHED"},
	} {
		var got []string
		for _, l := range fold(t, status, sample(t)) {
			if strings.HasPrefix(l, " status ") {
				got = append(got, strings.TrimSuffix(l[strings.LastIndex(l, `:"`)+2:], `"}`))
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("from %s: %s", status, diff)
		}
	}
}

func TestStreamOfAFailure(t *testing.T) {
	var j journal
	code := 3
	j.tell(t, runID, errand.EventRunStatus, errand.RunStatusData{Status: errand.RunFailed, Error: &errand.Error{
		Kind: errand.Invalid, Code: "install_failed", Message: "npm ci failed.", Output: "no lockfile", ExitCode: &code,
	}})
	lines := fold(t, errand.RunQueued, j.events)
	var kinds []string
	for _, l := range lines {
		kinds = append(kinds, strings.Fields(l[strings.Index(l, " "):])[0])
	}
	if diff := cmp.Diff([]string{"status", "status", "result", "error", "done"}, kinds); diff != "" {
		t.Error(diff)
	}
	if want := `1-1 error {"code":"install_failed","message":"npm ci failed.","output":"no lockfile","exitCode":3}`; lines[3] != want {
		t.Errorf("got  %s\nwant %s", lines[3], want)
	}
}

func TestLargeToolCallsAreLeftOut(t *testing.T) {
	large := strings.Repeat("x", 65<<10)
	var j journal
	j.tell(t, runID, errand.EventToolCalled, errand.ToolCalled{Op: "op1", Name: "write_file", Args: json.RawMessage(`{"data":"` + large + `"}`)})
	j.tell(t, runID, errand.EventToolEnded, errand.ToolEnded{Op: "op1", Name: "write_file", Output: large})
	s := api.NewStream(errand.Run{ID: runID, Status: errand.RunRunning})
	var tools []api.StreamTool
	for _, e := range j.events {
		messages, err := s.Fold(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if size := len(line(t, m)); size > 2000 {
				t.Errorf("a %s message has %d bytes", m.Event, size)
			}
			if tool, ok := m.Data.(api.StreamTool); ok {
				tools = append(tools, tool)
			}
		}
	}
	want := []api.StreamTool{
		{CallID: "op1", Name: "write_file", Status: "running", Truncated: &api.StreamTruncated{Args: true}},
		{CallID: "op1", Name: "write_file", Status: "completed", Truncated: &api.StreamTruncated{Args: true, Result: true}},
	}
	if diff := cmp.Diff(want, tools); diff != "" {
		t.Error(diff)
	}
}

// Every id is given to one event and its update, in ascending order.
func TestStreamIDs(t *testing.T) {
	s := api.NewStream(errand.Run{ID: runID, Status: errand.RunQueued})
	var ids []string
	for _, e := range sample(t) {
		messages, err := s.Fold(e)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range messages {
			if m.ID == "" {
				continue
			}
			seq, n, err := api.ParseStreamID(m.ID)
			if err != nil || seq != e.Seq || n < 0 {
				t.Errorf("ParseStreamID(%q) = %d, %d, %v for event %d", m.ID, seq, n, err, e.Seq)
			}
			if paired := i > 0 && messages[i-1].ID == m.ID; paired && m.Event != api.StreamInteractionUpdate {
				t.Errorf("%s shares the id %s", m.Event, m.ID)
			} else if !paired {
				ids = append(ids, m.ID)
			}
		}
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(ids))); len(unique) != len(ids) {
		t.Errorf("ids repeat: %v", ids)
	}
	for _, bad := range []string{"", "1", "1-", "-1", "0-0", "01-0", "1-00", "1--1", "a-b", "1-0-0", "+1-0", strings.Repeat("9", 30) + "-0"} {
		if _, _, err := api.ParseStreamID(bad); errand.KindOf(err) != errand.Invalid {
			t.Errorf("ParseStreamID(%q) gave %v", bad, err)
		}
	}
}

func TestBrokenEvents(t *testing.T) {
	s := api.NewStream(errand.Run{ID: runID, Status: errand.RunRunning})
	for _, kind := range []errand.EventKind{errand.EventText, errand.EventRunStatus, errand.EventToolEnded} {
		if _, err := s.Fold(errand.Event{Seq: 4, Run: runID, Kind: kind, Data: json.RawMessage(`[]`)}); err == nil || !strings.Contains(err.Error(), "event 4") {
			t.Errorf("%s with data of another form gives %v", kind, err)
		}
	}
	if m, err := s.Fold(errand.Event{Seq: 5, Run: runID, Kind: "of.tomorrow", Data: json.RawMessage(`[]`)}); err != nil || m != nil {
		t.Errorf("an unknown kind gives %v, %v", m, err)
	}
}
