package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/errand-dev/errand/guest/wire"
)

// Feed writes all of r to the command's stdin, each piece as it is read, and
// closes stdin at r's end. Up to 1 MiB is under way at once; the rest is as with
// Write. It is for a command to whose stdin nothing was written yet. A Read that
// blocks when Feed returns, because ctx has ended or the command is gone, is its
// owner's to end.
func (l *Line) Feed(ctx context.Context, id string, r io.Reader) error {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	f := &feed{id: id, next: make(chan []byte), free: make(chan []byte, wire.FeedFrames+1)}
	go f.read(reading, r)
	err := l.again(ctx, func(session *yamux.Session) error { return f.over(ctx, session) })
	if refused := (*Error)(nil); errors.As(err, &refused) && refused.Code == wire.CodeInvalid {
		err = f.each(ctx, l) // a guest of before does not know it
	}
	switch {
	case err != nil:
		return err
	case !errors.Is(f.end, io.EOF):
		return fmt.Errorf("reading stdin for %s: %w", id, f.end)
	}
	return l.CloseStdin(ctx, id)
}

// feed is what is on its way to a command's stdin: frames, which stay until the
// guest has acknowledged them.
type feed struct {
	id   string
	next chan []byte // read, in order; closed at the end
	free chan []byte // to be read into
	end  error       // why no more is read; set before next is closed

	ended bool
	way   [][]byte // sent, and not acknowledged
	from  int64    // where the first of these stands
	sent  int64    // where the last of these ends
}

// read makes frames of r until it ends or ctx does.
func (f *feed) read(ctx context.Context, r io.Reader) {
	defer close(f.next)
	for made := 0; f.end == nil; {
		var b []byte
		if made <= wire.FeedFrames && len(f.free) == 0 {
			made++
			b = make([]byte, wire.HeaderSize+wire.MaxFeed)
		} else {
			select {
			case b = <-f.free:
			case <-ctx.Done():
				f.end = context.Cause(ctx)
				return
			}
		}
		n, err := r.Read(b[wire.HeaderSize:cap(b)])
		f.end = err
		if n == 0 {
			f.free <- b
			continue
		}
		b = b[:wire.HeaderSize+n]
		wire.Frame(b, wire.KindBody)
		select {
		case f.next <- b:
		case <-ctx.Done():
			f.end = context.Cause(ctx)
		}
	}
}

// over feeds the command over one connection: first what was not acknowledged
// over the one before, then what comes, until all has arrived.
func (f *feed) over(ctx context.Context, session *yamux.Session) error {
	stream, release, err := open(ctx, session)
	if err != nil {
		return err
	}
	defer release()
	if err := wire.WriteRequest(stream, wire.MethodFeed, wire.Input{ID: f.id, Offset: f.from}, nil); err != nil {
		return err
	}
	acks := make(chan int64)
	var unread error // why there are no more
	go func() {
		defer close(acks)
		unread = readAcks(stream, acks)
		stream.SetWriteDeadline(time.Now()) // what is not acknowledged need not be sent
	}()
	err = f.send(stream, acks)
	stream.SetReadDeadline(time.Now())
	for range acks {
	}
	if refused := translate(wire.MethodFeed, unread); err != nil && isFinal(refused) {
		return refused
	}
	return translate(wire.MethodFeed, err)
}

// readAcks passes on acks until the stream's end, which is the error.
func readAcks(stream io.Reader, acks chan<- int64) error {
	for r := bufio.NewReaderSize(stream, 64); ; {
		kind, payload, err := wire.ReadFrame(r, wire.MaxAnswer)
		if err != nil {
			return err
		}
		if kind != wire.KindAck {
			if _, err := wire.DecodeAnswer(r, payload, nil); err != nil {
				return err
			}
			return fmt.Errorf("%w: kind %q where an ack was due", wire.ErrFrame, kind)
		}
		offset, _, err := wire.Offset(payload)
		if err != nil {
			return err
		}
		acks <- offset
	}
}

// send sends until all has arrived, or acks ends, which is io.EOF.
func (f *feed) send(stream io.Writer, acks <-chan int64) error {
	for _, b := range f.way {
		if _, err := stream.Write(b); err != nil {
			return err
		}
	}
	for !f.ended || len(f.way) > 0 {
		next := f.next
		if f.ended || len(f.way) == wire.FeedFrames {
			next = nil
		}
		select {
		case b, ok := <-next:
			if !ok {
				f.ended = true
				continue
			}
			f.way = append(f.way, b)
			f.sent += int64(len(b) - wire.HeaderSize)
			if _, err := stream.Write(b); err != nil {
				return err
			}
		case offset, ok := <-acks:
			if !ok {
				return io.EOF
			}
			if offset > f.sent {
				return fmt.Errorf("%w: %d bytes are acknowledged of %d", wire.ErrFrame, offset, f.sent)
			}
			f.arrived(offset)
		}
	}
	return nil
}

// arrived lets go of the frames before offset.
func (f *feed) arrived(offset int64) {
	for len(f.way) > 0 {
		b := f.way[0]
		end := f.from + int64(len(b)-wire.HeaderSize)
		if end > offset {
			return
		}
		f.from, f.way = end, f.way[1:]
		f.free <- b
	}
}

// each writes what there is and what comes by a request for each frame.
func (f *feed) each(ctx context.Context, l *Line) error {
	write := func(b []byte) error {
		defer func() { f.free <- b }()
		offset := f.from
		f.from += int64(len(b) - wire.HeaderSize)
		return l.Write(ctx, f.id, offset, b[wire.HeaderSize:])
	}
	for _, b := range f.way {
		if err := write(b); err != nil {
			return err
		}
	}
	for b := range f.next {
		if err := write(b); err != nil {
			return err
		}
	}
	return nil
}
