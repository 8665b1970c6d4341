package server

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// feed tells how agents change to all who look at the list of them. What there
// is to tell is read and written out once for all of them, at most a few times a
// second, and only while somebody looks.
type feed struct {
	server *Server

	mu      sync.Mutex
	readers map[chan []byte]bool
	end     context.CancelFunc // of the goroutine that reads; nil while nobody looks
	ended   chan struct{}      // closed when it has ended
}

const (
	// feedPause is the least time between two readings.
	feedPause = 250 * time.Millisecond
	// feedPage is how many agents are read at once.
	feedPage = 200
	// feedAhead is how many messages a reader may be behind before it is cut
	// off. It comes back by itself, with the number of the last it has.
	feedAhead = 32
)

func (s *Server) feedRoutes(r *router) {
	r.addRaw(route{name: "followAgents", method: "GET", path: "/v1/agents/changes", failures: []int{400, 403},
		summary: "Follow how agents change as server-sent events \"change\". An id is a time in Unix milliseconds; Last-Event-ID, or since, asks for all changes from then on, some perhaps again"},
		http.StatusOK, "text/event-stream", []*huma.Param{lastEventID(), {
			Name: "since", In: "query", Schema: &huma.Schema{Type: huma.TypeInteger}, Description: "As Last-Event-ID; neither: from now on.",
		}, follow()}, s.followAgents)
}

// followAgents sends changes until the reader goes or falls behind.
func (s *Server) followAgents(w http.ResponseWriter, r *http.Request) error {
	since, err := feedSince(r)
	if err != nil {
		return err
	}
	follow, err := followQuery(r)
	if err != nil {
		return err
	}
	messages, leave := s.feed.join()
	defer leave()
	out := newSSE(w)
	// First what was missed; what comes meanwhile waits in messages.
	for more := !since.IsZero(); more; {
		var page []byte
		var err error
		if page, since, more, err = s.feed.read(r.Context(), since); err != nil {
			s.lost(r.Context(), err)
			return nil
		}
		out.buf.Write(page)
		if out.flush() != nil {
			return nil
		}
	}
	if err := out.control.Flush(); err != nil || !follow {
		return nil
	}
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				return nil
			}
			out.buf.Write(m)
		case <-beat.C:
			if err := out.put(api.Message{Event: api.StreamHeartbeat, Data: struct{}{}}); err != nil {
				return err
			}
		case <-r.Context().Done():
			return nil
		}
		if out.flush() != nil {
			return nil
		}
	}
}

func feedSince(r *http.Request) (time.Time, error) {
	text := r.Header.Get(api.HeaderLastEventID)
	if text == "" {
		text = r.URL.Query().Get("since")
	}
	if text == "" {
		return time.Time{}, nil
	}
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms < 0 {
		return time.Time{}, errand.Errorf(errand.Invalid, "invalid_last_event_id", "%.80q is not a time in Unix milliseconds, as the ids of this stream are.", text)
	}
	return time.UnixMilli(ms), nil
}

// join makes a reader, and starts the reading for the first one.
func (f *feed) join() (messages <-chan []byte, leave func()) {
	c := make(chan []byte, feedAhead)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers[c] = true
	if f.end == nil {
		ctx, end := context.WithCancel(context.Background())
		f.end, f.ended = end, make(chan struct{})
		go f.run(ctx, time.Now(), f.ended)
	}
	return c, func() {
		f.mu.Lock()
		f.drop(c)
		ended := f.ended
		alone := len(f.readers) == 0
		f.mu.Unlock()
		if alone {
			<-ended
		}
	}
}

// drop ends a reader, and the reading with the last one. The caller holds mu.
func (f *feed) drop(c chan []byte) {
	if !f.readers[c] {
		return
	}
	delete(f.readers, c)
	close(c)
	if len(f.readers) == 0 {
		f.end()
		f.end = nil
	}
}

// run reads what changes and gives it to all readers, until ctx ends.
func (f *feed) run(ctx context.Context, since time.Time, ended chan<- struct{}) {
	defer close(ended)
	for {
		changed := f.server.runner.Journal.Changed() // before reading, so that nothing falls between
		page, next, more, err := f.read(ctx, since)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f.server.log.Warn("cannot read how agents change", "error", err)
			page, next = nil, since
		}
		// The last millisecond is read again, since more may be written in it.
		since = next
		f.send(page)
		if more && err == nil {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(feedPause):
		case <-ctx.Done():
			return
		}
	}
}

// send gives a message to every reader. One that is too far behind is cut off.
func (f *feed) send(message []byte) {
	if len(message) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.readers {
		select {
		case c <- message:
		default:
			f.drop(c)
		}
	}
}

// removed tells that an agent was deleted.
func (f *feed) removed(id errand.AgentID) {
	var out sse
	if err := out.put(api.Message{Event: "change", Data: api.AgentChange{Removed: string(id)}}); err == nil {
		f.send(out.buf.Bytes())
	}
}

// read writes out what changed from since on, a page of it. next is where to go
// on; more says that there is more now.
func (f *feed) read(ctx context.Context, since time.Time) (page []byte, next time.Time, more bool, err error) {
	glances, err := f.server.runner.Changed(ctx, errand.Caller{}, since, feedPage)
	if err != nil {
		return nil, since, false, err
	}
	var out sse
	next = since
	for _, g := range glances {
		summary := api.FromGlance(g, f.server.url, f.server.runner.Cost)
		next = g.UpdatedAt
		if err := out.put(api.Message{ID: strconv.FormatInt(next.UnixMilli(), 10), Event: "change", Data: api.AgentChange{Agent: &summary}}); err != nil {
			return nil, since, false, err
		}
	}
	return out.buf.Bytes(), next, len(glances) == feedPage && next.After(since), nil
}
