package guest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/errand-dev/errand/guest/wire"
)

// Line is a lasting connection to one life of one machine's guest. Its methods
// may be called at once from many goroutines. They block until the guest has
// answered, over as many connections as that takes, and fail only when ctx
// ends, the guest refuses (*Error), dial's error is final, the guest was
// restarted (ErrRebooted) or the line is closed (ErrClosed).
type Line struct {
	dial func(context.Context) (net.Conn, error)
	opts Options
	log  *slog.Logger

	cancel context.CancelFunc // ends keep
	done   sync.WaitGroup     // keep and all that it started
	slots  chan struct{}      // one for each connection that came up the line

	mu      sync.Mutex
	hello   Hello
	session *yamux.Session            // the connection in use; nil while there is none
	err     error                     // why there will be none any more
	last    error                     // why the latest attempt to connect failed
	added   map[string]func(net.Conn) // by AddService
	shared  map[string]string         // tmux's ids of the terminals that share a window, by name; nil: not known
	status  string                    // what terminals show in their last line; "" for none
	changed chan struct{}             // closed and replaced whenever session or err change
}

// How long to wait before dialing again, and how long a new connection may take
// to say hello.
const (
	firstPause  = 5 * time.Millisecond
	longPause   = 250 * time.Millisecond
	helloLimit  = 30 * time.Second
	closingWait = 250 * time.Millisecond
)

// Open connects to a guest and keeps the line: it dials again whenever the
// connection broke, until Close. It returns when the guest has said hello, and
// tries until ctx ends or dial's error is final. ctx is for Open alone. The
// context that dial is given ends when the line is closed; a connection that
// dial made must outlive it.
func Open(ctx context.Context, dial func(context.Context) (net.Conn, error), opts Options) (*Line, error) {
	l := &Line{
		dial: dial, opts: opts, log: opts.Log,
		slots: make(chan struct{}, maxIncoming), changed: make(chan struct{}),
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.opts.Gone == nil {
		l.opts.Gone = func(error) bool { return false }
	}
	keepCtx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.done.Go(func() { l.keep(keepCtx) })
	if _, err := l.connected(ctx); err != nil {
		l.Close()
		return nil, fmt.Errorf("opening line to guest: %w", err)
	}
	return l, nil
}

// Hello gives what the guest said of itself. It does not block.
func (l *Line) Hello() Hello {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hello
}

// Err says why the line is of no more use: ErrRebooted, ErrClosed, or dial's
// final error. It is nil while the line works or is being restored.
func (l *Line) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends the line and waits for all that it started, services included.
// Calls under way fail with ErrClosed. Commands in the machine go on. To close
// again is no error.
func (l *Line) Close() error {
	l.cancel()
	l.set(nil, ErrClosed)
	l.done.Wait()
	return nil
}

// keep holds a connection until ctx ends or there can be none.
func (l *Line) keep(ctx context.Context) {
	pause := firstPause
	for {
		session, err := l.connect(ctx)
		switch {
		case err == nil:
			began := time.Now()
			l.serve(ctx, session)
			if time.Since(began) > longPause {
				pause = firstPause
			}
		case errors.Is(err, ErrRebooted), errors.Is(err, ErrProtocol), l.opts.Gone(err):
			l.set(nil, err)
			return
		default:
			l.log.Debug("connecting to guest failed", "err", err)
			l.failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause = min(2*pause, longPause)
		}
	}
}

// connect dials once and says hello.
func (l *Line) connect(ctx context.Context) (*yamux.Session, error) {
	conn, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	session, err := wire.Client(conn, l.log)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := l.greet(ctx, session); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

// greet exchanges hellos and refuses a guest that is not the one of before.
func (l *Line) greet(ctx context.Context, session *yamux.Session) error {
	ctx, cancel := context.WithTimeout(ctx, helloLimit)
	defer cancel()
	g := wire.Greeting{Version: wire.Version}
	g.Services = l.serviceNames()
	slices.Sort(g.Services)
	var h Hello
	if _, err := exchange(ctx, session, wire.MethodHello, g, nil, &h); err != nil {
		return err
	}
	if h.Version != wire.Version || h.Boot == "" || len(h.Boot) > 128 {
		return fmt.Errorf("%w: it speaks version %d, this server %d; destroy the machine and make a new one",
			ErrProtocol, h.Version, wire.Version)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hello.Boot != "" && l.hello.Boot != h.Boot {
		return ErrRebooted
	}
	l.hello = h
	return nil
}

// serve lends session to the calls until it breaks or ctx ends, and takes what
// the guest sends up.
func (l *Line) serve(ctx context.Context, session *yamux.Session) {
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	l.set(session, nil)
	l.accept(session)
	session.Close()
	l.set(nil, nil)
}

// set publishes the connection in use, or that there is none any more. The
// first err stays.
func (l *Line) set(session *yamux.Session, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	l.session, l.last = session, nil
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Line) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = err
}

// connected gives the connection in use, and waits for one where there is none.
func (l *Line) connected(ctx context.Context) (*yamux.Session, error) {
	for {
		l.mu.Lock()
		session, err, changed := l.session, l.err, l.changed
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if session != nil && !session.IsClosed() {
			return session, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, l.unreached(ctx)
		}
	}
}

// unreached says why no connection came about before ctx ended.
func (l *Line) unreached(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != nil {
		return fmt.Errorf("%w: guest cannot be reached: %w", context.Cause(ctx), l.last)
	}
	return context.Cause(ctx)
}
