// Package loop is an agent at work: it asks the model, runs the tools that the
// model calls, and goes on until there is nothing left to do.
//
// Three ideas carry it. The conversation is a fold over the journal: what a
// request tells the model is built from recorded events alone, so a run that
// was killed anywhere goes on where its journal ends. A tool call is recorded
// before it is made, under an id that the machine knows it by, and its result
// is recorded before the machine may forget it; so it happens once. And a
// conversation that outgrows the model's window is replaced by the model's own
// summary of it, which is an event like any other.
//
// The package makes no machine, opens no journal and stops no process: when its
// context ends it returns, and what still runs in the machine is the caller's.
package loop

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/tool"
)

const (
	// DefaultMaxTurns is how many turns a run may take.
	DefaultMaxTurns = 200

	maxEmpty     = 3 // empty answers in a row
	maxCut       = 5 // answers in a row that reached the output bound
	maxRepeats   = 5 // times in a row that the same call fails in the same way
	nudgeRepeats = 3 // of these after which the model is told
	maxOutput    = 32_000
)

const repeatNote = "This is the third time that this very call failed in this very way. Do something else."

// Options are for Run. Those without a default named are needed.
type Options struct {
	Run       errand.RunID
	Model     llm.Model
	ModelName string            // for people
	Entry     llm.Entry         // the model's window and output bound; zero is a cautious guess
	Params    map[string]string // the agent's model parameters; may be nil
	Key       string            // names the conversation to the provider; "" is the run's id
	Tools     *tool.Set
	Boot      string // the machine's life that Tools work in
	System    string // rules and role, from System
	// Events are the agent's journal so far, from the first one on, those of
	// this run included.
	Events []errand.Event
	// Record appends facts to the journal as events of the run, in one
	// transaction, and returns them as they were written. The model is told what
	// was written, so what the journal's redactor took out it never sees, but for
	// its own thinking where that is signed. Record is called from one goroutine
	// at a time.
	Record   func(ctx context.Context, facts ...errand.Fact) ([]errand.Event, error)
	MaxTurns int // 0 is DefaultMaxTurns
	// Ready gives why no request may be made now that no event tells of beforehand,
	// with which Run then ends; nil is that one always may.
	Ready func(context.Context) error
	// Retry says how failed requests are repeated. Its OnRetry is not used.
	Retry llm.RetryOptions
	Log   *slog.Logger // nil is none
}

// Outcome is how a run ended, or where it stood when it could not go on.
type Outcome struct {
	Result   string // the agent's last words
	Finished bool   // they came through the finish tool
	Usage    errand.Usage
}

