package scripted

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tailscale/hujson"

	"github.com/errand-dev/errand"
)

// Script is what a scripted model says. Its written form is JSON with comments
// and trailing commas; docs/scripted-model.md explains it with examples.
type Script struct {
	// Key, if set, is the only key that is let in; "" takes any that is not empty.
	Key string `json:"key,omitempty"`
	// Models are the names that are served; none serves every name.
	Models []string `json:"models,omitempty"`
	// Conversations are tried in order; the first that fits a request is taken.
	Conversations []*Conversation `json:"conversations"`
}

// Conversation is what is said to one kind of first prompt. Patterns are
// regular expressions that must match somewhere; an empty one matches anything.
type Conversation struct {
	Name   string  `json:"name,omitempty"`  // for errors and records; "" is its number
	Match  Pattern `json:"match,omitzero"`  // on the text of the first user message
	System Pattern `json:"system,omitzero"` // on the rules
	Model  Pattern `json:"model,omitzero"`  // on the model's name
	Turns  []*Turn `json:"turns"`
	// FollowUps take over when a later user message matches. Each is used once,
	// in order; when all that match were used, the last of them is used again.
	FollowUps []*FollowUp `json:"followUps,omitempty"`
	// Repeat gives the last turn for ever instead of refusing once all are used.
	Repeat bool `json:"repeat,omitempty"`
}

// FollowUp is what is said to a later prompt of the same conversation.
type FollowUp struct {
	Name   string  `json:"name,omitempty"`
	Match  Pattern `json:"match,omitzero"` // on the text of a later user message
	Turns  []*Turn `json:"turns"`
	Repeat bool    `json:"repeat,omitempty"`
}

// Turn is one answer.
type Turn struct {
	// Expect, ExpectSystem and ExpectTools must match the last message (texts and
	// tool results), the rules, and the tools (their JSON); else the request is
	// refused with what was expected and what came.
	Expect       Pattern `json:"expect,omitzero"`
	ExpectSystem Pattern `json:"expectSystem,omitzero"`
	ExpectTools  Pattern `json:"expectTools,omitzero"`

	Thinking string `json:"thinking,omitempty"`
	Text     string `json:"text,omitempty"`
	Calls    []Call `json:"calls,omitempty"`
	// Stop is "" (by what the answer holds), "length" or "refusal". With
	// "length" the last call, or else the text, is cut in the middle.
	Stop string `json:"stop,omitempty"`
	// Usage is counted from the bytes when left out.
	Usage *Usage `json:"usage,omitempty"`

	Delay Duration `json:"delay,omitzero"`  // before the first byte of each try
	Pause Duration `json:"pause,omitzero"`  // between pieces of a stream
	Chunk int      `json:"chunk,omitempty"` // characters of a piece; 0 is 24
	// Faults happen before the turn is given: each as often as its Times says.
	Faults []Fault `json:"faults,omitempty"`
}

// Call is a tool call. In the strings of Args (and in a turn's texts) {{name}}
// and {{1}} stand for what groups of Expect, or else of the prompt's Match,
// caught.
type Call struct {
	ID   string          `json:"id,omitempty"` // "" makes one that stays the same for the same request
	Name string          `json:"name"`
	Args json.RawMessage `json:"args,omitempty"` // an object; nothing is {}
}

// Usage is a turn's usage in tokens; the counts do not overlap.
type Usage struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	CacheRead  int64 `json:"cacheRead"`
	CacheWrite int64 `json:"cacheWrite"`
}

// Fault is a failure in place of an answer, or in the middle of one. Exactly one
// of Status, Error, Cut, Stall, Garbage and Drop says which.
type Fault struct {
	// Times is how many tries fail so; 0 is all. Tries of the same request are
	// counted together, those of other requests are not.
	Times int `json:"times,omitempty"`

	Status  int               `json:"status,omitempty"`  // an HTTP error
	Type    string            `json:"type,omitempty"`    // with Status: the provider's error type; "" goes by the status
	Message string            `json:"message,omitempty"` // with Status or Error
	Body    string            `json:"body,omitempty"`    // with Status: this instead of the provider's form
	Headers map[string]string `json:"headers,omitempty"` // with Status or Garbage: "Retry-After"

	Error   string `json:"error,omitempty"`   // an error of this type inside a stream that began with 200
	Cut     *Cut   `json:"cut,omitempty"`     // the connection breaks off
	Stall   *Cut   `json:"stall,omitempty"`   // silence from there on, until the client leaves
	Garbage string `json:"garbage,omitempty"` // this with status 200 instead of an answer
	Drop    bool   `json:"drop,omitempty"`    // the connection is closed without a word
}

// Cut says where an answer ends too early: the first of those set that is
// reached. The zero value is before the first byte of the body.
type Cut struct {
	Bytes  int    `json:"bytes,omitempty"`  // after so many bytes of the body
	Events int    `json:"events,omitempty"` // after so many events
	Before string `json:"before,omitempty"` // before the first event of this type
	// Clean ends the answer as if it were whole instead of breaking the connection.
	Clean bool `json:"clean,omitempty"`
}

