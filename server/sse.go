package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// writeLimit is how long a reader may take to accept a piece of a stream.
const writeLimit = 30 * time.Second

// sse writes server-sent events.
type sse struct {
	w       http.ResponseWriter
	control *http.ResponseController
	buf     bytes.Buffer
}

// newSSE begins a stream: from here on the answer is a success.
func newSSE(w http.ResponseWriter) *sse {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies must pass each event on at once
	w.WriteHeader(http.StatusOK)
	return &sse{w: w, control: http.NewResponseController(w)}
}

// put adds a message to what the next flush sends.
func (s *sse) put(m api.Message) error {
	data, err := json.Marshal(m.Data)
	if err != nil {
		return fmt.Errorf("writing a %s event: %w", m.Event, err)
	}
	if m.ID != "" {
		fmt.Fprintf(&s.buf, "id: %s\n", m.ID)
	}
	fmt.Fprintf(&s.buf, "event: %s\ndata: %s\n\n", m.Event, data)
	return nil
}

// flush sends what was put, at once and together. An error means that the
// reader is gone or takes too long.
func (s *sse) flush() error {
	if s.buf.Len() == 0 {
		return nil
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	s.buf.Reset()
	return s.control.Flush()
}

// next is one event of a journal, or why there are no more.
type next struct {
	event errand.Event
	err   error
}

// pump pulls events in a goroutine of its own, a few ahead, until they or ctx
// end, and then closes the channel. wait waits for the goroutine.
func pump(ctx context.Context, events iter.Seq2[errand.Event, error]) (all <-chan next, wait func()) {
	c := make(chan next, 64)
	var work sync.WaitGroup
	work.Go(func() {
		defer close(c)
		for e, err := range events {
			select {
			case c <- next{e, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	return c, work.Wait
}

// source gives events until they or the context end.
type source func(context.Context) iter.Seq2[errand.Event, error]

// stream sends what each makes of every event until each says that it was the
// last, the events or ctx end, or the reader goes. When nothing was sent for a
// while, a heartbeat is. ended says that the events ended by themselves: not that
// they could not be read further, which is an error.
func (s *Server) stream(ctx context.Context, out *sse, events source, each func(errand.Event) (last bool, err error)) (ended bool, err error) {
	return s.streamBeside(ctx, out, aside{}, events, each)
}

// aside is what a stream also tells, which is in no journal. The zero value is
// nothing.
type aside struct {
	changed func() <-chan struct{} // gives what is closed when there is something to tell
	tell    func(*sse) error       // tells how it is now
}

// asidePause is the least time between two tellings.
const asidePause = 300 * time.Millisecond

// streamBeside is stream, with what is told beside it.
func (s *Server) streamBeside(ctx context.Context, out *sse, beside aside, events source, each func(errand.Event) (last bool, err error)) (ended bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	all, wait := pump(ctx, events(ctx))
	defer wait()
	defer cancel()
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	var changed <-chan struct{} // nil: nothing is told beside
	var due <-chan time.Time
	if beside.changed != nil {
		due = time.After(0)
	}
	for {
		select {
		case <-changed:
			changed, due = nil, time.After(asidePause)
		case <-due:
			changed, due = beside.changed(), nil // before telling, so that nothing falls between
			if err := beside.tell(out); err != nil {
				return false, err
			}
			if err := out.flush(); err != nil {
				return false, err
			}
		case n, ok := <-all:
			if !ok {
				return ctx.Err() == nil, out.flush()
			}
			if n.err != nil {
				return false, n.err
			}
			last, err := each(n.event)
			if err != nil {
				return false, err
			}
			// An event may have nothing to say here; then the reader waits on.
			if out.buf.Len() > 0 && (last || len(all) == 0) {
				if err := out.flush(); err != nil {
					return false, err
				}
				beat.Reset(s.heartbeat)
			}
			if last {
				return false, nil
			}
		case <-beat.C:
			if err := out.put(api.Message{Event: api.StreamHeartbeat, Data: struct{}{}}); err != nil {
				return false, err
			}
			if err := out.flush(); err != nil {
				return false, err
			}
		case <-ctx.Done():
			return false, nil
		}
	}
}
