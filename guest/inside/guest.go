// Package inside is the guest: the program that runs as a machine's first
// process and does there what the server asks.
//
// It owns everything that must outlive a connection: the processes it started
// and what they printed, the results of changes to files, the listeners. A
// connection owns nothing but its own streams, so that losing one loses
// nothing. Whatever acts is named by an id of the server's and is done once
// for it; the id stays used after it was forgotten, because a request may be
// stuck in a line that everybody thinks is dead.
//
// As first process the guest also waits for every orphan in the machine; no
// other part of it may wait for a child (see reaper).
//
// All state is in memory and bounded. It ends with the guest, and Boot, chosen
// anew at each start, says so. Package guest is the other side.
package inside

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand/guest/wire"
)

// Options are for New.
type Options struct {
	// Socket is where Serve's listener listens. Its directory also takes the
	// socket of the terminals.
	Socket string
	// Log gets what goes wrong; nil is none.
	Log *slog.Logger
}

// Guest is one life of a machine's guest.
type Guest struct {
	hello  wire.Hello
	log    *slog.Logger
	reaper *reaper
	budget *budget
	null   *os.File // stdin of commands that have none

	mu        sync.Mutex
	processes map[string]*process // by id
	groups    map[int]*process    // by process group, the newest
	ops       ops
	used      *tombs // ids that were forgotten
	listeners map[string]*listener
	lines     []*line // connected servers, newest last
	relined   bell    // rings when lines change
	tunnels   sync.WaitGroup
}

// New makes a guest. There may be one in a process: it waits for all of the
// process's children.
func New(opts Options) (*Guest, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	g := &Guest{
		hello: wire.Hello{
			Version: wire.Version,
			Boot:    rand.Text(),
			Program: program,
			Tmux:    filepath.Join(filepath.Dir(opts.Socket), "tmux"),
			PID:     os.Getpid(),
			Started: time.Now().UTC(),
		},
		log:       opts.Log,
		reaper:    newReaper(),
		budget:    &budget{limit: maxKept},
		null:      null,
		processes: map[string]*process{},
		groups:    map[int]*process{},
		ops:       ops{byID: map[string]*op{}},
		used:      &tombs{seen: map[string]struct{}{}},
		listeners: map[string]*listener{},
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	return g, nil
}

// Serve takes connections from l until ctx ends, then closes what is open. The
// commands it started are left to the caller. It closes l.
func (g *Guest) Serve(ctx context.Context, l net.Listener) error {
	defer g.null.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all errgroup.Group
	all.Go(func() error { g.reaper.run(ctx); return nil })
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if err != nil {
			cancel()
			g.unlistenAll()
			all.Wait()
			g.tunnels.Wait()
			if context.Cause(ctx) != nil {
				return nil
			}
			return err
		}
		all.Go(func() error { g.serveConn(ctx, conn); return nil })
	}
}

// bell wakes all who wait. The lock of what it belongs to guards it.
type bell struct{ ch chan struct{} }

// wait gives a channel that is closed when the bell rings next.
func (b *bell) wait() <-chan struct{} {
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// tombs remembers forgotten ids, the newest of them.
type tombs struct {
	seen  map[string]struct{}
	order []string
}

const maxTombs = 50000

func (t *tombs) add(id string) {
	if _, ok := t.seen[id]; ok {
		return
	}
	t.seen[id] = struct{}{}
	t.order = append(t.order, id)
	if len(t.order) > maxTombs {
		delete(t.seen, t.order[0])
		t.order = t.order[1:]
	}
}

func (t *tombs) has(id string) bool {
	_, ok := t.seen[id]
	return ok
}
