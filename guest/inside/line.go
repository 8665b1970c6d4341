package inside

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/errand-dev/errand/guest/wire"
)

// line is one connected server.
type line struct {
	session  *yamux.Session
	services []string
}

// serveConn answers one connection until it breaks or ctx ends.
func (g *Guest) serveConn(ctx context.Context, conn net.Conn) {
	session, err := wire.Server(conn, g.log)
	if err != nil {
		conn.Close()
		return
	}
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	l := &line{session: session}
	var streams sync.WaitGroup
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			break
		}
		streams.Go(func() {
			defer stream.Close()
			g.serveStream(l, stream)
		})
	}
	g.leave(l)
	session.Close()
	streams.Wait()
}

// greet notes a server, for connections that want to go up to it.
func (g *Guest) greet(l *line, p wire.Greeting) (wire.Hello, error) {
	if p.Version == wire.Version {
		g.mu.Lock()
		defer g.mu.Unlock()
		l.services = p.Services
		g.lines = append(g.lines, l)
		g.relined.ring()
	}
	return g.hello, nil
}

// offers notes that a server takes a service which it did not name when it came.
func (g *Guest) offers(l *line, service string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(l.services, service) {
		l.services = append(l.services, service)
		g.relined.ring()
	}
}

func (g *Guest) leave(l *line) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = slices.DeleteFunc(g.lines, func(other *line) bool { return other == l })
	g.relined.ring()
}

// requestLimit is how long a request may take to come in whole.
const requestLimit = 2 * time.Minute

// serveStream answers one request.
func (g *Guest) serveStream(l *line, stream *yamux.Stream) {
	stream.SetReadDeadline(time.Now().Add(requestLimit))
	req, body, err := wire.ReadRequest(stream, wire.MaxRequest)
	if err != nil {
		return
	}
	stream.SetReadDeadline(time.Time{})
	s := &call{Stream: stream, params: req.Params, body: body}
	switch req.Method {
	case wire.MethodHello:
		answer(s, func(p wire.Greeting) (wire.Hello, error) { return g.greet(l, p) })
	case wire.MethodRun, wire.MethodStart, wire.MethodJoin, wire.MethodKnown, wire.MethodInput, wire.MethodFeed,
		wire.MethodSignal, wire.MethodResize, wire.MethodForget, wire.MethodProcs:
		g.serveCommand(req.Method, s)
	case wire.MethodRead, wire.MethodStat, wire.MethodList, wire.MethodSearch, wire.MethodWrite, wire.MethodChange:
		g.serveFile(req.Method, s)
	case wire.MethodDial, wire.MethodListen, wire.MethodUnlisten:
		g.serveTunnel(l, req.Method, s)
	case wire.MethodOwners:
		answer(s, owners)
	default:
		wire.WriteFault(stream, faultf(wire.CodeInvalid, "this guest knows no method %q", req.Method))
	}
}

// call is one request with the stream that its answer goes to.
type call struct {
	*yamux.Stream
	params json.RawMessage
	body   []byte
}

// decode reads the request's params, and answers where they are no good.
func decode[P any](s *call) (p P, ok bool) {
	if err := json.Unmarshal(s.params, &p); err != nil {
		wire.WriteFault(s, faultf(wire.CodeInvalid, "reading params: %v", err))
		return p, false
	}
	return p, true
}

// answer does what is asked and sends the result.
func answer[P, R any](s *call, do func(P) (R, error)) {
	p, ok := decode[P](s)
	if !ok {
		return
	}
	result, err := do(p)
	if err != nil {
		wire.WriteFault(s, fault(err))
		return
	}
	wire.WriteAnswer(s, result, nil)
}

// watched gives a context that ends when the server closes its end of the
// stream, taking acks until then. release waits for the watcher.
func (s *call) watched(ack func(int64)) (ctx context.Context, release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	var released atomic.Bool
	watcher.Go(func() {
		defer cancel()
		for {
			kind, payload, err := wire.ReadFrame(s.Stream, wire.MaxChunk)
			if err != nil {
				if !released.Load() {
					// A write that waits for the server to read must end.
					s.SetWriteDeadline(time.Now())
				}
				return
			}
			if offset, _, err := wire.Offset(payload); err == nil && kind == wire.KindAck && ack != nil {
				ack(offset)
			}
		}
	})
	return ctx, func() {
		released.Store(true)
		s.SetReadDeadline(time.Now())
		watcher.Wait()
	}
}

