package loop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/tool"
)

// Conversation is an agent's journal as one of its runs sees it: what the model
// is told, and where the run stands in its own work.
type Conversation struct {
	// Messages alternate and begin with the user's. While Pending is not empty
	// the last one is the model's, or holds the results that are there so far.
	Messages []llm.Message
	// Pending are the tool calls of the last turn that have no result, in order.
	Pending []Call
	// Turn is the run's last turn that has started, 0 before the first.
	Turn int
	// Attempt is the last attempt at Turn; Open says that it has not ended.
	Attempt int
	Open    bool
	// Usage is the run's own so far, compaction included.
	Usage errand.Usage
	// Plan is the agent's plan as it stands, nil if there is none.
	Plan *errand.PlanData
	// Tokens is what the last answer and the question before it took of the
	// model's window as the provider counted, 0 when nothing is counted yet;
	// Fresh is the size in bytes of what has come since.
	Tokens int64
	Fresh  int64

	// Done says that the run needs no further turn; Result is then its last
	// words. Finished tells that they came through the finish tool.
	Done     bool
	Finished bool
	Refused  bool
	Result   string

	// Compacted says that no answer has come since the last compaction.
	Compacted bool

	// Three ways of getting nowhere, each counted in a row: answers with
	// nothing in them, answers cut at the output bound, and the same call
	// failing with the same words.
	Empty   int
	Cut     int
	Repeats int
}

// Call is a tool call that the model made.
type Call struct {
	Turn int
	ID   string // the model's
	Op   string // the guest's
	Name string
	Args json.RawMessage
	// Recorded says that the journal has the call, so that it may have gone to
	// the machine whose life was called Boot.
	Recorded bool
	Boot     string
}

// Op is the id under which the guest knows the index-th tool call of a turn.
// The same call has the same id whoever computes it, which is what makes asking
// again safe.
func Op(run errand.RunID, turn, index int) string {
	return fmt.Sprintf("%s.%d.%d", run, turn, index)
}

// Fold builds the conversation of run out of the agent's events so far, from
// the first one on. It is pure: the same events give the same conversation.
//
// The prompts of other runs appear where those runs began to work, so that one
// which is queued, or was cancelled while it was, is not told of. Calls of an
// ended run that have no result are given one that says so, because providers
// refuse a conversation with a call left open.
func Fold(events []errand.Event, run errand.RunID) Conversation {
	f := newFolder(run)
	for _, e := range events {
		f.add(e)
	}
	return f.conversation()
}

// What the model is told in place of an answer that cannot be used.
const (
	cutNote         = "Your last answer was cut because it reached the output limit. Go on from where it stopped. Write large files in several smaller steps."
	emptyNote       = "Your last answer was empty. Go on with the work, or call finish with a summary if it is done."
	takenText       = "Not carried out: a person took over before this call began. What they did is told below; then decide anew."
	interruptedText = "Interrupted: the run ended before this call did. Whether it took effect is unknown; look at the state before doing it again."
)

// folder is a fold under way.
type folder struct {
	run     errand.RunID // the run it is folded for
	current errand.RunID // the run whose events are being read
	prompts map[errand.RunID]errand.Prompt
	c       Conversation

	began  int // index in c.Messages of the one that holds current's prompt
	prompt []llm.Block
	noted  bool     // the last block is a note of ours
	failed string   // the failing call that Repeats counts
	ended  []string // ops of the run's last turn that have a result
	later  []string // what people did in take-overs that the model cannot be told yet

	// said is the last answer as the model gave it, set before its event is
	// added; nil for the answers to an earlier process. The journal's may have
	// lost a secret to the redactor.
	said []llm.Block
}

func newFolder(run errand.RunID) *folder {
	return &folder{run: run, prompts: make(map[errand.RunID]errand.Prompt)}
}

// conversation gives the state after the events so far. The messages are the
// folder's own and must not be changed.
func (f *folder) conversation() Conversation {
	f.enter(f.run)
	return f.c
}

func (f *folder) add(e errand.Event) {
	switch e.Kind {
	case errand.EventRunQueued:
		f.prompts[e.Run] = decode[errand.RunQueuedData](e).Prompt
	case errand.EventRunStatus:
		f.status(e.Run, decode[errand.RunStatusData](e).Status)
	case errand.EventTurnStarted:
		f.enter(e.Run)
		f.settle()
		d := decode[errand.TurnStarted](e)
		f.c.Turn, f.c.Attempt, f.c.Open = d.Turn, d.Attempt, true
	case errand.EventTurnEnded:
		f.enter(e.Run)
		f.turnEnded(decode[errand.TurnEnded](e))
	case errand.EventToolCalled:
		d := decode[errand.ToolCalled](e)
		if i := f.pending(d.Turn, d.Call); i >= 0 {
			f.c.Pending[i].Recorded, f.c.Pending[i].Boot, f.c.Pending[i].Op = true, d.Boot, d.Op
		}
	case errand.EventToolEnded:
		f.toolEnded(decode[errand.ToolEnded](e))
	case errand.EventPlan:
		d := decode[errand.PlanData](e)
		f.c.Plan = &d
	case errand.EventCompacted:
		f.enter(e.Run)
		f.compacted(decode[errand.Compacted](e))
	case errand.EventTakeoverEnded:
		f.later = append(f.later, decode[errand.TakeoverEnded](e).Summary)
		if !f.c.Open { // else the answer that is under way was asked for without it
			f.settle()
		}
	}
}

