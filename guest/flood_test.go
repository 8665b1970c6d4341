package guest_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/wire"
)

// rogue is the machine's end of lines, spoken by a guest that is not ours.
type rogue struct {
	t     *testing.T
	conns chan net.Conn
}

// newRogue opens a line to a rogue. open gives it once the first has greeted.
func newRogue(t *testing.T) (r *rogue, open func() *guest.Line) {
	r = &rogue{t, make(chan net.Conn)}
	type opened struct {
		line *guest.Line
		err  error
	}
	lines := make(chan opened, 1)
	ctx := within(t, 60*time.Second)
	go func() {
		l, err := guest.Open(ctx, r.dial, guest.Options{})
		lines <- opened{l, err}
	}()
	return r, func() *guest.Line {
		t.Helper()
		o := <-lines
		must(t, o.err)
		t.Cleanup(func() { o.line.Close() })
		return o.line
	}
}

func (r *rogue) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case r.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// greet takes the next connection and says hello.
func (r *rogue) greet() *yamux.Session {
	r.t.Helper()
	session, err := wire.Server(<-r.conns, slog.New(slog.DiscardHandler))
	must(r.t, err)
	r.t.Cleanup(func() { session.Close() })
	stream, err := session.AcceptStream()
	must(r.t, err)
	_, _, err = wire.ReadRequest(stream, wire.MaxRequest)
	must(r.t, err)
	must(r.t, wire.WriteAnswer(stream, wire.Hello{Version: wire.Version, Boot: "rogue"}, nil))
	must(r.t, stream.Close())
	return session
}

// fill opens a stream for a service that is not there and stuffs it.
func fill(session *yamux.Session, content []byte) error {
	stream, err := session.OpenStream()
	if err != nil {
		return err
	}
	if err := wire.WriteRequest(stream, wire.MethodTunnel, wire.Offer{Service: "none"}, nil); err != nil {
		return err
	}
	_, err = stream.Write(content)
	return err
}

// TestStreamsAreBounded: a guest that closes nothing and fills what it opens is
// cut off, and what it sent goes with the line.
func TestStreamsAreBounded(t *testing.T) {
	const lines, most = 6, 1000
	content := make([]byte, 64<<10)
	r, open := newRogue(t)
	for range lines {
		session := r.greet()
		for n := 1; fill(session, content) == nil; n++ {
			if n == most {
				t.Fatalf("a guest has %d streams open", n)
			}
		}
		<-session.CloseChan()
	}
	r.greet() // so that what was before is gone
	if err := open().Err(); err != nil {
		t.Error(err)
	}
	var mem runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&mem)
	if mem.HeapAlloc > 64<<20 {
		t.Errorf("%d MiB are kept of lines that ended", mem.HeapAlloc>>20)
	}
}

// TestOurStreamsAreBounded: a guest that never closes what we have closed is cut
// off too, and asked again.
func TestOurStreamsAreBounded(t *testing.T) {
	const calls = 700
	r, open := newRogue(t)
	session := r.greet()
	l := open()
	ended := make(chan error, 1)
	go func() {
		defer l.Close()
		for range calls {
			if _, err := l.Processes(context.Background()); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	var answered []int
	for range 2 {
		n := 0
		for answerOne(session, &n) == nil {
		}
		answered = append(answered, n)
		if len(answered) == 1 {
			session = r.greet()
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if answered[0] == 0 || answered[1] == 0 || answered[0]+answered[1] != calls {
		t.Errorf("%v requests were answered over one line each, want %d over two", answered, calls)
	}
}

// TestRunEndsWithItsContext also when the guest always has more to tell.
func TestRunEndsWithItsContext(t *testing.T) {
	r, open := newRogue(t)
	session := r.greet()
	l := open()
	ctx, cancel := context.WithCancel(t.Context())
	handed := 0
	stuffed := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		_, err := l.Run(ctx, guest.Command{ID: "endless", Args: []string{"yes"}}, func(guest.Output) {
			handed++
			cancel()
			<-stuffed
		})
		ended <- err
	}()
	stream, err := session.AcceptStream()
	must(t, err)
	_, _, err = wire.ReadRequest(stream, wire.MaxRequest)
	must(t, err)
	piece := make([]byte, 32<<10)
	for i := range 4 { // which the line takes without anybody who reads it
		must(t, wire.WriteChunk(stream, false, int64(i*len(piece)), piece))
	}
	close(stuffed)
	if err := <-ended; !errors.Is(err, context.Canceled) || handed != 1 {
		t.Errorf("%v after %d pieces, of which one came before the end", err, handed)
	}
}

// answerOne counts and answers one request and leaves its stream open. That the
// answer arrived ends the last line, perhaps before we hear that it was sent.
func answerOne(session *yamux.Session, n *int) error {
	stream, err := session.AcceptStream()
	if err != nil {
		return err
	}
	if _, _, err := wire.ReadRequest(stream, wire.MaxRequest); err != nil {
		return err
	}
	*n++
	return wire.WriteAnswer(stream, wire.Processes{}, nil)
}
