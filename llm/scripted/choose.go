package scripted

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// choice is the turn that a request gets, and where it stands in the script.
type choice struct {
	start  start
	number int // of the turn, from 1
	turn   *Turn
	caught map[string]string // by name and by number, for the turn's templates
}

// choose finds the turn for a request. It looks at nothing but the request: the
// conversation by its first prompt, the start by the latest prompt that one
// matches, the turn by the number of answers since. So it gives the same turn
// to every try, to any number of conversations at once and across restarts.
func (s *Script) choose(a *ask) (*choice, *refusal) {
	prompt, at := a.first()
	index := -1
	for i, c := range s.Conversations {
		if c.Match.matches(prompt) && c.System.matches(a.system) && c.Model.matches(a.model) {
			index = i
			break
		}
	}
	if at < 0 || index < 0 {
		return nil, mismatch("no conversation is for model %q and a first prompt of %s", a.model, quote(prompt))
	}
	starts := s.Conversations[index].starts(index)
	current, heard := starts[0], prompt
	used := make([]bool, len(starts))
	for i := at; i < len(a.messages); i++ {
		if a.messages[i].Assistant {
			continue
		}
		for n, text := range a.messages[i].Texts {
			if i == at && n == 0 {
				continue
			}
			if f := followUp(starts, used, text); f > 0 {
				used[f] = true
				current, at, heard = starts[f], i, text
			}
		}
	}
	return current.pick(a, at, heard)
}

// followUp gives the index of the start that a later prompt leads to: the first
// unused one that matches, else the last that does, 0 if none does.
func followUp(starts []start, used []bool, text string) int {
	found := 0
	for i := 1; i < len(starts); i++ {
		if !starts[i].match.matches(text) {
			continue
		}
		if !used[i] {
			return i
		}
		found = i
	}
	return found
}

// pick gives the turn of a start that began at message at with prompt heard.
func (st start) pick(a *ask, at int, heard string) (*choice, *refusal) {
	n := 0
	for _, m := range a.messages[at:] {
		if m.Assistant {
			n++
		}
	}
	turn := n
	if turn >= len(st.turns) {
		if !st.repeat {
			return nil, mismatch("%s has %d turns and is asked for turn %d; the last message is %s", st.name, len(st.turns), n+1, quote(a.last()))
		}
		turn = len(st.turns) - 1
	}
	c := &choice{start: st, number: n + 1, turn: st.turns[turn], caught: map[string]string{}}
	st.match.catch(heard, c.caught)
	last := a.last()
	for _, want := range []struct {
		what    string
		pattern Pattern
		got     string
	}{
		{"the last message", c.turn.Expect, last},
		{"the rules", c.turn.ExpectSystem, a.system},
		{"the tools", c.turn.ExpectTools, a.tools},
	} {
		if !want.pattern.matches(want.got) {
			return nil, mismatch("turn %d of %s expects %s to match %q, but got %s", n+1, st.name, want.what, want.pattern.String(), quote(want.got))
		}
	}
	c.turn.Expect.catch(last, c.caught)
	return c, nil
}

// catch adds what the pattern's groups match in text.
func (p Pattern) catch(text string, caught map[string]string) {
	if p.re == nil {
		return
	}
	groups := p.re.FindStringSubmatch(text)
	for i, name := range p.re.SubexpNames() {
		if i >= len(groups) {
			break
		}
		caught[fmt.Sprint(i)] = groups[i]
		if name != "" {
			caught[name] = groups[i]
		}
	}
}

var placeholder = regexp.MustCompile(`\{\{(\w+)\}\}`)

// fill puts what was caught into a text. Names that nothing caught stay.
func (c *choice) fill(text string, write func(string) string) string {
	return placeholder.ReplaceAllStringFunc(text, func(s string) string {
		value, ok := c.caught[strings.Trim(s, "{}")]
		if !ok {
			return s
		}
		return write(value)
	})
}

// plain writes a value into a text.
func plain(s string) string { return s }

// inString writes a value into a string of a JSON text.
func inString(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(quoted[1 : len(quoted)-1])
}

// fault gives what goes wrong on a try (from 0), or nil.
func (t *Turn) fault(try int) *Fault {
	for i := range t.Faults {
		f := &t.Faults[i]
		if f.Times == 0 || try < f.Times {
			return f
		}
		try -= f.Times
	}
	return nil
}

// quote shows a text within bounds: its beginning and its end.
func quote(s string) string {
	const most = 600
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most/2], "") + " … " + strings.ToValidUTF8(s[len(s)-most/2:], "")
	}
	return fmt.Sprintf("%q", s)
}
