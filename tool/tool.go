// Package tool is what an agent can do in its machine: run commands, work on
// files, search, use terminals, keep a plan, ask for a build of its environment,
// finish.
//
// Two ideas carry it. A call is named by an operation id before it is made, and
// everything that it asks of the guest has an id derived from that one: calling
// again with the same id, by this server or by the next one after a kill, gives
// the same result and never does the work twice. And a tool's output is written
// for the model that reads it: short, complete in what matters, and where
// something went wrong a sentence that says what to do instead.
//
// It keeps nothing but the line. Recording calls and results, and deciding what
// follows from them, is package loop's.
package tool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/secret"
)

const (
	// DefaultLimit is how long a command may take if the model does not say.
	DefaultLimit = 2 * time.Minute
	// DefaultMaxLimit is the most that the model may ask for.
	DefaultMaxLimit = 30 * time.Minute
	// DefaultSpill is where the full text of what was cut is left.
	DefaultSpill = "/tmp/errand-output"
)

// Options are for New. Line is needed; what else is zero has a default.
type Options struct {
	Line *guest.Line // to the machine; New's caller closes it
	Root string      // where the work is; "" is /workspace
	User string      // who commands run as; "" is root
	Env  []string    // for commands, over the machine's own
	// Redactor takes the secrets out of what results show, before any of it is
	// cut: half a secret would pass all who look for it later. nil knows none.
	Redactor *secret.Redactor
	// ReadOnly leaves out the tools that can change anything.
	ReadOnly bool
	// Builder has builds made that the agent asks for; nil leaves that tool out.
	Builder Builder
	// Limit and MaxLimit bound a command in the foreground.
	Limit, MaxLimit time.Duration
	// Settle is how long a command typed into a terminal is watched before the
	// call returns; 0 is a second.
	Settle      time.Duration
	OutputBound int          // bytes of one result; 0 is DefaultOutputBound
	Spill       string       // directory in the machine; "" is DefaultSpill
	Log         *slog.Logger // nil is none
}

// Set is the tools of one agent's machine. It is safe for use by several
// goroutines.
type Set struct {
	o     Options
	kinds []kind

	mu    sync.Mutex
	shell string // found at the first command
}

