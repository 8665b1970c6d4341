package llm_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/errand-dev/errand/llm"
)

// failing fails with each of its errors in turn, then answers.
type failing struct {
	errs  []error
	asked int
}

func (f *failing) Do(ctx context.Context, _ *llm.Request, emit func(llm.Delta)) (*llm.Response, error) {
	f.asked++
	if f.asked <= len(f.errs) {
		return nil, f.errs[f.asked-1]
	}
	return &llm.Response{ID: "ok"}, nil
}

func broken(after time.Duration) error {
	return &llm.Error{Provider: "p", Cause: llm.Overloaded, After: after, Message: "later"}
}

func TestDoWaitsLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &failing{errs: []error{broken(0), broken(0), broken(0), broken(0), broken(0)}}
		var waits []time.Duration
		begin := time.Now()
		resp, err := llm.Do(t.Context(), m, nil, nil, llm.RetryOptions{MaxWait: 6 * time.Second, OnRetry: func(attempt int, err error, wait time.Duration) {
			if attempt != len(waits)+1 || err != m.errs[attempt-1] {
				t.Errorf("told of attempt %d: %v", attempt, err)
			}
			waits = append(waits, wait)
		}})
		if err != nil || resp.ID != "ok" {
			t.Fatalf("%v, %v", resp, err)
		}
		total := time.Duration(0)
		for i, bound := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 6 * time.Second, 6 * time.Second} {
			if waits[i] < bound/2 || waits[i] > bound {
				t.Errorf("wait %d is %v, want between %v and %v", i+1, waits[i], bound/2, bound)
			}
			total += waits[i]
		}
		if got := time.Since(begin); got != total {
			t.Errorf("waited %v, told of %v", got, total)
		}
	})
}

func TestDoHonoursAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, after := range []time.Duration{40 * time.Second, 2 * time.Minute, llm.LongestAfter} {
			begin := time.Now()
			if _, err := llm.Do(t.Context(), &failing{errs: []error{broken(after)}}, nil, nil, llm.RetryOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(begin); got < after || got > after+after/8 {
				t.Errorf("waited %v, was asked for %v", got, after)
			}
		}
	})
}

func TestDoGivesUp(t *testing.T) {
	rejected := &llm.Error{Cause: llm.Rejected}
	tests := []struct {
		name  string
		errs  []error
		asked int
	}{
		{"not retryable", []error{rejected}, 1},
		{"not a provider's error", []error{errors.New("bug")}, 1},
		{"asked to wait too long", []error{broken(time.Hour)}, 1},
		{"no attempts left", []error{broken(0), broken(0), broken(0), broken(0)}, 3},
		{"worse at last", []error{broken(0), rejected}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &failing{errs: tt.errs}
				_, err := llm.Do(t.Context(), m, nil, nil, llm.RetryOptions{Max: 3})
				if err != tt.errs[tt.asked-1] || m.asked != tt.asked {
					t.Errorf("asked %d times, error %v", m.asked, err)
				}
			})
		})
	}
}

func TestDoStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		m := &failing{errs: []error{broken(30 * time.Second)}}
		begin := time.Now()
		_, err := llm.Do(ctx, m, nil, nil, llm.RetryOptions{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 3*time.Second || m.asked != 1 {
			t.Errorf("asked %d times in %v, error %v", m.asked, time.Since(begin), err)
		}
	})
}
