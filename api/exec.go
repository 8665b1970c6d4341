package api

import (
	"encoding/json"
	"errors"
	"fmt"
)

// A command in a machine, or a look at a terminal, is one WebSocket. Text
// messages are Frames; binary ones are a stream's byte and then its data. The
// client's first message is a Frame "start"; the server's last one is "exit" or
// "error".

// ExecStream names what a binary message carries.
type ExecStream byte

const (
	ExecStdin  ExecStream = 0
	ExecStdout ExecStream = 1
	ExecStderr ExecStream = 2
)

// The types of a Frame.
const (
	FrameStart  = "start"  // client: Start is set
	FrameResize = "resize" // client: Size is set
	FrameEOF    = "eof"    // client: no more stdin
	FrameAck    = "ack"    // client: Bytes were drawn
	FrameExit   = "exit"   // server: Exit is set
	FrameError  = "error"  // server: Error is set
)

// ExecProtocol is the WebSocket's subprotocol.
const ExecProtocol = "errand.exec.v1"

// The bounds of a window, in bytes.
const (
	LeastWindow = 16 << 10
	MostWindow  = 16 << 20
)

// MaxFrame bounds one WebSocket message in both directions, in bytes.
const MaxFrame = 256 << 10

// Frame is a text message of an exec WebSocket.
type Frame struct {
	Type  string     `json:"type"`
	Start *ExecStart `json:"start,omitempty"`
	Size  *Size      `json:"size,omitempty"`
	Bytes int64      `json:"bytes,omitempty"` // of output, since the ack before
	Exit  *ExecExit  `json:"exit,omitempty"`
	Error *Error     `json:"error,omitempty"`
	// Kind goes with Error: what can be done about it.
	Kind string `json:"kind,omitempty"`
}

// Size is a terminal's size in characters.
type Size struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// ExecStart says what to run. For a terminal only TTY, Window and what is said to
// be for one are read.
type ExecStart struct {
	Args    []string `json:"args,omitempty"`
	Dir     string   `json:"dir,omitempty"`  // "" is the agent's checkout
	User    string   `json:"user,omitempty"` // "" is the environment's user
	Env     []string `json:"env,omitempty"`
	TTY     *Size    `json:"tty,omitempty"`     // run on a pty of this size
	Stdin   bool     `json:"stdin,omitempty"`   // messages for stdin follow
	LimitMs int64    `json:"limitMs,omitempty"` // 0 is none
	// Whole passes on every byte that is printed as it is: programs at both ends
	// speak a protocol. Else secrets are taken out of it.
	Whole bool `json:"whole,omitempty"`
	// Window is how many bytes of output may be on their way that the client has
	// not acknowledged: then the command waits. 0: as many as the connection takes.
	Window int64 `json:"window,omitempty"`
	// For a terminal: look and do not type; without what tmux adds to it, so that
	// all keys go to the terminal's program, and the mouse if it asks for it; fail
	// if it is not there.
	ReadOnly bool `json:"readOnly,omitempty"`
	Bare     bool `json:"bare,omitempty"`
	Existing bool `json:"existing,omitempty"`
}

// ExecExit says how a command ended.
type ExecExit struct {
	Code     int    `json:"code"`
	Signal   string `json:"signal,omitempty"`
	TimedOut bool   `json:"timedOut,omitempty"`
	Dropped  int64  `json:"dropped,omitempty"` // bytes of output that could not be kept
	// Unknown: the machine was restarted meanwhile; nobody knows how it ended.
	Unknown bool `json:"unknown,omitempty"`
}

// PackData makes a binary message.
func PackData(s ExecStream, data []byte) []byte {
	return append([]byte{byte(s)}, data...)
}

// UnpackData reads a binary message.
func UnpackData(message []byte) (ExecStream, []byte, error) {
	if len(message) == 0 || message[0] > byte(ExecStderr) {
		return 0, nil, errors.New("a data message must begin with its stream's byte, 0 to 2")
	}
	return ExecStream(message[0]), message[1:], nil
}

// ParseFrame reads a text message.
func ParseFrame(message []byte) (Frame, error) {
	var f Frame
	if err := json.Unmarshal(message, &f); err != nil {
		return Frame{}, fmt.Errorf("a text message must be a JSON frame: %w", err)
	}
	return f, nil
}