// New makes the tools for a machine. It asks nothing of it yet.
func New(o Options) *Set {
	o.Root = cmp.Or(o.Root, "/workspace")
	o.Limit = cmp.Or(o.Limit, DefaultLimit)
	o.MaxLimit = max(cmp.Or(o.MaxLimit, DefaultMaxLimit), o.Limit)
	o.OutputBound = cmp.Or(o.OutputBound, DefaultOutputBound)
	o.Settle = cmp.Or(o.Settle, time.Second)
	o.Spill = cmp.Or(o.Spill, DefaultSpill)
	if o.Redactor == nil {
		o.Redactor = &secret.Redactor{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Set{o: o}
	for _, k := range kinds(o) {
		if k.reads || !o.ReadOnly {
			s.kinds = append(s.kinds, k)
		}
	}
	return s
}

// Tools gives the tools as the model is told of them, always in the same order.
func (s *Set) Tools() []llm.Tool {
	tools := make([]llm.Tool, len(s.kinds))
	for i, k := range s.kinds {
		tools[i] = k.Tool
	}
	return tools
}

// Call is one tool call.
type Call struct {
	// Op names the call for ever; at most 100 bytes that are fit for a file's
	// name.
	Op   string
	Name string
	Args json.RawMessage // an object, as the model sent it
	// Boot is the machine's life in which the call was first made, "" if it has
	// not been made yet.
	Boot string
	// Progress, if set, gets what a command prints as it prints it, from the
	// calling goroutine.
	Progress func(string)
}

// Result is what a call came to.
type Result struct {
	Output string // for the model
	// IsError: the call could not be done. A command that ran and failed is not
	// such an error; its exit status is in Output.
	IsError    bool
	Structured any // one of the …Result types of this package, for screens; nil if there is none
	Images     []errand.Image
	Plan       *errand.PlanData // the new plan, from update_plan
	End        *End             // from finish
	// Unknown: the machine was restarted, and nobody knows how far the call got.
	Unknown bool
}

// End is what finish was called with.
type End struct {
	Summary string `json:"summary"`
}

// Call does one call and blocks until it is done. What the model can mend (bad
// arguments, an unknown tool, a file that is not there, a command that took too
// long) is a Result with IsError. An error says that there is no result: ctx
// has ended, whose cause it then is, or the machine cannot be reached; where it
// is guest.ErrRebooted, calling again over a new line with the old Boot gives a
// Result that says so.
func (s *Set) Call(ctx context.Context, c Call) (Result, error) {
	k, ok := s.kind(c.Name)
	if !ok {
		return failed("There is no tool %q. The tools are %s.", c.Name, s.names()), nil
	}
	if c.Boot != "" && c.Boot != s.o.Line.Hello().Boot && !k.reads {
		r := failed("The machine was restarted while this ran; whether it finished is unknown. Look at the state before doing it again.")
		r.Unknown = true
		return r, nil
	}
	r, err := k.call(s, ctx, c)
	var refused *guest.Error
	var wrong misuse
	switch {
	case err == nil:
		return r, nil
	case errors.As(err, &wrong):
		return failed("%s", sentence(string(wrong))), nil
	case errors.As(err, &refused), errors.Is(err, guest.ErrNoTmux):
		return failed("%s", stopped(err.Error())), nil
	case ctx.Err() != nil:
		return Result{}, context.Cause(ctx)
	}
	return Result{}, fmt.Errorf("calling %s: %w", c.Name, err)
}

// Forget lets the machine drop what it keeps of a call. It is to be called when
// the result is on record, and not before: the call cannot be made again.
func (s *Set) Forget(ctx context.Context, op string) error {
	return s.o.Line.Forget(ctx, op, op+spillSuffix, op+draftSuffix, op+returnsSuffix)
}

// Stop ends the command that a call runs, if it runs one: SIGTERM to its
// process group. The call then returns as it would when the command ends.
func (s *Set) Stop(ctx context.Context, op string) error {
	err := s.o.Line.Signal(ctx, op, "TERM")
	if errors.Is(err, guest.ErrUnknown) || errors.Is(err, guest.ErrEnded) || errors.Is(err, guest.ErrForgotten) {
		return nil
	}
	return err
}

// Ids of what a call asks of the guest beside the thing itself.
const (
	spillSuffix   = "/output"
	draftSuffix   = "/draft"
	returnsSuffix = "/crlf"
)

func (s *Set) kind(name string) (kind, bool) {
	for _, k := range s.kinds {
		if k.Name == name {
			return k, true
		}
	}
	return kind{}, false
}

func (s *Set) names() string {
	var names []string
	for _, k := range s.kinds {
		names = append(names, k.Name)
	}
	return strings.Join(names, ", ")
}

// misuse is an error for the model: what is wrong with its call.
type misuse string

func (m misuse) Error() string { return string(m) }

func misusef(format string, args ...any) error { return misuse(fmt.Sprintf(format, args...)) }

func failed(format string, args ...any) Result {
	return Result{Output: fmt.Sprintf(format, args...), IsError: true}
}

// sentence gives a text of ours as a sentence.
func sentence(s string) string {
	if s != "" {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return stopped(s)
}

// stopped puts a full stop after a text. What is quoted below its first line
// stays as it is.
func stopped(s string) string {
	s = strings.TrimSpace(s)
	if s != "" && !strings.Contains(s, "\n") && !strings.ContainsAny(s[len(s)-1:], ".!?:") {
		s += "."
	}
	return s
}

// decodeCall reads a call's arguments; what is wrong with them is a misuse.
func decodeCall(c Call, into any, required ...string) error {
	if err := decode(c.Args, into, required...); err != nil {
		return misusef("the call of %s is wrong: %v.", c.Name, err)
	}
	return nil
}

// place splits a path as the model writes it, absolute or relative to the root,
// into what the guest wants. Within the root the root's own bounds hold; any
// other file of the machine is the agent's to see too. shown is how the model is
// told of it again.
func (s *Set) place(p string) (root, rel, shown string) {
	abs := path.Clean(p)
	if !path.IsAbs(p) {
		abs = path.Join(s.o.Root, p)
	}
	if abs == s.o.Root {
		return s.o.Root, ".", "."
	}
	if rel, ok := strings.CutPrefix(abs, strings.TrimSuffix(s.o.Root, "/")+"/"); ok {
		return s.o.Root, rel, rel
	}
	return "/", cmp.Or(strings.TrimPrefix(abs, "/"), "."), abs
}

// spill gives the path of a file of ours in the machine, relative to its root.
func (s *Set) spill(name string) string {
	return strings.TrimPrefix(path.Join(s.o.Spill, name), "/")
}

// fit takes the secrets out of output and cuts it to the bound. What is cut is
// left in a file of the machine.
func (s *Set) fit(ctx context.Context, op, output string) (string, error) {
	output = s.o.Redactor.String(output)
	if len(output) <= s.o.OutputBound {
		return output, nil
	}
	file := s.spill(op + ".txt")
	_, err := s.o.Line.WriteFile(ctx, op+spillSuffix, "/", file, []byte(output), 0)
	where := "full output in /" + file
	var refused *guest.Error
	if errors.As(err, &refused) {
		where = "keeping the full output failed: " + refused.Message
	} else if err != nil {
		return "", err
	}
	short, _ := cutMiddle(output, s.o.OutputBound, func(cut int) string {
		return fmt.Sprintf("[… %d bytes cut; %s]", cut, where)
	})
	return short, nil
}
