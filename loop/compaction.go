package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

const (
	// keepBytes bounds the newest messages that stay word for word beside a
	// summary.
	keepBytes = 24 << 10
	// bytesPerToken is low on purpose: code and JSON take more tokens than
	// prose, and to compact early is better than to be refused.
	bytesPerToken = 3
	// imageBytes stands for a picture, about 1,600 tokens wherever it is counted.
	imageBytes = 1600 * bytesPerToken
	// defaultWindow is taken for a model whose window is not known.
	defaultWindow = 128_000
	// windowShare of the window may be used before the conversation is compacted.
	windowShare = 0.8
)

// summaryHead stands before a summary in the conversation.
const summaryHead = "You have worked on this already. The conversation grew too long to keep, so here is your own summary of all that came before. What it says was done is done and stands in the machine; go on from there.\n\n"

// size is what a block weighs in the model's window, in bytes.
func size(b llm.Block) int64 {
	return int64(len(b.Text)+len(b.Args)+len(b.Raw)) + int64(len(b.Images))*imageBytes
}

func messageSize(m llm.Message) (n int64) {
	for _, b := range m.Blocks {
		n += size(b)
	}
	return n
}

// compacted replaces the conversation by the prompt that is being worked on, the
// summary, and the newest turns as far as they are small.
func (f *folder) compacted(d errand.Compacted) {
	f.c.Usage = f.c.Usage.Add(d.Usage)
	first := slices.Clone(f.prompt)
	first = append(first, llm.Block{Type: llm.Text, Text: summaryHead + d.Summary})
	messages := []llm.Message{{Role: llm.User, Blocks: first}}
	messages = append(messages, newest(f.c.Messages[f.began+1:])...)
	f.c.Messages, f.began, f.noted = messages, 0, false
	f.c.Tokens, f.c.Fresh, f.c.Compacted = 0, 0, true
	for _, m := range messages {
		f.c.Fresh += messageSize(m)
	}
}

// newest gives the last turns that fit into keepBytes. It begins with an answer,
// so that no result stands without its call, and is empty if the last turn alone
// is too large.
func newest(messages []llm.Message) []llm.Message {
	from, used := len(messages), int64(0)
	for i := len(messages) - 1; i >= 0; i-- {
		used += messageSize(messages[i])
		if used > keepBytes {
			break
		}
		if messages[i].Role == llm.Assistant {
			from = i
		}
	}
	return messages[from:]
}

// threshold is the number of tokens from which on the conversation is compacted:
// a share of the window, and room for an answer.
func threshold(window, maxOutput int64) int64 {
	if window <= 0 {
		window = defaultWindow
	}
	limit := int64(windowShare * float64(window))
	if room := window - maxOutput; maxOutput > 0 && room > window/4 && room < limit {
		limit = room
	}
	return limit
}

// used estimates how much of the window the next request takes. fixed is the
// size in bytes of what stands before the messages: rules and tools.
func (c *Conversation) used(fixed int64) int64 {
	if c.Tokens > 0 {
		return c.Tokens + c.Fresh/bytesPerToken
	}
	return (fixed + c.Fresh) / bytesPerToken
}

// compactable says whether a summary could make the conversation shorter.
func (c *Conversation) compactable() bool { return !c.Compacted && len(c.Messages) > 1 }

const (
	// maxSummary bounds a summary, in bytes.
	maxSummary = 48 << 10
	// summaryOutput bounds it in tokens when it is first asked for; thinking
	// counts too. Each time that it was cut there is twice as much room.
	summaryOutput = 8 << 10
	// summaryTries is how often a summary is asked for where the answer is none.
	summaryTries = 3
)

const summaryRequest = `The conversation has grown too long and will be replaced by a summary that you write now. Do not call a tool; answer with the summary alone. You will go on working from it without seeing anything else of what came before, so put in all that the rest of the work needs:

1. Every request of the person, as literally as possible, with all conditions and wishes, and which of them are fulfilled.
2. The state of the work: what is done, what is under way, what comes next.
3. Files that were read or changed that still matter, with their paths, and what is essential in them: names, signatures, decisions.
4. Commands that matter (build, test, run), what they showed, and terminals that run.
5. What was tried and failed, and why; errors that are still open, in their own words.

Be exact with names, paths and numbers. Leave out what no longer matters.`

// What the model is told when its answer was not a summary.
const (
	notSummary = "Your last answer to this was not a summary: it went on with the work. No tool is run now. Answer with the summary in plain text and nothing else."
	cutSummary = "Your last answer to this was cut because it reached the output limit, and a summary without its end is of no use. Write a shorter one."
	noSummary  = "Your last answer to this was no summary. Answer with the summary in plain text and nothing else."
)

// unusable says what is wrong with an answer as a summary, "" if nothing is. It
// replaces everything before it for good, so only a whole one will do.
func unusable(resp *llm.Response) string {
	calls := slices.ContainsFunc(resp.Blocks, func(b llm.Block) bool { return b.Type == llm.ToolCall })
	switch {
	case resp.Stop == llm.StopLength:
		return cutSummary
	case calls || resp.Stop == llm.StopTools:
		return notSummary
	case resp.Stop != llm.StopEnd || textOf(resp.Blocks) == "":
		return noSummary
	}
	return ""
}

