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
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
)

// Streams are one person's side.
type Streams struct {
	In     io.Reader         // nil: no input; its end closes the command's stdin
	Resize <-chan guest.Size // nil: the size stays
	Signal <-chan string     // for the command, "TERM" and the like; nil: none
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
	if s.In == nil && s.Resize == nil && s.Signal == nil {
		return line.Run(ctx, c, s.Out)
	}
	if err := line.Start(ctx, c); err != nil {
		return guest.Exit{}, err
	}
	if s.Resize != nil && c.TTY != nil {
		go follow(ctx, s.Resize, func(size guest.Size) error { return line.Resize(ctx, c.ID, size) })
	}
	if s.Signal != nil {
		go follow(ctx, s.Signal, func(sig string) error { return line.Signal(ctx, c.ID, sig) })
	}
	if s.In != nil {
		// Ends with the input or the command, or the machine, as what follows does.
		// A Read that blocks is its owner's to end, by closing what it reads.
		go func() { _ = line.Feed(ctx, c.ID, s.In) }()
	}
	return line.Rejoin(ctx, c.ID, 0, s.Out)
}

// follow does something with each of what comes, until ctx ends or the line does.
// What the guest refuses is left out.
func follow[T any](ctx context.Context, news <-chan T, do func(T) error) {
	for {
		select {
		case one, ok := <-news:
			if !ok {
				return
			}
			if err := do(one); err != nil && !errors.As(err, new(*guest.Error)) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// View says which terminal a person looks at.
type View struct {
	Name     string
	ReadOnly bool // what is typed is not heard
	// Bare leaves out what tmux adds: see guest.Viewing.
	Bare bool
	// Existing wants it to be there. Else it is made, with a shell, where it is not.
	Existing bool
	Size     guest.Size
	Dir      string // where a new one starts
	User     string // whose a new one is
	Env      []string
}

// viewPrefix begins the ids of the commands that show terminals.
const viewPrefix = "view."

// Attach shows the terminal until ctx or the input ends, or the person detaches
// (tmux's own key). The terminal goes on. One that has to be there and is not is
// NotFound.
//
// Nothing of what it shows is kept for who does not take it: then tmux's client
// waits, and tmux leaves out what has passed meanwhile.
func Attach(ctx context.Context, line *guest.Line, v View, s Streams) error {
	if err := v.open(ctx, line); err != nil {
		return err
	}
	argv, err := line.AttachCommand(ctx, v.Name, guest.Viewing{ReadOnly: v.ReadOnly, Bare: v.Bare})
	if err != nil {
		return fmt.Errorf("finding terminal %s: %w", v.Name, err)
	}
	exit, err := Run(ctx, line, guest.Command{
		ID: viewPrefix + uuid.NewString(), Args: argv, TTY: &v.Size,
		Env: []string{"TERM=xterm-256color"}, Hold: true,
	}, s)
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return errand.Errorf(errand.Unavailable, "terminal_ended", "Terminal %s ended.", v.Name)
	}
	return nil
}

// open sees to it that the terminal is there.
func (v View) open(ctx context.Context, line *guest.Line) error {
	if !v.Existing {
		if err := line.OpenTerminal(ctx, guest.Terminal{Name: v.Name, Dir: v.Dir, User: v.User, Env: v.Env}); err != nil {
			return fmt.Errorf("opening terminal %s: %w", v.Name, err)
		}
		return nil
	}
	all, err := line.Terminals(ctx)
	if err != nil {
		return fmt.Errorf("finding terminal %s: %w", v.Name, err)
	}
	if !slices.ContainsFunc(all, func(t guest.TerminalState) bool { return t.Name == v.Name }) {
		return Missing(v.Name)
	}
	return nil
}

// Missing is the error for a terminal that is not there.
func Missing(name string) error {
	return errand.Errorf(errand.NotFound, "terminal_not_found", "There is no terminal %q in the agent's machine. It may have been closed, or the machine stopped.", name)
}

// maxNumbered bounds the numbers of names that Open chooses.
const maxNumbered = 1000

// Open makes a terminal with a shell and gives its name: t's, which must be free
// (else the error is a Conflict), or the first free one of shell-1, shell-2….
func Open(ctx context.Context, line *guest.Line, t guest.Terminal) (string, error) {
	if t.Name != "" {
		err := line.NewTerminal(ctx, t)
		if errors.Is(err, fs.ErrExist) {
			err = errand.Errorf(errand.Conflict, "terminal_exists", "There is a terminal %q already. Look at that one, or choose another name.", t.Name)
		}
		return t.Name, unfit(err)
	}
	for n := 1; n <= maxNumbered; n++ {
		t.Name = "shell-" + strconv.Itoa(n)
		if err := line.NewTerminal(ctx, t); !errors.Is(err, fs.ErrExist) {
			return t.Name, err
		}
	}
	return "", errand.Errorf(errand.Limited, "too_many_terminals", "The machine has more than %d terminals. End some of them.", maxNumbered)
}

// unfit tells a person of a name that no terminal can have.
func unfit(err error) error {
	if errors.Is(err, fs.ErrInvalid) {
		return errand.Errorf(errand.Invalid, "validation_error", "A terminal's name has 1 to 64 bytes of printable text.")
	}
	return err
}

// Sweep ends the views that a server which was killed has left in a machine:
// nobody reads them any more, and each would go on having a say in its terminal's
// size. It is for a line on which nobody looks yet.
func Sweep(ctx context.Context, line *guest.Line) error {
	all, err := line.Processes(ctx)
	if err != nil {
		return err
	}
	var left []string
	for _, p := range all {
		if !strings.HasPrefix(p.ID, viewPrefix) {
			continue
		}
		left = append(left, p.ID)
		if err := line.Signal(ctx, p.ID, "KILL"); err != nil && !errors.Is(err, guest.ErrEnded) {
			return err
		}
	}
	return line.Forget(ctx, left...)
}
