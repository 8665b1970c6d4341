package wire

import "time"

// TendedStatus says where the command of a tended terminal stands.
type TendedStatus string

const (
	TendedRunning TendedStatus = "running"
	// TendedWaiting: it has crashed and is started again at Next.
	TendedWaiting TendedStatus = "waiting"
	// TendedStopped: somebody pressed Ctrl-C; Enter starts it again.
	TendedStopped TendedStatus = "stopped"
	// TendedEnded: it has ended with 0, or its terminal is closed.
	TendedEnded TendedStatus = "ended"
)

// Tended is how a tended terminal's command stands. The program that tends it
// keeps it beside the terminal, as base64 of JSON in the tmux option TendedOption.
type Tended struct {
	Status   TendedStatus `json:"status"`
	PID      int          `json:"pid,omitempty"` // while it runs
	ExitCode int          `json:"exitCode"`      // of the last time; 128 + the signal's number
	Restarts int          `json:"restarts"`      // how often it was started again
	Since    time.Time    `json:"since"`         // when it came to Status
	Next     time.Time    `json:"next,omitzero"`
	Last     string       `json:"last,omitempty"` // what it showed at its last end, the last lines
}

// The tmux options in which a terminal keeps what is known of it.
const (
	CommandOption = "@errand-command" // base64
	NameOption    = "@errand-name"    // of a terminal that shares its window, base64
	TitleOption   = "@errand-title"   // likewise, for people
	TendedOption  = "@errand-tended"
)

// The tmux options with what the server shows in all terminals.
const (
	StatusOption = "@errand-status"
	SaidOption   = "@errand-said"
)
