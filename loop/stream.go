package loop

import (
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
)

const (
	// streamWait is how long a piece of an answer waits for more before it is
	// recorded: short enough to look live, long enough to keep the journal small.
	streamWait = 100 * time.Millisecond
	// streamBytes is how much of it does not wait.
	streamBytes = 2 << 10
)

// stream gathers the pieces of one attempt into few events. Recording goes on
// beside the model, so that a slow disk does not hold it up.
type stream struct {
	turn, attempt int
	record        func([]errand.Fact) error

	wake   chan struct{} // there is something to record
	full   chan struct{} // there is much of it
	closed chan struct{}
	done   sync.WaitGroup

	mu    sync.Mutex
	facts []errand.Fact // each with a TextData
	bytes int
}

// newStream starts the goroutine that records; close ends it.
func newStream(turn, attempt int, record func([]errand.Fact) error) *stream {
	s := &stream{
		turn: turn, attempt: attempt, record: record,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	s.done.Go(s.run)
	return s
}

// add takes the next piece. Tool calls are not told before they are whole.
func (s *stream) add(d llm.Delta) {
	kind := errand.EventText
	switch d.Type {
	case llm.Text:
	case llm.Thinking:
		kind = errand.EventThinking
	default:
		return
	}
	if d.Text == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.facts); n > 0 && s.facts[n-1].Kind == kind {
		data := s.facts[n-1].Data.(errand.TextData)
		data.Text += d.Text
		s.facts[n-1].Data = data
	} else {
		s.facts = append(s.facts, errand.Fact{Kind: kind, Data: errand.TextData{Turn: s.turn, Attempt: s.attempt, Text: d.Text}})
	}
	s.bytes += len(d.Text)
	signal(s.wake)
	if s.bytes >= streamBytes {
		signal(s.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run records what has gathered until close, or until recording fails.
func (s *stream) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.wake:
		case <-s.closed:
			return
		}
		timer.Reset(streamWait)
		select {
		case <-timer.C:
		case <-s.full:
		case <-s.closed:
			return
		}
		if facts := s.take(); len(facts) > 0 && s.record(facts) != nil {
			return
		}
	}
}

func (s *stream) take() []errand.Fact {
	s.mu.Lock()
	defer s.mu.Unlock()
	facts := s.facts
	s.facts, s.bytes = nil, 0
	return facts
}

// close waits for what is being recorded and gives back the rest.
func (s *stream) close() []errand.Fact {
	close(s.closed)
	s.done.Wait()
	return s.take()
}
