package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/errand-dev/errand/guest/wire"
)

// maxSilent is how often a guest may close a request's stream without an answer
// while the line itself holds. One that does so forever is broken.
const maxSilent = 5

// call asks the guest and decodes its answer into result, if that is not nil.
// It asks again over a new connection as often as the line breaks, so the
// request must be one that may be repeated.
func (l *Line) call(ctx context.Context, m wire.Method, params any, body []byte, result any) ([]byte, error) {
	var answer []byte
	err := l.again(ctx, func(session *yamux.Session) error {
		var err error
		answer, err = exchange(ctx, session, m, params, body, result)
		return err
	})
	return answer, err
}

// again calls ask with the connection in use until it succeeds or fails for a
// reason that is not the loss of the line.
func (l *Line) again(ctx context.Context, ask func(*yamux.Session) error) error {
	silent := 0
	for {
		session, err := l.connected(ctx)
		if err != nil {
			return err
		}
		err = ask(session)
		if err == nil || ctx.Err() != nil && !isFinal(err) {
			return cmpErr(err, ctx)
		}
		if isFinal(err) {
			return err
		}
		if !closing(ctx, session) {
			if silent++; silent == maxSilent {
				return fmt.Errorf("%w: it does not answer: %w", ErrProtocol, err)
			}
		}
	}
}

// cmpErr gives the context's reason in place of an error that it caused.
func cmpErr(err error, ctx context.Context) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// isFinal says whether err is an answer, and not the loss of the line.
func isFinal(err error) bool {
	var refused *Error
	return errors.As(err, &refused) || errors.Is(err, ErrProtocol)
}

// closing says whether session is closed. The end of a stream may be seen a
// moment before that of its session.
func closing(ctx context.Context, session *yamux.Session) bool {
	t := time.NewTimer(closingWait)
	defer t.Stop()
	select {
	case <-session.CloseChan():
		return true
	case <-ctx.Done():
		return true
	case <-t.C:
		return false
	}
}

// exchange asks once over session.
func exchange(ctx context.Context, session *yamux.Session, m wire.Method, params any, body []byte, result any) ([]byte, error) {
	stream, release, err := open(ctx, session)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := wire.WriteRequest(stream, m, params, body); err != nil {
		return nil, err
	}
	answer, err := wire.ReadAnswer(stream, result)
	return answer, translate(m, err)
}

// open opens a stream that fails when ctx ends. release closes it.
func open(ctx context.Context, session *yamux.Session) (stream *yamux.Stream, release func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	stream, err = openStream(session)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { stream.SetDeadline(time.Now()) })
	return stream, func() { stop(); stream.Close() }, nil
}

var errStreams = errors.New("guest leaves too many streams open")

// openStream opens a stream, or ends a session that holds too many: its guest
// does not close what we closed.
func openStream(session *yamux.Session) (*yamux.Stream, error) {
	if session.NumStreams() >= maxStreams {
		session.Close()
		return nil, errStreams
	}
	return session.OpenStream()
}

// translate turns the wire's errors into this package's.
func translate(m wire.Method, err error) error {
	var f *wire.Fault
	switch {
	case errors.As(err, &f):
		return refusal(m, f)
	case errors.Is(err, wire.ErrFrame):
		return fmt.Errorf("%w: answering %s: %w", ErrProtocol, m, err)
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}
