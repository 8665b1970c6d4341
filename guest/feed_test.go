package guest_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/wire"
)

// TestFeedEndsWithItsContext: a command that reads nothing holds up what it is fed
// until somebody ends that, and can be ended.
func TestFeedEndsWithItsContext(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	c := sh("sleep 100")
	c.ID, c.Stdin = id(), true
	if err := l.Start(ctx, c); err != nil {
		t.Fatal(err)
	}
	fed, cancel := context.WithCancel(ctx)
	defer cancel()
	much := &counted{Reader: strings.NewReader(strings.Repeat("x", 8<<20)), after: 2 << 20, then: cancel}
	if err := l.Feed(fed, c.ID, much); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context ended: %v", err)
	}
	if err := l.Signal(ctx, c.ID, "KILL"); err != nil {
		t.Error(err)
	}
	if exit, err := l.Rejoin(ctx, c.ID, 0, nil); err != nil || exit.Signal != "KILL" {
		t.Errorf("%+v, %v", exit, err)
	}
}

// counted does something once so many bytes were read.
type counted struct {
	io.Reader
	after int
	then  func()
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if c.after -= n; c.after <= 0 {
		c.then()
	}
	return n, err
}

// TestFeedToOlderGuest: one that knows no feed is written to piece by piece.
func TestFeedToOlderGuest(t *testing.T) {
	r, open := newRogue(t)
	session := r.greet()
	l := open()
	ended := make(chan error, 1)
	go func() { ended <- l.Feed(within(t, 30*time.Second), "cat", strings.NewReader("typed")) }()
	var asked []wire.Method
	var took string
	for len(asked) < 3 {
		stream, err := session.AcceptStream()
		must(t, err)
		req, body, err := wire.ReadRequest(stream, wire.MaxRequest)
		must(t, err)
		asked = append(asked, req.Method)
		if took += string(body); req.Method == wire.MethodFeed {
			must(t, wire.WriteFault(stream, &wire.Fault{Code: wire.CodeInvalid, Message: "no such method"}))
		} else {
			must(t, wire.WriteAnswer(stream, wire.Empty{}, nil))
		}
		must(t, stream.Close())
	}
	if err := <-ended; err != nil || took != "typed" || asked[2] != wire.MethodInput {
		t.Errorf("%v: it was asked to %q and took %q", err, asked, took)
	}
}

// TestFeedAckedTooFar: a guest that has more than it was given is none of ours.
func TestFeedAckedTooFar(t *testing.T) {
	r, open := newRogue(t)
	session := r.greet()
	l := open()
	ended := make(chan error, 1)
	go func() { ended <- l.Feed(within(t, 30*time.Second), "cat", strings.NewReader("typed")) }()
	stream, err := session.AcceptStream()
	must(t, err)
	_, _, err = wire.ReadRequest(stream, wire.MaxRequest)
	must(t, err)
	must(t, wire.WriteAck(stream, 1000))
	if err := <-ended; !errors.Is(err, guest.ErrProtocol) {
		t.Errorf("it ended with %v", err)
	}
}
