package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// answerTTL is how long a machine may keep an answer. The resolver tells no
	// TTL; this is short enough for hosts that move and long enough to be of use.
	answerTTL = 60 * time.Second
	// nameMemory is how long an address counts as a name's after the machine
	// was told so: programs keep addresses for longer than they are asked to.
	nameMemory = time.Hour

	maxAddrs        = 4096 // that a machine's memory holds
	maxNamesAnAddr  = 16
	maxLookups      = 4096 // answers kept for all machines
	lookupFresh     = 10 * time.Second
	lookupTimeLimit = 10 * time.Second
)

// names remembers which names one machine resolved to which addresses: what
// tells the name of a connection whose client does not say it.
type names struct {
	mu     sync.Mutex
	byAddr map[netip.Addr][]remembered // the last resolved is last
}

type remembered struct {
	name  string
	until time.Time
}

// learn notes that name was resolved to addrs just now.
func (n *names) learn(name string, addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byAddr == nil {
		n.byAddr = map[netip.Addr][]remembered{}
	}
	now := time.Now()
	for _, addr := range addrs {
		if _, known := n.byAddr[addr]; !known && len(n.byAddr) >= maxAddrs {
			n.forgetLocked(now)
		}
		list := slices.DeleteFunc(n.byAddr[addr], func(r remembered) bool { return r.name == name })
		if len(list) >= maxNamesAnAddr {
			list = slices.Delete(list, 0, 1)
		}
		n.byAddr[addr] = append(list, remembered{name, now.Add(nameMemory)})
	}
}

// forgetLocked makes room: it drops what is too old, and one more address if
// that frees nothing.
func (n *names) forgetLocked(now time.Time) {
	before := len(n.byAddr)
	for addr, list := range n.byAddr {
		if list[len(list)-1].until.Before(now) {
			delete(n.byAddr, addr)
		}
	}
	for addr := range n.byAddr {
		if len(n.byAddr) < before {
			return
		}
		delete(n.byAddr, addr)
	}
}

// of gives the names of addr, the last resolved first.
func (n *names) of(addr netip.Addr) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	now := time.Now()
	for _, r := range slices.Backward(n.byAddr[addr]) {
		if r.until.After(now) {
			out = append(out, r.name)
		}
	}
	return out
}

// lookups asks the resolver for all machines. Equal questions at once are asked
// once, and an answer is kept for a few seconds.
type lookups struct {
	resolver Resolver
	mu       sync.Mutex
	kept     map[string]*lookup
}

type lookup struct {
	done  chan struct{} // closed when addrs and err are set
	until time.Time
	addrs []netip.Addr
	err   error
}

func newLookups(r Resolver) *lookups {
	return &lookups{resolver: r, kept: map[string]*lookup{}}
}

// addresses gives all addresses of name, IPv4 first. A name that does not exist
// is an error for which notFound is true.
func (l *lookups) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if !isName(name) {
		return nil, &net.DNSError{Err: "not a name that can be looked up", Name: name, IsNotFound: true}
	}
	for {
		one, mine := l.claim(name)
		if mine {
			l.ask(ctx, name, one)
			return one.addrs, one.err
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !errors.Is(one.err, context.Canceled) {
			return one.addrs, one.err
		}
		// Whoever asked went away before the answer came: ask ourselves.
	}
}

// claim gives the lookup of name that is kept or under way, or a new one that
// the caller must ask.
func (l *lookups) claim(name string) (one *lookup, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one, ok := l.kept[name]; ok && !l.staleLocked(one) {
		return one, false
	}
	one = &lookup{done: make(chan struct{}), until: time.Now().Add(lookupTimeLimit + lookupFresh)}
	l.makeRoomLocked()
	l.kept[name] = one
	return one, true
}

// ask fills one in.
func (l *lookups) ask(ctx context.Context, name string, one *lookup) {
	defer close(one.done)
	ctx, cancel := context.WithTimeout(ctx, lookupTimeLimit)
	defer cancel()
	// The final dot keeps the server's search domains out of it.
	addrs, err := l.resolver.LookupNetIP(ctx, "ip", name+".")
	for i, a := range addrs {
		addrs[i] = a.WithZone("").Unmap()
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	l.mu.Lock()
	defer l.mu.Unlock()
	one.addrs, one.err, one.until = slices.Compact(addrs), err, time.Now().Add(lookupFresh)
	if err != nil && !notFound(err) && l.kept[name] == one {
		delete(l.kept, name) // a fault of the moment: the next one asks anew
	}
}

func (l *lookups) staleLocked(one *lookup) bool { return time.Now().After(one.until) }

func (l *lookups) makeRoomLocked() {
	if len(l.kept) < maxLookups {
		return
	}
	for name, one := range l.kept {
		if l.staleLocked(one) || len(l.kept) >= maxLookups {
			delete(l.kept, name)
		}
	}
}

// notFound says whether err means that the name has no address.
func notFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

// isLocalName says whether a name means the machine itself or its own network
// and must not be asked of the server's resolver.
func isLocalName(name string) bool {
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || !strings.Contains(name, ".")
}
