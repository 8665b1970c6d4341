package dockerfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// A variable that is made of itself twice is twice as long on each line, and what
// is replaced in one is as much work as both are long. So a word is weighed before
// it is filled in, and a file has a weight that it may use up.

const (
	// maxWeight is what the words of a file may weigh: about the bytes that they
	// become, or the steps of looking for a pattern in them.
	maxWeight = 4 << 20
	// maxInstructions is how many instructions a file may have, with those that its
	// ONBUILD add to later stages.
	maxInstructions = 5_000
)

var errHeavy = errors.New("its variables become too long when they are filled in: shorten their values, or name them less often")

// values are variables as BuildKit's lexer asks for them.
type values map[string]string

func (v values) Get(name string) (string, bool) {
	value, ok := v[shell.NormalizeEnvKey(name)]
	return value, ok
}

func (v values) Keys() []string { return slices.Sorted(maps.Keys(v)) }

func (v values) set(name, value string) { v[shell.NormalizeEnvKey(name)] = value }

// length gives the bytes of all of them.
func (v values) length() int {
	n := 0
	for name, value := range v {
		n += len(name) + len(value)
	}
	return n
}

// weigh gives at least what filling word in takes. What stands in a form that
// looks for a pattern counts once for each byte of the variable, as each may be
// replaced. A quoted bracket ends no form: where there may be one, none is taken
// to end.
func (v values) weigh(word string) int {
	plain := !strings.ContainsAny(word, "\\`'\"")
	weight, times := 0, []int{1}
	add := func(n int) {
		weight = min(weight+min(n, maxWeight)*times[len(times)-1], 2*maxWeight)
	}
	for i := 0; i < len(word); {
		switch {
		case word[i] == '$' && strings.HasPrefix(word[i:], "${"):
			name := nameIn(word[i+2:])
			i += 2 + len(name)
			value, _ := v.Get(name)
			add(len(value))
			inside := times[len(times)-1]
			if i < len(word) && strings.IndexByte("/#%", word[i]) >= 0 {
				inside = min(inside*(len(value)+1), 2*maxWeight)
			}
			times = append(times, inside)
		case word[i] == '$':
			name := nameIn(word[i+1:])
			i += 1 + len(name)
			value, _ := v.Get(name)
			add(len(value))
		case word[i] == '}' && plain && len(times) > 1:
			times = times[:len(times)-1]
			i++
		default:
			i++
			add(1)
		}
	}
	return weight
}

// nameIn gives the name of a variable that text begins with, as the lexer reads
// one.
func nameIn(text string) string {
	digits := false
	for i, c := range text {
		switch {
		case i == 0 && strings.ContainsRune("@*#?-$!", c):
			return text[:1]
		case i == 0:
			digits = unicode.IsDigit(c)
		}
		if digits && !unicode.IsDigit(c) || !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '_' {
			return text[:i]
		}
	}
	return text
}

// spend takes off what the file may still weigh.
func (r *reader) spend(weight int) error {
	if r.weight += weight; r.weight > maxWeight {
		return errHeavy
	}
	return nil
}

// fill puts variables into word. What cannot be read stays.
func (r *reader) fill(word string, env values) (string, error) {
	if err := r.spend(env.weigh(word)); err != nil {
		return "", err
	}
	filled, _, err := r.lex.ProcessWord(word, env)
	if err != nil {
		return word, nil
	}
	return filled, nil
}

// count holds that a file has not too many instructions.
func (r *reader) count() error {
	if r.instructions++; r.instructions > maxInstructions {
		return fmt.Errorf("the file has more than %d instructions, counted with those of ONBUILD: move some into scripts or a base image", maxInstructions)
	}
	return nil
}

// variables gives a stage what its base has.
func (r *reader) variables(base int) (values, error) {
	env := values{}
	if base < 0 {
		return env, nil
	}
	if err := r.spend(r.envs[base].length()); err != nil {
		return nil, err
	}
	maps.Copy(env, r.envs[base])
	return env, nil
}

// define notes the variables that an instruction sets in a stage, and weighs all
// other words that are filled in when the file is linted.
func (r *reader) define(env values, c instructions.Command) error {
	switch c := c.(type) {
	case *instructions.EnvCommand:
		// All of its words are filled in before one is set.
		if err := c.Expand(func(word string) (string, error) { return r.fill(word, env) }); err != nil {
			return err
		}
		for _, pair := range c.Env {
			env.set(pair.Key, pair.Value)
		}
	case *instructions.ArgCommand:
		for _, arg := range c.Args {
			value, ok := r.args[arg.Key]
			if global, has := r.globals[shell.NormalizeEnvKey(arg.Key)]; !ok && arg.Value == nil {
				value, ok = global, has
			} else if !ok {
				var err error
				if value, err = r.fill(*arg.Value, env); err != nil {
					return err
				}
				ok = true
			}
			if ok {
				env.set(arg.Key, value)
			}
		}
	default:
		r.file.lint = min(r.file.lint+env.lintWeight(c), 2*maxWeight)
	}
	return nil
}

// lintWeight gives at least what the linter fills in for an instruction: its
// words, and the line that it has in the image's history.
func (v values) lintWeight(c instructions.Command) int {
	weight := 0
	take := func(word string) (string, error) {
		weight = min(weight+v.weigh(word), 2*maxWeight)
		return word, nil
	}
	if words, ok := c.(instructions.SupportsSingleWordExpansion); ok {
		_ = words.Expand(take) // what cannot be read is the linter's to say
	}
	if words, ok := c.(instructions.SupportsSingleWordExpansionRaw); ok {
		_ = words.ExpandRaw(take)
	}
	if text, ok := c.(fmt.Stringer); ok {
		_, _ = take(text.String())
	}
	if _, ok := c.(*instructions.RunCommand); ok {
		weight += v.length()
	}
	return weight
}
