package guest

import (
	"context"
	"errors"
)

// Terminal is a named tmux session to open.
type Terminal struct {
	Name    string   // 1 to 64 bytes of printable text
	Command string   // for the user's shell; "" is the shell itself
	Dir     string   // absolute; "" is the user's home
	User    string   // as in Command; "" is root
	Env     []string // added to the machine's environment
}

// TerminalState is a terminal as it stands.
type TerminalState struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Running  bool   `json:"running"`
	ExitCode int    `json:"exitCode"` // where not Running
	Command  string `json:"command"`  // as it was opened; "" is a shell
	Cols     int    `json:"cols"`
	Rows     int    `json:"rows"`
}

var errTODO = errors.New("not built yet")

// OpenTerminal makes a terminal, or finds the one of this name, running or not.
// It stays when its command has ended, until CloseTerminal.
func (l *Line) OpenTerminal(ctx context.Context, t Terminal) error { return errTODO }

// Terminals gives all terminals of the machine, by name.
func (l *Line) Terminals(ctx context.Context) ([]TerminalState, error) { return nil, errTODO }

// Capture gives what a terminal shows as text: its screen and lines of
// scrollback before it, negative for all. A name that is not there is
// fs.ErrNotExist.
func (l *Line) Capture(ctx context.Context, name string, lines int) (string, error) {
	return "", errTODO
}

// Type types text into a terminal, and Enter after it if enter is set. op is an
// id as for WriteFile: under it the text is typed once.
func (l *Line) Type(ctx context.Context, op, name, text string, enter bool) error { return errTODO }

// CloseTerminal ends a terminal and what runs in it. To close again is no error.
func (l *Line) CloseTerminal(ctx context.Context, name string) error { return errTODO }

// AttachCommand gives the argv with which Run on a TTY shows a terminal. A
// viewer that is readOnly types nothing. It does not ask the guest.
func (l *Line) AttachCommand(name string, readOnly bool) []string { return nil }
