package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hashicorp/yamux"

	"github.com/errand-dev/errand/guest/wire"
)

// Output is a piece of what a command printed.
type Output struct {
	Stderr bool
	// Offset counts both streams together, in bytes from the command's start.
	// Where it is past the end of the piece before, the guest had not kept what
	// is between.
	Offset int64
	Data   []byte // the receiver's to keep
}

// Run starts the command, or joins it where the guest knows its ID already, and
// returns when it has exited. Each piece of output goes to out (which may be
// nil) once and in order, also across loss of the line, from the calling
// goroutine; as long as out does not return, no more is taken. Output that a
// child left behind prints after the exit is not waited for.
//
// The guest keeps output and exit until Forget. When ctx ends, Run returns and
// the command goes on; end it by Signal.
func (l *Line) Run(ctx context.Context, c Command, out func(Output)) (Exit, error) {
	j := &joint{from: c.From, next: c.From, out: out}
	return l.join(ctx, wire.MethodRun, j, func() any { c.From = j.next; return c })
}

// RunBounded is Run for a command that has little to say, whatever the machine
// has made of it: one that prints more than most bytes is killed, and the error
// is ErrTooLarge. out gets none of the piece that goes past the bound.
func (l *Line) RunBounded(ctx context.Context, c Command, most int64, out func(Output)) (Exit, error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var printed int64
	exit, err := l.Run(running, c, func(o Output) {
		// What the guest did not keep counts too.
		if printed = o.Offset + int64(len(o.Data)) - c.From; printed > most {
			stop()
			return
		}
		out(o)
	})
	if printed <= most {
		return exit, err
	}
	if err := l.Signal(ctx, c.ID, "KILL"); err != nil && !errors.Is(err, ErrEnded) {
		return Exit{}, err
	}
	return Exit{}, fmt.Errorf("%w: %s printed more than %d KiB", ErrTooLarge, c.Args[0], most>>10)
}

// Start is Run that returns as soon as the command is started, or is found to
// be. Use Rejoin for its output and its exit.
func (l *Line) Start(ctx context.Context, c Command) error {
	_, err := l.call(ctx, wire.MethodStart, c, nil, nil)
	return err
}

// Rejoin is Run for a command that was started before, with output from offset
// from on. It gives ErrUnknown where the guest does not know id.
func (l *Line) Rejoin(ctx context.Context, id string, from int64, out func(Output)) (Exit, error) {
	j := &joint{from: from, next: from, out: out}
	return l.join(ctx, wire.MethodJoin, j, func() any { return wire.Join{ID: id, From: j.next} })
}

// Known says whether the guest knows a command with this id, running or exited
// and not forgotten.
func (l *Line) Known(ctx context.Context, id string) (bool, error) {
	var k wire.Known
	_, err := l.call(ctx, wire.MethodKnown, wire.Name{ID: id}, nil, &k)
	return k.Known, err
}

// Write gives data to the command's stdin. offset is how many bytes were written
// before: the guest takes each byte once, whatever is asked again. Write blocks
// while more than 1 MiB waits to be read by the command, and returns when the
// guest has the data; that the command has read it is not said. After the
// command has exited, or closed its stdin, the data goes nowhere, without an
// error. To a command that was not started with Stdin or TTY it is an error.
func (l *Line) Write(ctx context.Context, id string, offset int64, data []byte) error {
	const most = 256 << 10
	for len(data) > 0 {
		n := min(len(data), most)
		if _, err := l.call(ctx, wire.MethodInput, wire.Input{ID: id, Offset: offset}, data[:n], nil); err != nil {
			return err
		}
		offset += int64(n)
		data = data[n:]
	}
	return nil
}

// CloseStdin ends the command's stdin after what was written. On a pty it types
// the end-of-file character.
func (l *Line) CloseStdin(ctx context.Context, id string) error {
	_, err := l.call(ctx, wire.MethodInput, wire.Input{ID: id, Close: true}, nil, nil)
	return err
}

