package egress

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/errand-dev/errand"
)

// flow is one connection's record while it is being made.
type flow struct {
	protocol       string // "tcp" or "udp"
	port           uint16
	started        time.Time
	sent, received atomic.Int64
	record         func(errand.Connection)

	mu      sync.Mutex
	named   string
	addr    netip.Addr
	refused string
	err     string
}

func newFlow(protocol string, addr netip.Addr, port uint16, record func(errand.Connection)) *flow {
	return &flow{protocol: protocol, addr: addr, port: port, started: time.Now(), record: record}
}

// name notes what the client asks for; a later name is nearer the truth.
func (f *flow) name(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.named = name
}

// address notes what is connected to.
func (f *flow) address(addr netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addr = addr
}

// fail notes why the flow came to nothing. The first reason stays.
func (f *flow) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var no refusal
	switch {
	case f.refused != "" || f.err != "":
	case errors.As(err, &no):
		f.refused = string(no)
	default:
		f.err = err.Error()
	}
}

// end tells the record. It is called once.
func (f *flow) end() {
	if f.record == nil {
		return
	}
	f.mu.Lock()
	c := errand.Connection{
		Name:     f.named,
		Port:     int(f.port),
		Protocol: f.protocol,
		Sent:     f.sent.Load(),
		Received: f.received.Load(),
		Started:  f.started.UTC(),
		Ms:       time.Since(f.started).Milliseconds(),
		Refused:  f.refused,
		Error:    f.err,
	}
	if f.addr.IsValid() {
		c.Address = f.addr.String()
	}
	f.mu.Unlock()
	f.record(c)
}

// quiet keeps a program that tries a refused thing over and over from filling
// the journal: what is told of it is the first time, and then once in a while.
type quiet struct {
	mu   sync.Mutex
	last map[errand.Connection]time.Time
}

const (
	quietFor = 10 * time.Second
	maxQuiet = 1024
)

// passes says whether c is to be told.
func (q *quiet) passes(c errand.Connection) bool {
	if c.Refused == "" {
		return true
	}
	key := errand.Connection{Name: c.Name, Address: c.Address, Port: c.Port, Protocol: c.Protocol, Refused: c.Refused}
	q.mu.Lock()
	defer q.mu.Unlock()
	if time.Since(q.last[key]) < quietFor {
		return false
	}
	if q.last == nil || len(q.last) >= maxQuiet {
		q.last = map[errand.Connection]time.Time{}
	}
	q.last[key] = time.Now()
	return true
}
