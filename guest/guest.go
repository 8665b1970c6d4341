// Package guest is the server's side of a machine's guest: it runs commands,
// reads and changes files, keeps terminals and carries tunnels in any machine to
// which a driver gives a byte stream.
//
// Three ideas carry it. The line may break at any time, so every call that does
// something names it by an id that the caller chose: the guest does it once,
// keeps the result until Forget, and a Line that lost its connection asks again
// by the same id. Output has offsets, so that what was handed out is not handed
// out again. And a guest that was started anew is another guest: its Boot
// differs, a Line does not go on with it, and every call says ErrRebooted.
//
// What comes up the line is untrusted. It is bounded and parsed, and no path in
// it is ever followed on the host.
//
// The package makes no machines and knows no driver. The other side is
// guest/inside, the words between them are guest/wire.
package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/wire"
)

// Options are for Open. The zero value is right for plain use.
type Options struct {
	// Log gets debug lines about the line itself; nil is none.
	Log *slog.Logger
	// Services are what programs in the machine may reach through Listen, by
	// name. Each connection is handed to its service in a goroutine of its own;
	// the service closes it. Close waits for all of them.
	Services map[string]func(net.Conn)
	// Gone says which errors of dial are final (the machine is stopped or
	// removed). Every other one is tried again. Nil: none is final.
	Gone func(error) bool
}

// Artifacts is the folder in a machine for what an agent leaves for people.
const Artifacts = wire.Artifacts

// The nouns of a machine, in the form in which they travel.
type (
	Hello         = wire.Hello
	Size          = wire.Size
	Command       = wire.Command
	Exit          = wire.Exit
	Process       = wire.Process
	Stat          = wire.Stat
	ListOptions   = wire.ListOptions
	Listing       = wire.Listing
	SearchOptions = wire.SearchOptions
	SearchResult  = wire.SearchResult
	Match         = wire.Match
	ChangeKind    = wire.ChangeKind
	FileChange    = wire.FileChange
	Edit          = wire.Edit
	Tended        = wire.Tended
	ChangeResult  = wire.ChangeResult
	FileResult    = wire.FileResult
)

// What a FileChange can do.
const (
	ChangeWrite  = wire.ChangeWrite
	ChangeCreate = wire.ChangeCreate
	ChangeEdit   = wire.ChangeEdit
	ChangeDelete = wire.ChangeDelete
	ChangeMove   = wire.ChangeMove
)

// Where a tended command can stand.
const (
	TendedRunning = wire.TendedRunning
	TendedWaiting = wire.TendedWaiting
	TendedStopped = wire.TendedStopped
	TendedEnded   = wire.TendedEnded
)

var (
	// ErrClosed: Close was called.
	ErrClosed = errors.New("line is closed")
	// ErrRebooted: the guest was started anew since the line was opened. Its
	// commands, results and listeners of before are gone, and nobody knows how
	// those that were under way ended. Open a new line to go on.
	ErrRebooted = errors.New("machine was restarted")
	// ErrUnknown: the guest knows no command with this id.
	ErrUnknown = errors.New("no such command in the machine")
	// ErrForgotten: the id was used once and forgotten; it cannot be used again.
	ErrForgotten = errors.New("id was used before")
	// ErrNotStarted: the program could not be started (it is missing, or its
	// directory or user is). The error's text says which. It is the id's result.
	ErrNotStarted = errors.New("command was not started")
	// ErrEnded: the command has exited, so there is nothing to write to or to
	// signal.
	ErrEnded = errors.New("command has exited")
	// ErrOutside: the path leaves its root.
	ErrOutside = errors.New("path is outside")
	// ErrTooLarge: a bound was passed that the error's text names.
	ErrTooLarge = errors.New("too large")
	// ErrMismatch: an edit's old text is not there, or is there more than once.
	ErrMismatch = errors.New("edit does not match")
	// ErrRefused: nothing answers at the address.
	ErrRefused = errors.New("connection refused in the machine")
	// ErrProtocol: the guest does not speak as it should.
	ErrProtocol = errors.New("guest broke the protocol")

	// ErrNoTmux: the machine's image has no tmux, which terminals need.
	ErrNoTmux error = errand.Errorf(errand.Conflict, "no_tmux",
		"The machine has no tmux, which terminals need. Add tmux to the environment's image or install command.")
)

// Error is the guest's refusal of one request. With errors.Is it is the error
// of this package or of io/fs that fits it, so that callers need not look at
// Code.
type Error struct {
	Method  string // what was asked
	Code    string // wire's
	Message string // the guest's words
}

// Error gives the guest's words.
func (e *Error) Error() string { return e.Message }

var kinds = map[string]error{
	wire.CodeNotExist:   fs.ErrNotExist,
	wire.CodeExist:      fs.ErrExist,
	wire.CodePermission: fs.ErrPermission,
	wire.CodeInvalid:    fs.ErrInvalid,
	wire.CodeOutside:    ErrOutside,
	wire.CodeTooLarge:   ErrTooLarge,
	wire.CodeMismatch:   ErrMismatch,
	wire.CodeUnknown:    ErrUnknown,
	wire.CodeForgotten:  ErrForgotten,
	wire.CodeNotStarted: ErrNotStarted,
	wire.CodeEnded:      ErrEnded,
	wire.CodeRefused:    ErrRefused,
}

// Is says whether target is the error that stands for e's code.
func (e *Error) Is(target error) bool { return target == kinds[e.Code] && target != nil }

// refusal gives a fault from the wire as an Error, bounded.
func refusal(m wire.Method, f *wire.Fault) error {
	const most = 8 << 10
	e := &Error{Method: string(m), Code: f.Code, Message: f.Message}
	if len(e.Message) > most {
		e.Message = e.Message[:most] + "…"
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("guest refused %s", m)
	}
	return e
}
