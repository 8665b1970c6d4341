package llm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// LongestAfter is the longest wait that a provider may ask for. One that asks for
// more gets no further attempt: its error is returned at once.
const LongestAfter = 15 * time.Minute

// RetryOptions say how Do repeats a request. The zero value is right.
type RetryOptions struct {
	// Max is the number of attempts in all; zero is 8, which is about three
	// minutes of waiting.
	Max int
	// Base is the wait after the first failure, doubled after each further one;
	// zero is one second. Each wait is taken at random from its upper half, so
	// that many runs do not come back at once.
	Base time.Duration
	// MaxWait bounds one wait where the provider does not say how long; zero is
	// 90 s.
	MaxWait time.Duration
	// OnRetry, if set, is told of each failed attempt (from 1) that another will
	// follow after wait. What was emitted of that attempt is void.
	OnRetry func(attempt int, err error, wait time.Duration)
}

// Do asks model, and asks again while the failure is one that may pass, waiting
// in between as long as the provider says or else ever longer. It blocks until
// there is an answer, an error that no repetition mends, or the end of ctx,
// whose error it then returns (wrapped, with the last failure in its text).
func Do(ctx context.Context, model Model, req *Request, emit func(Delta), opts RetryOptions) (*Response, error) {
	opts = opts.filled()
	for attempt := 1; ; attempt++ {
		resp, err := model.Do(ctx, req, emit)
		if err == nil || ctx.Err() != nil || !Retryable(err) || attempt >= opts.Max {
			return resp, err
		}
		wait, ok := opts.wait(attempt, err)
		if !ok {
			return nil, err
		}
		if opts.OnRetry != nil {
			opts.OnRetry(attempt, err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("waiting to ask again (%v): %w", err, ctx.Err())
		}
	}
}

// filled gives o with its defaults.
func (o RetryOptions) filled() RetryOptions {
	if o.Max <= 0 {
		o.Max = 8
	}
	if o.Base <= 0 {
		o.Base = time.Second
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 90 * time.Second
	}
	return o
}

// wait gives the time until the next attempt, and false when the provider asks
// for more than is allowed.
func (o RetryOptions) wait(attempt int, err error) (time.Duration, bool) {
	var e *Error
	if errors.As(err, &e) && e.After > 0 {
		// A little more than asked for: all who were refused together were told
		// the same time.
		return e.After + rand.N(e.After/10+1), e.After <= LongestAfter
	}
	backoff := o.MaxWait
	if shift := attempt - 1; shift < 30 && o.Base<<shift < o.MaxWait {
		backoff = o.Base << shift
	}
	return backoff/2 + rand.N(backoff/2+1), true
}
