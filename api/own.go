package api

import (
	"time"

	"github.com/errand-dev/errand"
)

// Events is a piece of an agent's journal.
type Events struct {
	Items []errand.Event `json:"items"`
	// Next is what to send as after for the events that follow these.
	Next errand.Seq `json:"next"`
}

// Diff is what an agent's branch adds to its base.
type Diff struct {
	Base        string     `json:"base" doc:"Commit that the branch started from."`
	Head        string     `json:"head,omitempty" doc:"Commit that the branch has now."`
	Files       []DiffFile `json:"files"`
	Added       int        `json:"added" doc:"Lines added in all."`
	Deleted     int        `json:"deleted" doc:"Lines deleted in all."`
	Uncommitted bool       `json:"uncommitted,omitempty" doc:"Includes work that is in no commit yet."`
	Patch       string     `json:"patch" doc:"The whole difference as git prints it."`
}

// DiffFile is one file of a Diff.
type DiffFile struct {
	Path    string `json:"path"`
	OldPath string `json:"oldPath,omitempty"`
	Status  string `json:"status"`
	Added   int    `json:"added"`
	Deleted int    `json:"deleted"`
	Binary  bool   `json:"binary,omitempty"`
}

// Terminals are an agent's terminals.
type Terminals struct {
	Items []Terminal `json:"items"`
	// Ports are those that the environment names.
	Ports []Port `json:"ports,omitempty"`
}

// Port is a port that something in an agent's machine listens on.
type Port struct {
	Name string `json:"name,omitempty"`
	Port int    `json:"port"`
}

// Terminal is one named terminal of an agent's machine.
type Terminal struct {
	Name     string `json:"name"`
	Running  bool   `json:"running"`
	ExitCode int    `json:"exitCode,omitempty" doc:"Of the last time that its command ended; 128 and the signal's number for one that a signal ended."`
	Command  string `json:"command,omitempty"`
	Cols     int    `json:"cols,omitempty"`
	Rows     int    `json:"rows,omitempty"`
	// Health is there for the terminals of an environment, whose commands are
	// started again when they crash.
	Health *TerminalHealth `json:"health,omitempty"`
}

// OpenTerminal asks for a new terminal.
type OpenTerminal struct {
	Name string `json:"name,omitempty" maxLength:"64" doc:"Chosen if it is not given."`
}

// TerminalHistory is what a terminal has shown, as it looks now.
type TerminalHistory struct {
	Text      string `json:"text" doc:"Its lines, the screen last, with colours as escape sequences."`
	Alternate bool   `json:"alternate,omitempty" doc:"A program has the whole screen, as an editor does; there are no lines before it."`
}

// TerminalHealth is how a command fares that is started again when it crashes.
type TerminalHealth struct {
	Status   string     `json:"status" enum:"running,waiting,stopped,ended" doc:"waiting: it crashed and is started again at next; stopped: by Ctrl-C, Enter starts it again; ended: with 0."`
	Restarts int        `json:"restarts" doc:"How often it was started again."`
	Since    time.Time  `json:"since" doc:"When it came to its status."`
	Next     *time.Time `json:"next,omitempty" doc:"When it is started again."`
	Last     string     `json:"last,omitempty" doc:"The last lines that it showed before it ended last."`
}

// Health says how the server stands: what `errand doctor` shows.
type Health struct {
	Version  string                   `json:"version"`
	Started  time.Time                `json:"started"`
	Runs     map[errand.RunStatus]int `json:"runs" doc:"Runs that have not ended, by status."`
	RunsMost int                      `json:"runsMost" doc:"How many may be under way at once."`
	Machines map[string]int           `json:"machines" doc:"Machines by state."`
	Models   int                      `json:"models" doc:"How many models can be used."`
	Missing  string                   `json:"missing,omitempty" doc:"What would have to be set for more models."`
	Findings []Finding                `json:"findings" doc:"What the driver found of its host."`
}

// Finding is one thing that a driver looked at on its host.
type Finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed" doc:"Without it nothing runs."`
	Detail string `json:"detail" doc:"What was found, and what to do about it."`
}
