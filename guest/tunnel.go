package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/errand-dev/errand/guest/wire"
)

// Bounds of what a guest may send up: how many connections at once, how long it
// may take to say what one is, and how many streams a line may hold, ours and
// those that the guest leaves half closed included: each may be filled with what
// nobody reads.
const (
	maxIncoming = 256
	offerLimit  = 10 * time.Second
	maxStreams  = 512
)

// DialPort connects to an address inside the machine, "127.0.0.1:3000" or
// "unix:/path". The connection breaks when the line does: reading then gives
// io.ErrUnexpectedEOF, so that a clean end can be told from a cut. It has a
// CloseWrite method. Where nothing answers the error is ErrRefused.
func (l *Line) DialPort(ctx context.Context, address string) (net.Conn, error) {
	var tunnel net.Conn
	err := l.again(ctx, func(session *yamux.Session) error {
		stream, err := openStream(session)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { stream.SetDeadline(time.Now()) })
		if err = wire.WriteRequest(stream, wire.MethodDial, wire.Address{Address: address}, nil); err == nil {
			_, err = wire.ReadAnswer(stream, nil)
		}
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			stream.Close()
			return translate(wire.MethodDial, err)
		}
		tunnel = wire.NewTunnel(stream)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return tunnel, nil
}

// AddService adds to Options.Services, for as long as the line lives or until
// remove. It must be there before Listen names it.
func (l *Line) AddService(name string, serve func(net.Conn)) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.added == nil {
		l.added = map[string]func(net.Conn){}
	}
	l.added[name] = serve
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.added, name)
	}
}

// service gives what takes connections for a name, nil for none.
func (l *Line) service(name string) func(net.Conn) {
	if serve := l.opts.Services[name]; serve != nil {
		return serve
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.added[name]
}

// serviceNames gives the names of all services, in order.
func (l *Line) serviceNames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(func(yield func(string) bool) {
		for _, all := range []map[string]func(net.Conn){l.opts.Services, l.added} {
			for name := range all {
				if !yield(name) {
					return
				}
			}
		}
	})
}

// Listen makes the guest listen at an address inside the machine,
// "127.0.0.1:8080" or "unix:/path" (open to all users there). Each connection is
// handed to that service of the newest line that has it; while
// there is no line, a connection waits for up to 60 seconds. The listener stays
// until Unlisten or the guest's end, whatever becomes of this line. To listen
// again at the same address changes its service and is no error otherwise.
func (l *Line) Listen(ctx context.Context, service, address string) error {
	_, err := l.call(ctx, wire.MethodListen, wire.Listen{Service: service, Address: address}, nil, nil)
	return err
}

// Unlisten ends a listener. Connections that it took go on. Where there is none
// it is no error.
func (l *Line) Unlisten(ctx context.Context, address string) error {
	_, err := l.call(ctx, wire.MethodUnlisten, wire.Address{Address: address}, nil, nil)
	return err
}

// accept takes the connections that the guest sends up until session ends, or
// holds more streams than a sound guest leaves open. What their services do is
// waited for by Close.
func (l *Line) accept(session *yamux.Session) {
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		if session.NumStreams() > maxStreams {
			l.log.Debug("ending a line", "err", errStreams)
			return
		}
		select {
		case l.slots <- struct{}{}:
			l.done.Go(func() {
				defer func() { <-l.slots }()
				l.take(stream)
			})
		default:
			l.log.Debug("guest opened too many connections", "most", maxIncoming)
			stream.Close()
		}
	}
}

// take reads what a connection from the guest is for and hands it on.
func (l *Line) take(stream *yamux.Stream) {
	stream.SetDeadline(time.Now().Add(offerLimit))
	service, err := l.offered(stream)
	if err != nil {
		l.log.Debug("refused a connection from the guest", "err", err)
		wire.WriteFault(stream, &wire.Fault{Code: wire.CodeRefused, Message: err.Error()})
		stream.Close()
		return
	}
	if err := wire.WriteAnswer(stream, wire.Empty{}, nil); err != nil {
		stream.Close()
		return
	}
	stream.SetDeadline(time.Time{})
	service(wire.NewTunnel(stream))
}

// offered reads which service a connection from the guest is for.
func (l *Line) offered(stream *yamux.Stream) (func(net.Conn), error) {
	const most = 4 << 10
	req, _, err := wire.ReadRequest(stream, most)
	if err != nil {
		return nil, err
	}
	var offer wire.Offer
	if err := json.Unmarshal(req.Params, &offer); err != nil || req.Method != wire.MethodTunnel {
		return nil, errors.New("a line takes tunnels only")
	}
	service := l.service(offer.Service)
	if service == nil {
		return nil, fmt.Errorf("no service %q here", offer.Service)
	}
	return service, nil
}