// decode reads an event's data. What cannot be read is as if it were empty: the
// journal is ours, and a conversation with a hole is better than none.
func decode[T any](e errand.Event) (d T) {
	_ = json.Unmarshal(e.Data, &d)
	return d
}

func (f *folder) status(run errand.RunID, s errand.RunStatus) {
	switch {
	case s == errand.RunPreparing || s == errand.RunRunning:
		f.enter(run)
	case s.Ended() && run == f.current:
		f.interrupt()
	case s.Ended():
		delete(f.prompts, run)
	}
}

// enter makes run the one whose events are read: its prompt joins the
// conversation, and what belonged to the run before it is closed.
func (f *folder) enter(run errand.RunID) {
	if run == f.current {
		return
	}
	f.interrupt()
	f.dropNote()
	f.settle()
	f.current = run
	f.c = Conversation{Messages: f.c.Messages, Plan: f.c.Plan, Tokens: f.c.Tokens, Fresh: f.c.Fresh}
	f.failed, f.ended = "", nil
	f.prompt = promptBlocks(f.prompts[run])
	delete(f.prompts, run)
	f.say(f.prompt...)
	f.began = len(f.c.Messages) - 1
}

func promptBlocks(p errand.Prompt) []llm.Block {
	blocks := []llm.Block{{Type: llm.Text, Text: p.Text}}
	if strings.TrimSpace(p.Text) == "" {
		blocks[0].Text = "(The prompt has no text.)"
	}
	for _, image := range p.Images {
		blocks = append(blocks, llm.Block{Type: llm.Image, Images: []errand.Image{image}})
	}
	return blocks
}

// say adds blocks to what the model is told next.
func (f *folder) say(blocks ...llm.Block) {
	f.noted = false
	for _, b := range blocks {
		f.c.Fresh += size(b)
	}
	if n := len(f.c.Messages); n > 0 && f.c.Messages[n-1].Role == llm.User {
		m := &f.c.Messages[n-1]
		m.Blocks = append(m.Blocks, blocks...)
		return
	}
	f.c.Messages = append(f.c.Messages, llm.Message{Role: llm.User, Blocks: blocks})
}

func (f *folder) note(text string) {
	f.say(llm.Block{Type: llm.Text, Text: text})
	f.noted = true
}

// dropNote takes back a note that no answer followed: the next prompt says
// what to do.
func (f *folder) dropNote() {
	if !f.noted {
		return
	}
	f.noted = false
	last := &f.c.Messages[len(f.c.Messages)-1]
	last.Blocks = last.Blocks[:len(last.Blocks)-1]
	if len(last.Blocks) == 0 {
		f.c.Messages = f.c.Messages[:len(f.c.Messages)-1]
	}
}

// settle tells the model what people did in take-overs, once all calls of its last
// answer have a result. Those that had not begun were made without knowing of it,
// and are not carried out; nor is the run done before the model knows.
func (f *folder) settle() {
	if len(f.later) == 0 {
		return
	}
	var begun []Call
	for _, c := range f.c.Pending {
		if c.Recorded {
			begun = append(begun, c)
			continue
		}
		f.say(llm.Block{Type: llm.ToolResult, Call: c.ID, Name: c.Name, Text: takenText, IsError: true})
	}
	if f.c.Pending = begun; len(begun) > 0 {
		return
	}
	for _, text := range f.later {
		f.say(llm.Block{Type: llm.Text, Text: text})
	}
	f.later = nil
	f.c.Done, f.c.Finished, f.c.Refused, f.c.Result = false, false, false, ""
}

// interrupt gives every open call a result.
func (f *folder) interrupt() {
	for _, c := range f.c.Pending {
		f.say(llm.Block{Type: llm.ToolResult, Call: c.ID, Name: c.Name, Text: interruptedText, IsError: true})
	}
	f.c.Pending = nil
}