// compact asks for a summary of the conversation and records it. Where the
// conversation is too long even for that, it is asked about less and less of it.
func (r *run) compact(ctx context.Context, c Conversation) error {
	if r.o.Ready != nil {
		if err := r.o.Ready(ctx); err != nil {
			return err
		}
	}
	var used errand.Usage
	ask, room, tries := summaryRequest, summaryOutput, 0
	for level := 0; level < shrinkLevels; {
		model := &counted{Model: r.o.Model}
		resp, err := llm.Do(ctx, model, r.summaryQuestion(c, level, ask, room), nil, r.summaryRetry(ctx))
		var refused *llm.Error
		if errors.As(err, &refused) && refused.Cause == llm.TooLong {
			level++
			continue
		}
		if err != nil {
			return r.explain(err, model.tries)
		}
		used = used.Add(resp.Usage)
		wrong := unusable(resp)
		if wrong == "" {
			return r.record(context.WithoutCancel(ctx), errand.Fact{Kind: errand.EventCompacted, Data: errand.Compacted{
				Turn: c.Turn + 1, Summary: clip(textOf(resp.Blocks), maxSummary), TokensBefore: c.used(r.fixed), Usage: used,
			}})
		}
		if tries++; tries == summaryTries {
			break
		}
		ask = summaryRequest + "\n\n" + wrong
		if resp.Stop == llm.StopLength {
			room = min(2*room, maxOutput)
		}
	}
	return errand.Errorf(errand.Unavailable, "context_too_long", "The conversation no longer fits into the window of %s, and the model gave no usable summary of it. Start a new agent on the branch, or choose a model with a larger window.", r.o.ModelName)
}

// counted is a model that counts how often it is asked.
type counted struct {
	llm.Model
	tries int
}

func (m *counted) Do(ctx context.Context, req *llm.Request, emit func(llm.Delta)) (*llm.Response, error) {
	m.tries++
	return m.Model.Do(ctx, req, emit)
}

// summaryQuestion asks for a summary in the words of ask, of at most room tokens.
func (r *run) summaryQuestion(c Conversation, level int, ask string, room int) *llm.Request {
	req := r.request(c)
	req.MaxOutput = room
	req.Messages = shrink(c.Messages, level)
	said := llm.Block{Type: llm.Text, Text: ask}
	last := &req.Messages[len(req.Messages)-1]
	if last.Role != llm.User {
		req.Messages = append(req.Messages, llm.Message{Role: llm.User, Blocks: []llm.Block{said}})
		return req
	}
	last.Blocks = append(slices.Clone(last.Blocks), said)
	return req
}

// summaryRetry tells of retries by a notice: no turn is under way that they
// could belong to.
func (r *run) summaryRetry(ctx context.Context) llm.RetryOptions {
	opts := r.o.Retry
	opts.OnRetry = func(attempt int, err error, wait time.Duration) {
		text := fmt.Sprintf("Summarizing the conversation failed (%v); trying again in %s.", err, wait.Round(100*time.Millisecond))
		if err := r.record(ctx, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Level: "warning", Text: text}}); err != nil {
			r.o.Log.Warn("recording a notice", "err", err)
		}
	}
	return opts
}

// shrinkLevels is the number of ways in which shrink makes a conversation
// smaller, the first being not at all.
const shrinkLevels = 4

// shrink gives a copy of the messages that is smaller the higher the level is:
// long results and arguments are cut, then the older half of the turns is left
// out too.
func shrink(messages []llm.Message, level int) []llm.Message {
	bound := [shrinkLevels]int{0, 2000, 300, 300}[level]
	messages = slices.Clone(messages)
	if bound == 0 {
		return messages
	}
	if level == shrinkLevels-1 {
		messages = withoutOlder(messages)
	}
	for i, m := range messages {
		blocks := slices.DeleteFunc(slices.Clone(m.Blocks), func(b llm.Block) bool {
			return b.Type == llm.Image || b.Type == llm.Thinking && b.Raw == nil
		})
		for j := range blocks {
			blocks[j] = shrinkBlock(blocks[j], bound)
		}
		messages[i].Blocks = blocks
	}
	return messages
}

func shrinkBlock(b llm.Block, bound int) llm.Block {
	switch b.Type {
	case llm.ToolResult:
		b.Text, b.Images = clip(b.Text, bound), nil
	case llm.ToolCall:
		if len(b.Args) > bound {
			// Raw holds the arguments a second time; a provider that wants it back
			// takes a call without it too.
			b.Args, b.Raw, b.Dialect = []byte(`{"left_out":"long arguments"}`), nil, ""
		}
	case llm.Text:
		b.Text = clip(b.Text, 8*bound)
	}
	return b
}

// withoutOlder leaves out the older half of the turns, the first message
// excepted.
func withoutOlder(messages []llm.Message) []llm.Message {
	for i := len(messages) / 2; i < len(messages); i++ {
		if messages[i].Role == llm.Assistant && i > 1 {
			first := messages[0]
			first.Blocks = append(slices.Clone(first.Blocks), llm.Block{Type: llm.Text, Text: "(A part of the conversation is left out here.)"})
			return append([]llm.Message{first}, messages[i:]...)
		}
	}
	return messages
}

// clip shortens s to about n bytes, taking out its middle.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n/2], "") + fmt.Sprintf("\n[… %d bytes left out …]\n", len(s)-n) + strings.ToValidUTF8(s[len(s)-n/2:], "")
}

// textOf gives the words of an answer.
func textOf(blocks []llm.Block) string {
	var words []string
	for _, b := range blocks {
		if t := strings.TrimSpace(b.Text); b.Type == llm.Text && t != "" {
			words = append(words, t)
		}
	}
	return strings.Join(words, "\n\n")
}
