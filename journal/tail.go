package journal

import "github.com/errand-dev/errand"

const (
	// tailEvents and tailBytes bound what is kept of a journal for those who
	// follow it.
	tailEvents = 256
	tailBytes  = 1 << 20
)

// tail is the end of a journal, there while somebody follows it: its newest
// events, so that they are not read from the store by each who follows. Whoever
// is further behind than it reaches reads on from there.
type tail struct {
	followers int
	events    []errand.Event // without gaps; their data is shared and not changed
	size      int            // of their data
	more      chan struct{}  // closed at the next event
}

// add keeps a new event. What was committed at the same time may be told in
// another order; then the tail begins anew.
func (t *tail) add(e errand.Event) {
	if n := len(t.events); n > 0 && t.events[n-1].Seq+1 != e.Seq {
		t.forget()
	}
	t.events = append(t.events, e)
	t.size += len(e.Data)
	for len(t.events) > tailEvents || t.size > tailBytes {
		t.size -= len(t.events[0].Data)
		t.events = t.events[1:]
	}
}

// forget lets all be read from the store.
func (t *tail) forget() { t.events, t.size = nil, 0 }

func (t *tail) wake() {
	close(t.more)
	t.more = make(chan struct{})
}

// join gives a journal's tail to one who follows it, until leave.
func (j *Journal) join(of string) *tail {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.tails[of]
	if t == nil {
		t = &tail{more: make(chan struct{})}
		j.tails[of] = t
	}
	t.followers++
	return t
}

func (j *Journal) leave(of string, t *tail) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if t.followers--; t.followers == 0 {
		delete(j.tails, of)
	}
}

// newer gives the events after a number, and a channel that is closed when there
// are more; known says that the tail reaches back so far.
func (j *Journal) newer(t *tail, after errand.Seq) (events []errand.Event, more <-chan struct{}, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(t.events) == 0 || t.events[0].Seq > after+1 {
		return nil, t.more, false
	}
	first := int(after + 1 - t.events[0].Seq)
	return t.events[min(first, len(t.events)):], t.more, true
}
