// Package presence knows who is at an agent just now: who looks at its page, who is
// in a terminal of its machine and types there, who runs a command, who looks at its
// ports and files.
//
// It is kept in memory alone and for as long as somebody is there: a room comes
// into being with its first visitor and is gone with the last. Those who are there
// are told of changes; nothing of it is written down, and after a restart of the
// server people are seen again when their programs have come back.
//
// It decides nothing: who may come is package auth's, and what people do is
// told by whoever carries their bytes.
package presence

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/errand-dev/errand"
)

// What people do at an agent.
const (
	Watching = "watching" // they look at its page
	Terminal = "terminal" // they are in a shared terminal
	Command  = "command"  // they run a command, or a shell of their own
	Preview  = "preview"  // they look at a port in a browser
	Port     = "port"     // they have forwarded a port
	Files    = "files"    // they look at the files, as these change
)

const (
	// typingFor is how long after a key somebody counts as typing.
	typingFor = 5 * time.Second
	// usingFor is how long after its last use something still counts as used.
	usingFor = time.Minute
	// most is how many people are told of.
	most = 30
)

// Person is somebody who is there, by one of the things that they do.
type Person struct {
	Caller   errand.Caller
	Doing    string
	Terminal string // with Terminal: its name
	Port     int    // with Preview and Port: which
	Typing   bool
}

// Rooms are those of all agents. The zero value has none; it may be used from many
// goroutines.
type Rooms struct {
	mu    sync.Mutex
	rooms map[errand.AgentID]*room
}

type room struct {
	visits  map[*Visit]bool
	uses    map[what]*use
	changed chan struct{} // closed and replaced at each change
	here    []Person      // as Here gives it
	more    int           // people that are not in here
}

// Visit is one person's being there, for one reason.
type Visit struct {
	rooms  *Rooms
	agent  errand.AgentID
	person Person
	typed  time.Time   // when a key was last pressed
	rests  *time.Timer // tells when they type no more; nil before the first key
}

// what is one thing that one person does.
type what struct {
	who, doing, terminal string
	port                 int
}

func (p Person) what() what { return what{p.Caller.Person(), p.Doing, p.Terminal, p.Port} }

// use is a visit by what comes and goes: the connections and requests of a program
// that somebody has started.
type use struct {
	visit *Visit
	open  int         // those under way
	rests *time.Timer // ends the visit when nothing more has come; nil while some are under way
}

// Use notes that somebody uses something until done is called, and for a minute
// more. Any number of uses of the same thing are one visit.
func (r *Rooms) Use(agent errand.AgentID, p Person) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := p.what()
	in := r.roomLocked(agent)
	u := in.uses[key]
	if u == nil {
		u = &use{visit: r.enterLocked(agent, p)}
		in.uses[key] = u
	}
	u.open++
	if u.rests != nil {
		u.rests.Stop()
		u.rests = nil
	}
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if u.open--; u.open == 0 {
			u.rests = time.AfterFunc(usingFor, func() { r.unused(in, key, u) })
		}
	})
}

// unused ends the visit of a use, unless it goes on.
func (r *Rooms) unused(in *room, key what, u *use) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.open > 0 || u.rests == nil || in.uses[key] != u {
		return
	}
	delete(in.uses, key)
	u.visit.leaveLocked()
}

// Enter notes that somebody is there until Leave.
func (r *Rooms) Enter(agent errand.AgentID, p Person) *Visit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enterLocked(agent, p)
}

func (r *Rooms) enterLocked(agent errand.AgentID, p Person) *Visit {
	v := &Visit{rooms: r, agent: agent, person: p}
	in := r.roomLocked(agent)
	in.visits[v] = true
	in.change()
	return v
}

// roomLocked gives an agent's room, a new one where there is none.
func (r *Rooms) roomLocked(agent errand.AgentID) *room {
	in := r.rooms[agent]
	if in == nil {
		in = &room{visits: map[*Visit]bool{}, uses: map[what]*use{}, changed: make(chan struct{})}
		if r.rooms == nil {
			r.rooms = map[errand.AgentID]*room{}
		}
		r.rooms[agent] = in
	}
	return in
}

// Leave ends the visit. To leave again does nothing.
func (v *Visit) Leave() {
	v.rooms.mu.Lock()
	defer v.rooms.mu.Unlock()
	v.leaveLocked()
}

func (v *Visit) leaveLocked() {
	in := v.rooms.rooms[v.agent]
	if in == nil || !in.visits[v] {
		return
	}
	if v.rests != nil {
		v.rests.Stop()
	}
	delete(in.visits, v)
	in.change()
	if len(in.visits) == 0 {
		delete(v.rooms.rooms, v.agent)
	}
}

// Typed notes that the visitor has pressed a key.
func (v *Visit) Typed() {
	v.rooms.mu.Lock()
	defer v.rooms.mu.Unlock()
	v.typed = time.Now()
	in := v.rooms.rooms[v.agent]
	if v.person.Typing || in == nil || !in.visits[v] {
		return
	}
	v.person.Typing = true
	in.change()
	if v.rests == nil {
		v.rests = time.AfterFunc(typingFor, v.rest)
	} else {
		v.rests.Reset(typingFor)
	}
}

// rest notes that the visitor types no more, or looks again later.
func (v *Visit) rest() {
	v.rooms.mu.Lock()
	defer v.rooms.mu.Unlock()
	in := v.rooms.rooms[v.agent]
	if in == nil || !in.visits[v] {
		return
	}
	if left := typingFor - time.Since(v.typed); left > 0 {
		v.rests.Reset(left)
		return
	}
	v.person.Typing = false
	in.change()
}

// Changed gives a channel that is closed at the next change in the visitor's room.
func (v *Visit) Changed() <-chan struct{} {
	v.rooms.mu.Lock()
	defer v.rooms.mu.Unlock()
	if in := v.rooms.rooms[v.agent]; in != nil {
		return in.changed
	}
	return nil // they have left
}

// change tells everybody, unless what is to be seen is as before: a person's second
// page is no news. The caller holds mu.
func (in *room) change() {
	before, more := in.here, in.more
	in.look()
	if more == in.more && slices.Equal(before, in.here) {
		return
	}
	close(in.changed)
	in.changed = make(chan struct{})
}

// Here gives who is at an agent now, each with each thing they do once, by name,
// and how many more there are than it gives. The list is shared and must not be
// changed.
func (r *Rooms) Here(agent errand.AgentID) (people []Person, more int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.rooms[agent]
	if in == nil {
		return nil, 0
	}
	return in.here, in.more
}

func (in *room) look() {
	at := map[what]int{}
	in.here = []Person{}
	for v := range in.visits {
		key := v.person.what()
		n, known := at[key]
		if !known {
			at[key] = len(in.here)
			in.here = append(in.here, v.person)
			continue
		}
		in.here[n].Typing = in.here[n].Typing || v.person.Typing
	}
	slices.SortFunc(in.here, func(a, b Person) int {
		return cmp.Or(cmp.Compare(a.Caller.Called(), b.Caller.Called()), cmp.Compare(a.Caller.Person(), b.Caller.Person()),
			cmp.Compare(a.Doing, b.Doing), cmp.Compare(a.Terminal, b.Terminal), cmp.Compare(a.Port, b.Port))
	})
	in.more = max(0, len(in.here)-most)
	in.here = in.here[:len(in.here)-in.more]
}

// Agent is whom the visit is at.
func (v *Visit) Agent() errand.AgentID { return v.agent }