// Run works until the run is done. It may be called again after any end of the
// process or of ctx, with the events of then, and goes on.
//
// When ctx ends its cause is returned. Errors that a person has to act on are
// *errand.Error; the Outcome then holds what was used so far. An error that
// wraps guest.ErrRebooted says that the machine was restarted: call Run again
// with tools on a new line. Calls that were under way are then not repeated, and
// the model is told that nobody knows how they ended.
func Run(ctx context.Context, o Options) (Outcome, error) {
	r := newRun(o)
	err := r.work(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	c := r.fold.conversation()
	return Outcome{Result: c.Result, Finished: c.Finished, Usage: c.Usage}, err
}

// run is one Run under way.
type run struct {
	o     Options
	fold  *folder
	tools []llm.Tool
	fixed int64 // bytes in front of every conversation
}

func newRun(o Options) *run {
	o.MaxTurns = cmp.Or(o.MaxTurns, DefaultMaxTurns)
	o.ModelName = cmp.Or(o.ModelName, o.Entry.DisplayName, o.Entry.ID, "the model")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	r := &run{o: o, fold: newFolder(o.Run), tools: o.Tools.Tools(), fixed: int64(len(o.System))}
	for _, t := range r.tools {
		r.fixed += int64(len(t.Name) + len(t.Description) + len(t.Schema))
	}
	for _, e := range o.Events {
		r.fold.add(e)
	}
	r.fold.settle() // no answer is under way any more
	return r
}

// work is the loop. Each round does the one thing that comes next according to
// the journal.
func (r *run) work(ctx context.Context) error {
	r.fold.enter(r.o.Run)
	for _, op := range r.fold.ended {
		r.forget(ctx, op) // a kill may have come between the record and this
	}
	for ctx.Err() == nil {
		c := r.fold.conversation()
		var err error
		switch {
		case len(c.Pending) > 0:
			err = r.call(ctx, c.Pending[0])
		case c.Refused:
			return errand.Errorf(errand.Invalid, "model_refused", "%s declined to answer. Word the prompt differently in a follow-up, or choose another model.", r.o.ModelName)
		case c.Done:
			return nil
		case r.lost(c) != nil:
			return r.lost(c)
		case c.compactable() && c.used(r.fixed) > threshold(int64(r.o.Entry.Window), r.outputBound()):
			err = r.compact(ctx, c)
		default:
			err = r.turn(ctx, c)
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// lost says why going on leads nowhere, nil if it may lead somewhere.
func (r *run) lost(c Conversation) error {
	switch {
	case c.Repeats >= maxRepeats:
		return errand.Errorf(errand.Conflict, "model_stuck", "%s made the same failing tool call %d times in a row. Send a follow-up that says how to go on, or choose another model.", r.o.ModelName, c.Repeats)
	case c.Empty >= maxEmpty:
		return errand.Errorf(errand.Unavailable, "model_empty", "%s gave %d empty answers in a row. Send a follow-up to try again, or choose another model.", r.o.ModelName, c.Empty)
	case c.Cut >= maxCut:
		return errand.Errorf(errand.Conflict, "model_cut", "%s reached its output limit %d times in a row. Ask for less at once in a follow-up, or choose a model with a larger limit.", r.o.ModelName, c.Cut)
	case c.Turn >= r.o.MaxTurns && !c.Open:
		return errand.Errorf(errand.Limited, "turn_limit", "The run took %d turns without ending, which is the limit. Look at what it did; a follow-up lets it go on.", c.Turn)
	}
	return nil
}

// outputBound is how many tokens an answer may have, 0 if nothing is known.
func (r *run) outputBound() int64 { return int64(min(r.o.Entry.MaxOutput, maxOutput)) }

// record appends facts and takes them into the conversation as written.
func (r *run) record(ctx context.Context, facts ...errand.Fact) error {
	events, err := r.o.Record(ctx, facts...)
	if err != nil {
		return fmt.Errorf("recording %s: %w", facts[0].Kind, err)
	}
	for _, e := range events {
		r.fold.add(e)
	}
	return nil
}

// call does one tool call, or asks for its result if it was made before.
func (r *run) call(ctx context.Context, c Call) error {
	if !c.Recorded {
		if err := r.record(ctx, errand.Fact{Kind: errand.EventToolCalled, Data: errand.ToolCalled{
			Turn: c.Turn, Call: c.ID, Op: c.Op, Name: c.Name, Args: c.Args, Boot: r.o.Boot,
		}}); err != nil {
			return err
		}
	}
	began := time.Now()
	result, err := r.result(ctx, c)
	if err != nil {
		return err
	}
	ended := errand.ToolEnded{
		Turn: c.Turn, Call: c.ID, Op: c.Op, Name: c.Name, Output: result.Output, IsError: result.IsError,
		DurationMs: time.Since(began).Milliseconds(), Images: result.Images,
	}
	if result.Structured != nil {
		if ended.Result, err = json.Marshal(result.Structured); err != nil {
			return fmt.Errorf("encoding the result of %s: %w", c.Name, err)
		}
	}
	facts := []errand.Fact{{Kind: errand.EventToolEnded, Data: ended}}
	if result.Plan != nil {
		facts = append(facts, errand.Fact{Kind: errand.EventPlan, Data: *result.Plan})
	}
	// What happened is recorded, whoever has cancelled meanwhile.
	if err := r.record(context.WithoutCancel(ctx), facts...); err != nil {
		return err
	}
	r.forget(ctx, c.Op)
	return nil
}

// result makes a call with the arguments that the model gave. After a restart
// only the journal's are left: with a gap where a secret was they say something
// else, and are not carried out.
func (r *run) result(ctx context.Context, c Call) (tool.Result, error) {
	args := c.Args
	said := slices.IndexFunc(r.fold.said, func(b llm.Block) bool { return b.Type == llm.ToolCall && b.Call == c.ID })
	if said >= 0 {
		args = r.fold.said[said].Args
	} else if bytes.Contains(args, []byte(secret.Redacted)) {
		return tool.Result{IsError: true, Output: "The server was restarted during this call and does not keep the secret value in its arguments. " +
			"Whether the call was carried out is unknown: look first, then make it again, with the variable's name in place of its value where that is possible."}, nil
	}
	return r.o.Tools.Call(ctx, tool.Call{Op: c.Op, Name: c.Name, Args: args, Boot: c.Boot})
}

// forget lets the machine drop a call. Failing costs it a little memory.
func (r *run) forget(ctx context.Context, op string) {
	if err := r.o.Tools.Forget(ctx, op); err != nil && ctx.Err() == nil {
		r.o.Log.Debug("forgetting a tool call", "op", op, "err", err)
	}
}
