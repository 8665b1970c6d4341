// Package terminal joins a person's keyboard and screen with a machine: a
// command with its streams, or a named terminal that people and agent share.
//
// A shared terminal is a tmux session on the machine. Attaching is running
// tmux's own client there with a pty, so that several people, and the agent,
// see the same screen, and the terminal goes on when they leave.
//
// It holds no protocol: package server carries the streams over a WebSocket.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
)

// Streams are one person's side.
type Streams struct {
	In     io.Reader         // nil: no input; its end closes the command's stdin
	Resize <-chan guest.Size // nil: the size stays
	Out    func(guest.Output)
}

// Run runs a command with a person's streams until it ends. When ctx ends first
// the command is killed. The command's record at the guest is forgotten.
func Run(ctx context.Context, line *guest.Line, c guest.Command, s Streams) (guest.Exit, error) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	if s.In != nil {
		c.Stdin = true
	}
	exit, err := start(inner, line, c, s)
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if ctx.Err() != nil {
		err = errors.Join(ctx.Err(), line.Signal(clean, c.ID, "KILL"))
	}
	return exit, errors.Join(err, line.Forget(clean, c.ID))
}

// start starts the command, joins the person's side to it and waits for its
// exit, until ctx ends. Only a command that the guest knows can be written to and
// resized.
func start(ctx context.Context, line *guest.Line, c guest.Command, s Streams) (guest.Exit, error) {
	if s.In == nil && s.Resize == nil {
		return line.Run(ctx, c, s.Out)
	}
	if err := line.Start(ctx, c); err != nil {
		return guest.Exit{}, err
	}
	if s.Resize != nil && c.TTY != nil {
		go follow(ctx, line, c.ID, s.Resize)
	}
	if s.In != nil {
		// Ends with the input or the command. A Read that blocks is its
		// owner's to end, by closing what it reads.
		go feed(ctx, line, c.ID, s.In)
	}
	return line.Rejoin(ctx, c.ID, 0, s.Out)
}

// feed passes on what is typed as it is typed, and its end. What comes while a
// piece is on its way goes with the next.
func feed(ctx context.Context, line *guest.Line, id string, in io.Reader) {
	pieces := make(chan []byte, 16)
	var end error // why there are no more
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(pieces)
		end = readPieces(ctx, in, pieces)
	}()
	offset := int64(0)
	for piece := range pieces {
		piece = gather(piece, pieces)
		if line.Write(ctx, id, offset, piece) != nil {
			return // the command has ended, or the machine
		}
		offset += int64(len(piece))
	}
	if errors.Is(end, io.EOF) {
		_ = line.CloseStdin(ctx, id) // likewise
	}
}

// readPieces reads in until it ends, which is the error, or ctx does.
func readPieces(ctx context.Context, in io.Reader, pieces chan<- []byte) error {
	for {
		buf := make([]byte, 32<<10)
		n, err := in.Read(buf)
		if n > 0 {
			select {
			case pieces <- buf[:n]:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

// gather adds to a piece those that are there already.
func gather(piece []byte, pieces <-chan []byte) []byte {
	for {
		select {
		case more, ok := <-pieces:
			if !ok {
				return piece
			}
			piece = append(piece, more...)
		default:
			return piece
		}
	}
}

func follow(ctx context.Context, line *guest.Line, id string, sizes <-chan guest.Size) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || line.Resize(ctx, id, size) != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// View says which terminal a person looks at.
type View struct {
	Name     string // made, with a shell, if it is not there
	ReadOnly bool   // what is typed is not heard
	Size     guest.Size
	Dir      string // where a new one starts
	User     string // whose a new one is
	Env      []string
}

// Attach shows the terminal until ctx or the input ends, or the person detaches
// (tmux's own key). The terminal goes on.
func Attach(ctx context.Context, line *guest.Line, v View, s Streams) error {
	if err := line.OpenTerminal(ctx, guest.Terminal{Name: v.Name, Dir: v.Dir, User: v.User, Env: v.Env}); err != nil {
		return fmt.Errorf("opening terminal %s: %w", v.Name, err)
	}
	argv, err := line.AttachCommand(ctx, v.Name, v.ReadOnly)
	if err != nil {
		return fmt.Errorf("finding terminal %s: %w", v.Name, err)
	}
	exit, err := Run(ctx, line, guest.Command{
		ID: "view." + uuid.NewString(), Args: argv, TTY: &v.Size,
		Env: []string{"TERM=xterm-256color"},
	}, s)
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return errand.Errorf(errand.Unavailable, "terminal_ended", "Terminal %s ended.", v.Name)
	}
	return nil
}
