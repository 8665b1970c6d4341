package scripted

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

// ask is a request in the form that all dialects share.
type ask struct {
	dialect  llm.Dialect
	model    string
	key      string // the client's name for the conversation
	stream   bool
	counted  bool // a stream is to end with its usage (Chat asks for it)
	marked   bool // the prompt is marked for caching (Messages)
	system   string
	tools    string // their JSON
	messages []said // sides alternate
}

// said is all that one side said before the other spoke again.
type said struct {
	Assistant bool
	Texts     []string // of the person, or of the model
	Results   []string // what tools answered
	Calls     []string // ids of tool calls (assistant)
	Answers   []string // ids of the tool calls that Results answer
	Extra     int      // bytes of what else was said: arguments, thinking
	Images    int
}

// hear adds a part of the conversation: to the last message if the same side
// goes on.
func (a *ask) hear(assistant bool) *said {
	if n := len(a.messages); n > 0 && a.messages[n-1].Assistant == assistant {
		return &a.messages[n-1]
	}
	a.messages = append(a.messages, said{Assistant: assistant})
	return &a.messages[len(a.messages)-1]
}

// whole gives all text of a message: what Expect is matched with.
func (s said) whole() string {
	return strings.Join(append(slices.Clone(s.Texts), s.Results...), "\n")
}

// last gives the text of the last message.
func (a *ask) last() string {
	if len(a.messages) == 0 {
		return ""
	}
	return a.messages[len(a.messages)-1].whole()
}

// first gives the text of the first user message and its place, -1 if there is
// none.
func (a *ask) first() (string, int) {
	for i, m := range a.messages {
		if !m.Assistant {
			return strings.Join(m.Texts, "\n"), i
		}
	}
	return "", -1
}

// fingerprint is the same for tries of the same request and differs for others,
// also for two conversations of the same words if the client tells them apart.
func (a *ask) fingerprint() string {
	h := sha256.New()
	// The fields are plain and cannot fail to encode.
	_ = json.NewEncoder(h).Encode([]any{a.dialect, a.model, a.key, a.messages})
	return hex.EncodeToString(h.Sum(nil))
}

// check refuses conversations that the real providers refuse.
func (a *ask) check() *refusal {
	if len(a.messages) == 0 {
		return invalid("messages: at least one message is required")
	}
	if a.messages[len(a.messages)-1].Assistant {
		return invalid("the last message must be the user's")
	}
	var open []string
	for _, m := range a.messages {
		if m.Assistant {
			open = m.Calls
			continue
		}
		for _, id := range m.Answers {
			if !slices.Contains(open, id) {
				return invalid("a tool result answers %q, which the message before does not call", id)
			}
		}
		for _, id := range open {
			if !slices.Contains(m.Answers, id) {
				return invalid("tool call %q has no result in the message after it", id)
			}
		}
		open = nil
	}
	return nil
}

// tokens counts a text plausibly.
func tokens(s string) int64 { return int64(len(s)+3) / 4 }

// count gives the tokens of a message.
func (s said) count() int64 {
	return 4 + tokens(s.whole()) + int64(s.Extra)/4 + 1500*int64(s.Images)
}

// usage counts what the request and its answer would cost. The part of the
// conversation that the request before this one had is taken to be cached: a
// server that keeps nothing can tell that from the conversation alone.
func (a *ask) usage(output int64) errand.Usage {
	fixed := tokens(a.system) + tokens(a.tools)
	total, known := fixed, int64(0)
	for _, m := range a.messages {
		if m.Assistant {
			known = total
		}
		total += m.count()
	}
	u := errand.Usage{Input: total - known, Output: output, CacheRead: known}
	if a.dialect != llm.Messages {
		return u
	}
	if !a.marked {
		return errand.Usage{Input: total, Output: output}
	}
	rest := min(u.Input, 3)
	return errand.Usage{Input: rest, Output: output, CacheRead: known, CacheWrite: u.Input - rest}
}

// refusal is an answer with an HTTP error in the provider's form.
type refusal struct {
	status  int
	kind    string // the provider's type or code; "" goes by the status
	message string
	outcome string // for the record
}

func (r *refusal) Error() string { return r.message }

// invalid is the refusal of a request that no provider would take.
func invalid(format string, args ...any) *refusal {
	return &refusal{status: 400, message: fmt.Sprintf(format, args...), outcome: "invalid"}
}

// mismatch is the refusal of a request that the script did not foresee.
func mismatch(format string, args ...any) *refusal {
	return &refusal{status: 400, message: "scripted mismatch: " + fmt.Sprintf(format, args...), outcome: "mismatch"}
}
