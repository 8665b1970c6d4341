package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// transcript writes an agent's journal for people, event by event: phases with
// their times, text as it streamed, a line for each tool call with the ends of
// what it printed, errors with what to do about them.
type transcript struct {
	w      io.Writer
	style  style
	status *status          // what is under way; nil for none
	whole  bool             // nothing is cut
	inText bool             // the last thing written was streamed text without its line end
	kind   errand.EventKind // of that text: thinking, or what was said
	said   string           // the text of the turn, as it streamed
	phase  tail             // what the phase under way printed
}

func newTranscript(w io.Writer, s style, st *status, whole bool) *transcript {
	return &transcript{w: w, style: s, status: st, whole: whole}
}

// Event writes one event. Kinds that tell people nothing are left out.
func (t *transcript) Event(e errand.Event) {
	switch e.Kind {
	case errand.EventRunQueued:
		show(e, t.runQueued)
	case errand.EventRunStatus:
		show(e, t.runStatus)
	case errand.EventRunCancelAsked:
		show(e, func(d errand.CancelAsked) { t.note(t.style.yellow("cancel asked") + by(d.Caller)) })
	case errand.EventPhaseStarted, errand.EventPhaseOutput, errand.EventPhaseEnded:
		t.phaseEvent(e)
	case errand.EventMachine:
		show(e, t.machine)
	case errand.EventTurnStarted:
		show(e, t.turnStarted)
	case errand.EventTurnRetried:
		show(e, func(d errand.TurnRetried) {
			t.note(t.style.yellow(fmt.Sprintf("the model's answer broke (%s); trying again in %s", clip(d.Reason, 200), milliseconds(d.WaitMs))))
		})
	case errand.EventThinking:
		show(e, func(d errand.TextData) { t.stream(e.Kind, t.style.dim(printable(d.Text)), d.Text) })
	case errand.EventText:
		show(e, func(d errand.TextData) {
			t.said += d.Text
			t.stream(e.Kind, printable(d.Text), d.Text)
		})
	case errand.EventToolCalled:
		show(e, t.toolCalled)
	case errand.EventToolEnded:
		show(e, t.toolEnded)
	case errand.EventPlan:
		show(e, t.plan)
	case errand.EventEnvironment, errand.EventBuildQueued, errand.EventBuildStatus, errand.EventBuildCancel:
		t.build(e)
	case errand.EventTakeoverStarted, errand.EventTakeoverReminded, errand.EventTakeoverCommand, errand.EventTakeoverEnded:
		t.takeover(e)
	default:
		t.rest(e)
	}
}

// rest writes the events that are a line each.
func (t *transcript) rest(e errand.Event) {
	switch e.Kind {
	case errand.EventCompacted:
		show(e, func(d errand.Compacted) {
			t.note(t.style.dim(fmt.Sprintf("conversation summed up (%s tokens before)", count(d.TokensBefore))))
		})
	case errand.EventConnection:
		show(e, t.connection)
	case errand.EventCommit:
		show(e, func(d errand.CommitData) {
			t.note(fmt.Sprintf("commit %s %s %s", t.style.yellow(clip(d.Commit, 10)), clip(d.Title, 80), t.style.dim(plural(d.Files, "file"))))
		})
	case errand.EventPush:
		show(e, t.push)
	case errand.EventNotice:
		show(e, func(d errand.Notice) {
			text := printable(d.Text)
			if d.Level == "warning" {
				text = t.style.yellow(text)
			}
			t.note(text)
		})
	}
}

// show gives an event's data to f. Data that cannot be read is left out: an
// older command may look at a newer journal.
func show[T any](e errand.Event, f func(T)) {
	var data T
	if json.Unmarshal(e.Data, &data) == nil {
		f(data)
	}
}

func (t *transcript) line(text string) {
	t.endText()
	fmt.Fprintln(t.w, text)
}

// note is a line within a run.
func (t *transcript) note(text string) { t.line("  " + text) }

func (t *transcript) stream(kind errand.EventKind, shown, text string) {
	if text == "" {
		return
	}
	if kind != t.kind {
		t.endText()
	}
	fmt.Fprint(t.w, shown)
	t.kind = kind
	t.inText = !strings.HasSuffix(text, "\n")
	t.status.Set("")
}

func (t *transcript) endText() {
	if t.inText {
		fmt.Fprintln(t.w)
		t.inText = false
	}
}

// doing shows what is under way from now on.
func (t *transcript) doing(text string) {
	t.endText()
	t.status.Set(text)
}