func (f *folder) turnEnded(d errand.TurnEnded) {
	f.c.Turn, f.c.Attempt, f.c.Open, f.c.Compacted = d.Turn, d.Attempt, false, false
	f.ended = nil
	f.c.Usage = f.c.Usage.Add(d.Usage)
	var m llm.Message
	_ = json.Unmarshal(d.Message, &m)
	m.Role = llm.Assistant
	m.Blocks = intact(m.Blocks, f.said)

	text, calls := textOf(m.Blocks), f.callsOf(d.Turn, m)
	f.count(m, d.Usage)
	if text == "" && len(calls) == 0 {
		f.emptyAnswer(llm.Stop(d.Stop))
		f.settle()
		return
	}
	f.c.Messages = append(f.c.Messages, m)
	f.noted = false
	f.c.Empty, f.c.Pending = 0, calls
	switch {
	case len(calls) > 0:
		f.c.Cut = 0
	case llm.Stop(d.Stop) == llm.StopLength:
		f.c.Cut++
		f.note(cutNote)
	default:
		f.c.Done, f.c.Result = true, text
		f.c.Refused = llm.Stop(d.Stop) == llm.StopRefusal
	}
	f.settle()
}

// intact gives an answer's blocks with their thinking as a provider takes it
// back: it is signed, and refused where the redactor changed a letter. The model's
// own is taken from said if that is known. Else all thinking of the answer is left
// out, and what is tied to it untied.
func intact(blocks, said []llm.Block) []llm.Block {
	if !slices.ContainsFunc(blocks, damaged) {
		return blocks
	}
	if len(said) == len(blocks) {
		blocks = slices.Clone(blocks)
		for i, b := range blocks {
			if damaged(b) {
				blocks[i] = said[i]
			}
		}
		return blocks
	}
	var rest []llm.Block
	for _, b := range blocks {
		if b.Type != llm.Thinking {
			b.Raw, b.Dialect = nil, ""
			rest = append(rest, b)
		}
	}
	return rest
}

// damaged says whether a block is signed thinking that the redactor changed. The
// Chat dialect signs none, and some of its models want theirs back in any case.
func damaged(b llm.Block) bool {
	return b.Type == llm.Thinking && b.Raw != nil && b.Dialect != string(llm.Chat) &&
		(strings.Contains(b.Text, secret.Redacted) || bytes.Contains(b.Raw, []byte(secret.Redacted)))
}

// emptyAnswer leaves the answer out, since providers refuse an empty message,
// and tells the model so.
func (f *folder) emptyAnswer(stop llm.Stop) {
	switch stop {
	case llm.StopRefusal:
		f.c.Done, f.c.Refused = true, true
	case llm.StopLength:
		f.c.Cut++
		f.note(cutNote)
	default:
		f.c.Empty++
		f.note(emptyNote)
	}
}

// callsOf gives the calls of an answer, in order.
func (f *folder) callsOf(turn int, m llm.Message) (calls []Call) {
	for _, b := range m.Blocks {
		if b.Type == llm.ToolCall {
			calls = append(calls, Call{
				Turn: turn, ID: b.Call, Op: Op(f.current, turn, len(calls)), Name: b.Name, Args: b.Args,
			})
		}
	}
	return calls
}

// count keeps the estimate of the window in use. A provider that counts nothing
// leaves it to the bytes.
func (f *folder) count(m llm.Message, u errand.Usage) {
	if u.Total() > 0 {
		f.c.Tokens, f.c.Fresh = u.Total(), 0
		return
	}
	for _, b := range m.Blocks {
		f.c.Fresh += size(b)
	}
}

// pending finds an open call, -1 if there is none.
func (f *folder) pending(turn int, id string) int {
	for i, c := range f.c.Pending {
		if c.Turn == turn && c.ID == id {
			return i
		}
	}
	return -1
}

func (f *folder) toolEnded(d errand.ToolEnded) {
	i := f.pending(d.Turn, d.Call)
	if i < 0 {
		return
	}
	call := f.c.Pending[i]
	f.c.Pending = append(f.c.Pending[:i:i], f.c.Pending[i+1:]...)
	f.ended = append(f.ended, call.Op)
	f.repeated(call, d)
	output := d.Output
	if f.c.Repeats == nudgeRepeats {
		output += "\n\n" + repeatNote
	}
	if output == "" {
		// Providers refuse a result without text.
		output = "(no output)"
	}
	f.say(llm.Block{Type: llm.ToolResult, Call: d.Call, Name: d.Name, Text: output, IsError: d.IsError, Images: d.Images})
	if d.Name == tool.Finish && !d.IsError {
		var end tool.End
		_ = json.Unmarshal(d.Result, &end)
		f.c.Done, f.c.Finished, f.c.Result = true, true, end.Summary
	}
	f.settle()
}

// repeated counts how often in a row the same call failed in the same way.
func (f *folder) repeated(call Call, d errand.ToolEnded) {
	if !d.IsError {
		f.failed, f.c.Repeats = "", 0
		return
	}
	var args bytes.Buffer
	_ = json.Compact(&args, call.Args)
	key := call.Name + "\x00" + args.String() + "\x00" + d.Output
	if key != f.failed {
		f.failed, f.c.Repeats = key, 0
	}
	f.c.Repeats++
}
