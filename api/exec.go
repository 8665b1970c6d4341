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
	FrameExit   = "exit"   // server: Exit is set
	FrameError  = "error"  // server: Error is set
)

// ExecProtocol is the WebSocket's subprotocol.
const ExecProtocol = "errand.exec.v1"

// MaxFrame bounds one WebSocket message in both directions, in bytes.
const MaxFrame = 256 << 10

// Frame is a text message of an exec WebSocket.
type Frame struct {
	Type  string     `json:"type"`
	Start *ExecStart `json:"start,omitempty"`
	Size  *Size      `json:"size,omitempty"`
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

// ExecStart says what to run. For a terminal only TTY and ReadOnly are read.
type ExecStart struct {
	Args     []string `json:"args,omitempty"`
	Dir      string   `json:"dir,omitempty"`  // "" is the agent's checkout
	User     string   `json:"user,omitempty"` // "" is the environment's user
	Env      []string `json:"env,omitempty"`
	TTY      *Size    `json:"tty,omitempty"`      // run on a pty of this size
	Stdin    bool     `json:"stdin,omitempty"`    // messages for stdin follow
	LimitMs  int64    `json:"limitMs,omitempty"`  // 0 is none
	ReadOnly bool     `json:"readOnly,omitempty"` // look, do not type
	// Whole passes on every byte that is printed as it is: programs at both ends
	// speak a protocol. Else secrets are taken out of it.
	Whole bool `json:"whole,omitempty"`
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