// Signal sends a signal ("TERM", "KILL", "INT", "HUP", "QUIT", "USR1", "USR2",
// "CONT", "STOP", "WINCH") to the command's process group. It reaches what the
// command left behind in its group too, also after its exit; where nobody is
// left the error is ErrEnded.
func (l *Line) Signal(ctx context.Context, id, sig string) error {
	_, err := l.call(ctx, wire.MethodSignal, wire.Signal{ID: id, Signal: sig}, nil, nil)
	return err
}

// Resize sets the size of the command's pty.
func (l *Line) Resize(ctx context.Context, id string, size Size) error {
	_, err := l.call(ctx, wire.MethodResize, wire.Resize{ID: id, Size: size}, nil, nil)
	return err
}

// Forget lets the guest drop what it keeps under these ids, of commands (which
// go on if they still run, unwatched) and of changes. Ids are never usable
// again. An id that the guest does not know is no error.
func (l *Line) Forget(ctx context.Context, ids ...string) error {
	for chunk := range slices.Chunk(ids, 10000) {
		if _, err := l.call(ctx, wire.MethodForget, wire.Names{IDs: chunk}, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Processes gives all commands that the guest knows, oldest first.
func (l *Line) Processes(ctx context.Context) ([]Process, error) {
	var p wire.Processes
	_, err := l.call(ctx, wire.MethodProcs, wire.Empty{}, nil, &p)
	return p.Processes, err
}

// joint is one caller's place in a command's output.
type joint struct {
	from    int64 // where it began
	next    int64 // the first offset not handed out yet
	acked   int64 // what the guest was told of that
	frames  int   // since then
	dropped int64
	out     func(Output)
}

// join follows a command to its exit, over as many connections as that takes.
func (l *Line) join(ctx context.Context, m wire.Method, j *joint, params func() any) (Exit, error) {
	var exit Exit
	err := l.again(ctx, func(session *yamux.Session) error {
		stream, release, err := open(ctx, session)
		if err != nil {
			return err
		}
		defer release()
		if err := wire.WriteRequest(stream, m, params(), nil); err != nil {
			return err
		}
		exit, err = j.follow(ctx, stream)
		return translate(m, err)
	})
	if err != nil {
		return Exit{}, err
	}
	exit.Dropped = j.dropped + max(0, exit.End-j.next)
	return exit, nil
}

// follow takes chunks until the answer, or until ctx ends: the stream's deadline
// alone does not end what never has to wait for the next chunk.
func (j *joint) follow(ctx context.Context, stream io.ReadWriter) (Exit, error) {
	r := bufio.NewReaderSize(stream, 16<<10)
	for {
		if ctx.Err() != nil {
			return Exit{}, context.Cause(ctx)
		}
		kind, payload, err := wire.ReadFrame(r, wire.MaxChunk)
		if err != nil {
			return Exit{}, err
		}
		switch kind {
		case wire.KindStdout, wire.KindStderr:
			offset, data, err := wire.Offset(payload)
			if err != nil {
				return Exit{}, err
			}
			j.take(Output{Stderr: kind == wire.KindStderr, Offset: offset, Data: data})
			if err := j.ack(stream); err != nil {
				return Exit{}, err
			}
		case wire.KindHead:
			var exit Exit
			_, err := wire.DecodeAnswer(r, payload, &exit)
			return exit, err
		default:
			return Exit{}, fmt.Errorf("%w: kind %q in output", wire.ErrFrame, kind)
		}
	}
}

// ack tells the guest from time to time what has arrived.
func (j *joint) ack(stream io.Writer) error {
	j.frames++
	if j.next-j.acked < wire.AckBytes && j.frames < wire.AckFrames {
		return nil
	}
	j.acked, j.frames = j.next, 0
	return wire.WriteAck(stream, j.next)
}

// take hands on what was not handed on yet.
func (j *joint) take(o Output) {
	end := o.Offset + int64(len(o.Data))
	if end <= j.next {
		return
	}
	if o.Offset < j.next {
		o.Data = o.Data[j.next-o.Offset:]
		o.Offset = j.next
	}
	j.dropped += o.Offset - j.next
	j.next = end
	if j.out != nil {
		j.out(o)
	}
}