func (t *transcript) runQueued(d errand.RunQueuedData) {
	prompt := strings.TrimSpace(printable(d.Prompt.Text))
	if !t.whole {
		prompt = cutLines(prompt, 6, 0)
	}
	t.line("")
	for line := range strings.Lines(prompt) {
		t.line(t.style.cyan("▌ ") + t.style.bold(strings.TrimRight(line, "\n")))
	}
	if n := len(d.Prompt.Images); n > 0 {
		t.line(t.style.cyan("▌ ") + t.style.dim(plural(n, "image")))
	}
	t.doing("waiting for its turn")
}

func (t *transcript) runStatus(d errand.RunStatusData) {
	if !d.Status.Ended() {
		if d.Status == errand.RunPreparing {
			t.doing("preparing")
		}
		return
	}
	t.status.Set("")
	if result := strings.TrimSpace(d.Result); result != "" && result != strings.TrimSpace(t.said) {
		t.line(printable(result))
	}
	mark := t.style.green("✓ finished")
	switch d.Status {
	case errand.RunFailed:
		mark = t.style.red("✗ failed")
	case errand.RunCancelled, errand.RunExpired:
		mark = t.style.yellow("■ " + string(d.Status))
	}
	facts := []string{mark}
	if d.DurationMs > 0 {
		facts = append(facts, "after "+milliseconds(d.DurationMs))
	}
	if d.Usage != nil && d.Usage.Total() > 0 {
		facts = append(facts, t.style.dim(tokens(*d.Usage)))
	}
	t.line(strings.Join(facts, " "))
	if d.Error != nil {
		t.note(t.style.red(printable(d.Error.Message)))
		writeOutput(t.w, t.style, d.Error)
	}
}

func (t *transcript) phaseEvent(e errand.Event) {
	switch e.Kind {
	case errand.EventPhaseStarted:
		show(e, func(d errand.PhaseStarted) {
			t.phase = tail{}
			t.doing(strings.TrimSpace(string(d.Phase) + " " + clip(d.Command, 60)))
			if d.Command != "" && d.Phase != errand.PhaseWork {
				t.note(t.style.dim(string(d.Phase)+": ") + clip(d.Command, 66))
			}
		})
	case errand.EventPhaseOutput:
		show(e, func(d errand.PhaseOutput) {
			if t.whole {
				t.block(d.Text)
				return
			}
			t.phase.add(d.Text)
		})
	case errand.EventPhaseEnded:
		show(e, t.phaseEnded)
	}
}

func (t *transcript) phaseEnded(d errand.PhaseEnded) {
	t.status.Set("")
	if d.Error != nil {
		t.block(t.phase.text())
		t.note(fmt.Sprintf("%s %-10s %s", t.style.red("✗"), d.Phase, t.style.red(clip(d.Error.Message, 200))))
		return
	}
	if d.Phase == errand.PhaseWork {
		return // its end is the run's
	}
	took := milliseconds(d.DurationMs)
	if d.Cached {
		took += " (cached)"
	}
	t.note(fmt.Sprintf("%s %-10s %-16s %s", t.style.green("✓"), d.Phase, took, t.style.dim(clip(d.Note, 100))))
}

func (t *transcript) machine(d errand.MachineData) {
	facts := d.What
	for _, more := range []string{d.Engine, d.Image, d.ID} {
		if more != "" {
			facts += " " + clip(more, 60)
		}
	}
	t.note(t.style.dim("machine " + facts))
	for _, limit := range d.Unenforced {
		t.note(t.style.yellow("not held here: " + clip(limit, 200)))
	}
}

func (t *transcript) turnStarted(d errand.TurnStarted) {
	t.said = ""
	if d.Attempt > 1 {
		t.note(t.style.yellow("the answer begins anew; what it said above is void"))
	}
	t.doing("waiting for " + clip(d.Model, 40))
}

// quiet says which calls are shown by what they lead to: the plan itself, the
// run's result.
func quiet(tool string) bool { return tool == "update_plan" || tool == "finish" }

func (t *transcript) toolCalled(d errand.ToolCalled) {
	if quiet(d.Name) {
		return
	}
	summary := toolSummary(d.Name, d.Args)
	t.line(t.style.cyan("→ "+d.Name) + " " + clip(summary, 110))
	t.doing(d.Name)
}