// Pattern is a regular expression of Go's syntax.
type Pattern struct{ re *regexp.Regexp }

// Pat returns the pattern of expr. It panics when expr is not a regular
// expression: it is for scripts that are written in Go.
func Pat(expr string) Pattern { return Pattern{regexp.MustCompile(expr)} }

// UnmarshalText compiles the pattern.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	p.re, err = regexp.Compile(string(text))
	return err
}

// MarshalText gives the pattern as it was written.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String gives the pattern as it was written.
func (p Pattern) String() string {
	if p.re == nil {
		return ""
	}
	return p.re.String()
}

// matches says whether the pattern is empty or matches s.
func (p Pattern) matches(s string) bool { return p.re == nil || p.re.MatchString(s) }

// Duration is written as Go writes it: "150ms", "2s".
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = fmt.Errorf("%s is below zero", v)
	}
	*d = Duration(v)
	return err
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Parse reads a script. What is wrong with it, an unknown field too, is an
// Invalid error that says where.
func Parse(text []byte) (*Script, error) {
	plain, err := hujson.Standardize(slices.Clone(text))
	if err != nil {
		return nil, errand.Errorf(errand.Invalid, "invalid_script", "The script is not JSON with comments: %w.", err)
	}
	var s Script
	d := json.NewDecoder(strings.NewReader(string(plain)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		line := 1 + strings.Count(string(plain[:min(int(d.InputOffset()), len(plain))]), "\n")
		return nil, errand.Errorf(errand.Invalid, "invalid_script", "The script cannot be read (near line %d): %w. docs/scripted-model.md lists its fields.", line, err)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return &s, nil
}

// Check says what makes a script unusable: an Invalid error that says where.
// Parse has called it; scripts written in Go are checked by New.
func (s *Script) Check() error {
	bad := func(where, format string, args ...any) error {
		return errand.Errorf(errand.Invalid, "invalid_script", "The script's %s %s.", where, fmt.Sprintf(format, args...))
	}
	if len(s.Conversations) == 0 {
		return bad("list of conversations", "is empty")
	}
	for i, c := range s.Conversations {
		if c == nil {
			return bad(fmt.Sprintf("conversation %d", i+1), "is null")
		}
		for _, st := range c.starts(i) {
			if len(st.turns) == 0 {
				return bad(st.name, "has no turns")
			}
			for n, t := range st.turns {
				if t == nil {
					return bad(fmt.Sprintf("turn %d of %s", n+1, st.name), "is null")
				}
				if err := t.check(); err != nil {
					return bad(fmt.Sprintf("turn %d of %s", n+1, st.name), "cannot be used: %v", err)
				}
			}
		}
	}
	return nil
}

// check says what makes a turn unusable.
func (t *Turn) check() error {
	if t.Stop != "" && t.Stop != "length" && t.Stop != "refusal" {
		return fmt.Errorf(`stop is %q; it must be "length", "refusal" or left out`, t.Stop)
	}
	endless := slices.ContainsFunc(t.Faults, func(f Fault) bool { return f.Times == 0 })
	if t.Text == "" && t.Thinking == "" && len(t.Calls) == 0 && !endless {
		return fmt.Errorf("it says nothing: give it text, thinking, calls or a fault without times")
	}
	for _, c := range t.Calls {
		if c.Name == "" {
			return fmt.Errorf("a call has no name")
		}
		var object map[string]any
		if len(c.Args) > 0 && (json.Unmarshal(c.Args, &object) != nil || object == nil) {
			return fmt.Errorf("the args of the call of %s are not a JSON object", c.Name)
		}
	}
	for i, f := range t.Faults {
		if n := f.kinds(); n != 1 {
			return fmt.Errorf("fault %d has %d of status, error, cut, stall, garbage and drop; it must have one", i+1, n)
		}
		if f.Status != 0 && (f.Status < 300 || f.Status > 599) {
			return fmt.Errorf("fault %d has status %d; it must be 300 to 599", i+1, f.Status)
		}
	}
	return nil
}

// kinds counts the failures that f names.
func (f Fault) kinds() int {
	n := 0
	for _, set := range []bool{f.Status != 0, f.Error != "", f.Cut != nil, f.Stall != nil, f.Garbage != "", f.Drop} {
		if set {
			n++
		}
	}
	return n
}

// start is where counting turns begins: a conversation, or one of its follow-ups.
type start struct {
	name   string
	match  Pattern
	turns  []*Turn
	repeat bool
}

// starts gives c's own start and those of its follow-ups, in order.
func (c *Conversation) starts(index int) []start {
	name := c.Name
	if name == "" {
		name = fmt.Sprintf("%d", index+1)
	}
	own := start{fmt.Sprintf("conversation %q", name), c.Match, c.Turns, c.Repeat}
	all := []start{own}
	for i, f := range c.FollowUps {
		label := f.Name
		if label == "" {
			label = fmt.Sprintf("%d", i+1)
		}
		all = append(all, start{fmt.Sprintf("follow-up %q of %s", label, own.name), f.Match, f.Turns, f.Repeat})
	}
	return all
}
