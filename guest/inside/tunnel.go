package inside

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/wire"
)

const (
	dialLimit  = 30 * time.Second
	offerLimit = 5 * time.Second  // for a server to take a connection
	waitLimit  = 60 * time.Second // for a server to be there at all
	maxWaiting = 256              // connections of one listener at once
)

// listener is an address in the machine whose connections go up to a server.
type listener struct {
	net.Listener
	cancel  context.CancelFunc
	service string
	done    chan struct{} // closed when it takes no more
}

// serveTunnel answers what is about connections.
func (g *Guest) serveTunnel(from *line, m wire.Method, s *call) {
	switch m {
	case wire.MethodDial:
		if a, ok := decode[wire.Address](s); ok {
			dialOut(s, a.Address)
		}
	case wire.MethodListen:
		answer(s, func(l wire.Listen) (wire.Empty, error) {
			g.offers(from, l.Service)
			return wire.Empty{}, g.listen(l)
		})
	case wire.MethodUnlisten:
		answer(s, func(a wire.Address) (wire.Empty, error) {
			g.unlisten(a.Address)
			return wire.Empty{}, nil
		})
	}
}

// split gives the network of an address.
func split(address string) (network, rest string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

// dialOut connects and carries the connection until it ends.
func dialOut(s *call, address string) {
	network, rest := split(address)
	conn, err := net.DialTimeout(network, rest, dialLimit)
	if err != nil {
		wire.WriteFault(s, fault(err))
		return
	}
	if err := wire.WriteAnswer(s, wire.Empty{}, nil); err != nil {
		conn.Close()
		return
	}
	wire.Bridge(wire.NewTunnel(s.Stream), conn)
}

// listen opens a listener, or gives the one that is there its service.
func (g *Guest) listen(p wire.Listen) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.listeners[p.Address]; l != nil {
		l.service = p.Service
		return nil
	}
	network, rest := split(p.Address)
	if network == "unix" {
		// What a guest before us left there answers to nobody.
		if err := os.Remove(rest); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	open, err := net.Listen(network, rest)
	if err != nil {
		return err
	}
	if network == "unix" {
		if err := os.Chmod(rest, 0o666); err != nil {
			open.Close()
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{Listener: open, cancel: cancel, service: p.Service, done: make(chan struct{})}
	g.listeners[p.Address] = l
	g.tunnels.Go(func() { g.take(ctx, l) })
	return nil
}

// unlisten ends a listener. Connections that a server has taken go on.
func (g *Guest) unlisten(address string) {
	g.mu.Lock()
	l := g.listeners[address]
	delete(g.listeners, address)
	g.mu.Unlock()
	if l != nil {
		l.cancel()
		l.Close()
		<-l.done
	}
}

func (g *Guest) unlistenAll() {
	g.mu.Lock()
	var all []string
	for address := range g.listeners {
		all = append(all, address)
	}
	g.mu.Unlock()
	for _, address := range all {
		g.unlisten(address)
	}
}

// take accepts connections until the listener is closed.
func (g *Guest) take(ctx context.Context, l *listener) {
	defer close(l.done)
	slots := make(chan struct{}, maxWaiting)
	for {
		conn, err := l.Accept()
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ECONNABORTED) {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
			g.tunnels.Go(func() {
				defer func() { <-slots }()
				g.deliver(ctx, l, conn)
			})
		default:
			conn.Close()
		}
	}
}

// deliver hands conn to the newest server that takes it, and carries it until
// it ends. It waits for a server where there is none.
func (g *Guest) deliver(ctx context.Context, l *listener, conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	for {
		g.mu.Lock()
		lines, changed, service := slices.Clone(g.lines), g.relined.wait(), l.service
		g.mu.Unlock()
		for _, line := range slices.Backward(lines) {
			if !slices.Contains(line.services, service) {
				continue
			}
			if tunnel := offer(line, service); tunnel != nil {
				wire.Bridge(tunnel, conn)
				return
			}
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
	}
}

// offer asks a server to take a connection and gives nil where it does not.
func offer(l *line, service string) net.Conn {
	stream, err := l.session.OpenStream()
	if err != nil {
		return nil
	}
	stream.SetDeadline(time.Now().Add(offerLimit))
	err = wire.WriteRequest(stream, wire.MethodTunnel, wire.Offer{Service: service}, nil)
	if err == nil {
		_, err = wire.ReadAnswer(stream, nil)
	}
	if err != nil {
		stream.Close()
		return nil
	}
	stream.SetDeadline(time.Time{})
	return wire.NewTunnel(stream)
}