func (t *transcript) toolEnded(d errand.ToolEnded) {
	t.status.Set("")
	if quiet(d.Name) && !d.IsError {
		return
	}
	output := strings.Trim(printable(d.Output), "\n")
	if !t.whole {
		output = cutLines(output, 4, 4)
	}
	t.block(output)
	end := milliseconds(d.DurationMs)
	if d.IsError {
		end = t.style.red("error") + " " + end
	}
	t.note(t.style.dim("└ ") + end)
}

func (t *transcript) plan(d errand.PlanData) {
	for _, item := range d.Items {
		switch item.Status {
		case "done":
			t.note(t.style.green("☑ ") + t.style.dim(clip(item.Text, 110)))
		case "in_progress":
			t.note(t.style.yellow("▣ ") + clip(item.Text, 110))
		default:
			t.note("☐ " + clip(item.Text, 110))
		}
	}
}

// connection tells of what was refused; the rest is for --json.
func (t *transcript) connection(d errand.Connection) {
	name := d.Name
	if name == "" {
		name = d.Address
	}
	if d.Refused != "" {
		t.note(t.style.yellow(fmt.Sprintf("connection to %s:%d refused: %s", clip(name, 80), d.Port, clip(d.Refused, 160))))
	} else if t.whole {
		t.note(t.style.dim(fmt.Sprintf("connection to %s:%d, %s bytes out, %s in, %s", clip(name, 80), d.Port, count(d.Sent), count(d.Received), milliseconds(d.Ms))))
	}
}

func (t *transcript) push(d errand.PushData) {
	ref := strings.TrimPrefix(d.Ref, "refs/heads/")
	if d.Refused != "" {
		others := ""
		if d.Others > 0 {
			others = fmt.Sprintf(" and %d more", d.Others)
		}
		t.note(t.style.yellow(fmt.Sprintf("push to %s%s refused: %s", clip(ref, 80), others, clip(d.Refused, 160))))
		return
	}
	t.note(fmt.Sprintf("pushed %s %s", t.style.green(clip(ref, 80)), t.style.dim(clip(d.New, 10))))
}

// block writes output under a bar.
func (t *transcript) block(text string) {
	if text = strings.TrimRight(text, "\n"); text == "" {
		return
	}
	for line := range strings.Lines(text) {
		t.note(t.style.dim("│ " + strings.TrimRight(printable(line), "\n")))
	}
}

// toolSummary says in a line what a call does.
func toolSummary(name string, args json.RawMessage) string {
	var given map[string]any
	if json.Unmarshal(args, &given) != nil {
		return string(args)
	}
	for _, field := range []string{"command", "path", "pattern", "name", "summary", "why"} {
		if text, ok := given[field].(string); ok {
			return text
		}
	}
	switch {
	case len(given) == 0:
		return ""
	case name == "update_plan":
		return ""
	}
	text, _ := json.Marshal(given)
	return string(text)
}

// tail keeps the end of what a command prints.
type tail struct{ kept []byte }

const tailBytes = 4 << 10

func (t *tail) add(text string) {
	t.kept = append(t.kept, text...)
	if extra := len(t.kept) - 2*tailBytes; extra > 0 {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-tailBytes:]...)
	}
}

func (t *tail) text() string { return cutLines(string(t.kept), 0, 20) }

// cutLines keeps the first and the last lines of text.
func cutLines(text string, first, last int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) <= first+last+1 {
		return strings.Join(lines, "\n")
	}
	cut := fmt.Sprintf("… %s more", plural(len(lines)-first-last, "line"))
	kept := append(append([]string{}, lines[:first]...), cut)
	return strings.Join(append(kept, lines[len(lines)-last:]...), "\n")
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return count(int64(n)) + " " + word + "s"
}

func tokens(u errand.Usage) string {
	text := fmt.Sprintf("· %s tokens in, %s out", count(u.Input+u.CacheRead+u.CacheWrite), count(u.Output))
	if u.CacheRead > 0 {
		text += fmt.Sprintf(" (%s from the cache)", count(u.CacheRead))
	}
	return text
}

func by(c errand.Caller) string {
	if c.Name != "" {
		return " by " + clip(c.Name, 60)
	}
	if c.Key != "" {
		return " by key " + clip(c.Key, 60)
	}
	return ""
}

// usageOf turns the wire's counts back.
func usageOf(u *api.Usage) errand.Usage {
	if u == nil {
		return errand.Usage{}
	}
	return errand.Usage{Input: u.InputTokens, Output: u.OutputTokens, CacheRead: u.CacheReadTokens, CacheWrite: u.CacheWriteTokens}
}