// serveCommand answers what is about commands.
func (g *Guest) serveCommand(m wire.Method, s *call) {
	switch m {
	case wire.MethodRun:
		if c, ok := decode[wire.Command](s); ok {
			p, err := g.process(c)
			g.follow(s, p, err, c.From)
		}
	case wire.MethodJoin:
		if j, ok := decode[wire.Join](s); ok {
			p, err := g.known(j.ID)
			g.follow(s, p, err, j.From)
		}
	case wire.MethodStart:
		answer(s, func(c wire.Command) (wire.Empty, error) {
			_, err := g.process(c)
			return wire.Empty{}, err
		})
	case wire.MethodKnown:
		answer(s, func(n wire.Name) (wire.Known, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return wire.Known{Known: g.processes[n.ID] != nil}, nil
		})
	case wire.MethodForget:
		answer(s, func(n wire.Names) (wire.Empty, error) {
			g.forget(n.IDs)
			return wire.Empty{}, nil
		})
	case wire.MethodProcs:
		answer(s, func(wire.Empty) (wire.Processes, error) {
			return wire.Processes{Processes: g.list()}, nil
		})
	case wire.MethodInput:
		answer(s, func(i wire.Input) (wire.Empty, error) { return wire.Empty{}, g.input(s, i) })
	case wire.MethodFeed:
		if i, ok := decode[wire.Input](s); ok {
			g.feed(s, i)
		}
	case wire.MethodSignal:
		answer(s, func(sig wire.Signal) (wire.Empty, error) {
			return with(g, sig.ID, func(p *process) error { return p.signal(sig.Signal) })
		})
	case wire.MethodResize:
		answer(s, func(r wire.Resize) (wire.Empty, error) {
			return with(g, r.ID, func(p *process) error { return p.resize(r.Size) })
		})
	}
}

// with does something to a command that is known.
func with(g *Guest, id string, do func(*process) error) (wire.Empty, error) {
	p, err := g.known(id)
	if err != nil {
		return wire.Empty{}, err
	}
	return wire.Empty{}, do(p)
}

// input takes a piece of stdin.
func (g *Guest) input(s *call, i wire.Input) error {
	in, err := g.stdin(i.ID)
	if err != nil {
		return err
	}
	if len(s.body) > 0 {
		ctx, release := s.watched(nil)
		defer release()
		if err := in.write(ctx, i.Offset, s.body); err != nil {
			return err
		}
	}
	if i.Close {
		in.close()
	}
	return nil
}

// stdin finds the stdin of a command.
func (g *Guest) stdin(id string) (*input, error) {
	p, err := g.known(id)
	if err != nil {
		return nil, err
	}
	if p.in == nil {
		return nil, faultf(wire.CodeInvalid, "command %s was started without stdin", id)
	}
	return p.in, nil
}

// feed takes pieces of stdin until the server closes the stream, and acknowledges
// each that was accepted.
func (g *Guest) feed(s *call, i wire.Input) {
	in, err := g.stdin(i.ID)
	if err != nil {
		wire.WriteFault(s, fault(err))
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	pieces := make(chan []byte, wire.FeedFrames)
	var reader sync.WaitGroup
	// Reads on while the command takes nothing, to see the stream's end.
	reader.Go(func() {
		defer cancel()
		defer close(pieces)
		receive(s.Stream, pieces)
	})
	defer reader.Wait()
	defer func() { s.SetReadDeadline(time.Now()) }()
	for data := range pieces {
		if err := in.write(ctx, i.Offset, data); err != nil {
			wire.WriteFault(s, fault(err))
			return
		}
		i.Offset += int64(len(data))
		if err := wire.WriteAck(s, i.Offset); err != nil {
			return
		}
	}
}

// receive reads pieces of stdin until the stream's end, or until the server sends
// more than may be under way.
func receive(r io.Reader, pieces chan<- []byte) {
	for {
		kind, data, err := wire.ReadFrame(r, wire.MaxFeed)
		if err != nil || kind != wire.KindBody {
			return
		}
		select {
		case pieces <- data:
		default:
			return
		}
	}
}

// follow sends a command's output from an offset on, then its exit.
func (g *Guest) follow(s *call, p *process, err error, from int64) {
	if err != nil {
		wire.WriteFault(s, fault(err))
		return
	}
	ctx, release := s.watched(p.out.ack)
	defer release()
	p.out.ack(from)
	for {
		c, done, wait := p.out.next(from)
		switch {
		case done:
			// The exit is set a moment after the output's end.
			<-p.exited
			wire.WriteAnswer(s, p.exit, nil)
			return
		case wait != nil:
			select {
			case <-wait:
			case <-ctx.Done():
				return
			}
		default:
			if err := wire.WriteChunk(s, c.stderr, c.offset, c.data); err != nil {
				return
			}
			from = c.end()
		}
	}
}
