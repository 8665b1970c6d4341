package loop

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

// request is the question that the conversation leads to.
func (r *run) request(c Conversation) *llm.Request {
	return &llm.Request{
		System:    r.o.System,
		Tools:     r.tools,
		Messages:  c.Messages,
		MaxOutput: int(r.outputBound()),
		Params:    r.o.Params,
		Key:       cmp.Or(r.o.Key, string(r.o.Run)),
	}
}

// turn asks the model once, with repetitions, and records its answer. A
// conversation that is too long for it is compacted instead.
func (r *run) turn(ctx context.Context, c Conversation) error {
	a := &attempts{run: r, turn: c.Turn + 1}
	if c.Open {
		a.turn, a.number = c.Turn, c.Attempt
	}
	before := a.number
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.cancel = cancel
	opts := r.o.Retry
	opts.OnRetry = func(_ int, err error, wait time.Duration) { a.retried(ctx, err, wait) }
	resp, err := llm.Do(ctx, a, r.request(c), nil, opts)
	if err != nil {
		var refused *llm.Error
		if errors.As(err, &refused) && refused.Cause == llm.TooLong && c.compactable() {
			return r.compact(ctx, c)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return r.explain(err, a.number-before)
	}
	answer := resp.Message()
	message, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("encoding the model's answer: %w", err)
	}
	r.fold.said = answer.Blocks
	facts := append(a.left, errand.Fact{Kind: errand.EventTurnEnded, Data: errand.TurnEnded{
		Turn: a.turn, Attempt: a.number, Message: message, Stop: string(resp.Stop), Usage: resp.Usage,
	}})
	// The answer is paid for: it is recorded, whoever has cancelled meanwhile.
	return r.record(context.WithoutCancel(ctx), facts...)
}

// attempts is the model with each attempt told to the journal.
type attempts struct {
	run    *run
	turn   int
	number int           // of the last attempt that began
	left   []errand.Fact // text of the last one that is not recorded yet
	cancel context.CancelCauseFunc
}

// Do makes one attempt and streams it into the journal.
func (a *attempts) Do(ctx context.Context, req *llm.Request, _ func(llm.Delta)) (*llm.Response, error) {
	a.number++
	if err := a.run.record(ctx, errand.Fact{Kind: errand.EventTurnStarted, Data: errand.TurnStarted{
		Turn: a.turn, Attempt: a.number, Model: cmp.Or(a.run.o.Entry.ID, a.run.o.ModelName),
	}}); err != nil {
		return nil, err
	}
	s := newStream(a.turn, a.number, func(facts []errand.Fact) error {
		_, err := a.run.o.Record(ctx, facts...)
		if err != nil {
			err = fmt.Errorf("recording text: %w", err)
			a.cancel(err)
		}
		return err
	})
	resp, err := a.run.o.Model.Do(ctx, req, s.add)
	a.left = s.close()
	return resp, err
}

func (a *attempts) retried(ctx context.Context, err error, wait time.Duration) {
	if err := a.run.record(ctx, errand.Fact{Kind: errand.EventTurnRetried, Data: errand.TurnRetried{
		Turn: a.turn, Attempt: a.number, Reason: err.Error(), WaitMs: wait.Milliseconds(),
	}}); err != nil {
		a.cancel(err)
	}
}

// explain makes a provider's error, after so many tries, into one that says what
// to do.
func (r *run) explain(err error, tries int) error {
	var e *llm.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("asking %s: %w", r.o.ModelName, err)
	}
	name, provider := r.o.ModelName, cmp.Or(e.Provider, r.o.Entry.Provider, "the provider")
	switch e.Cause {
	case llm.Denied:
		return errand.Errorf(errand.Unavailable, "model_key_refused", "%w. The key is wrong or may not use %s: set %s to a valid key, start the server again, and send a follow-up.", err, name, keyVariable(r.o.Entry.Provider))
	case llm.NoModel:
		return errand.Errorf(errand.Invalid, "invalid_model", "%w. The provider does not know %s or your key may not use it: choose another model (errand run --model) for a new agent.", err, name)
	case llm.NoCredit:
		return errand.Errorf(errand.Unavailable, "model_no_credit", "%w. The account at %s has no credit left: add some, then send a follow-up.", err, provider)
	case llm.TooLong:
		return errand.Errorf(errand.TooLarge, "context_too_long", "%w. The prompt and what belongs to it do not fit into the window of %s: make the prompt shorter, or choose a model with a larger window.", err, name)
	case llm.RateLimited:
		return errand.Errorf(errand.Unavailable, "model_rate_limited", "%w. %s, or raise the limit at %s.", err, later(e, tries), provider)
	case llm.Overloaded, llm.Broken:
		return errand.Errorf(errand.Unavailable, "model_unavailable", "%w. %s, or choose another model.", err, later(e, tries))
	}
	return errand.Errorf(errand.Invalid, "model_rejected", "%w. The provider refused the request; check the model's parameters, or choose another model.", err)
}

// later says when a follow-up may help where a provider failed for the time being.
func later(e *llm.Error, tries int) string {
	asked := "It was asked once"
	if tries > 1 {
		asked = fmt.Sprintf("It was asked %d times without a usable answer", tries)
	}
	if e.After > llm.LongestAfter {
		return fmt.Sprintf("%s and wants %s of rest, which is longer than a run waits: send a follow-up after that", asked, e.After.Round(time.Second))
	}
	return asked + ": send a follow-up later"
}

// keyVariable is the environment variable that holds a provider's key.
func keyVariable(provider string) string {
	switch provider {
	case "anthropic":
		return "ANTHROPIC_API_KEY"
	case "openai":
		return "OPENAI_API_KEY"
	}
	return "the provider's API key"
}
