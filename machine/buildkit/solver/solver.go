// Package solver has BuildKit's client do one thing: build, shrink the cache, or
// say what is odd about a Dockerfile.
//
// The client is a program of its own, errand-buildkit, which is started for each
// of these and ends with it: BuildKit's libraries would cost a server as much
// memory as a third of all else in it, needed or not. It is told what to do in one
// line of JSON on its standard input, which stays open until it has: its end is
// that nobody wants the outcome any more, so that the program never outlives its
// server. It answers with lines on its standard output.
//
// Package inside below this is what the program does, and alone imports the
// libraries.
package solver

import (
	"time"

	"github.com/errand-dev/errand/dockerfile"
)

// Task is what the program is told: one of these.
type Task struct {
	Solve  *Solve  `json:"solve,omitempty"`
	Shrink *Shrink `json:"shrink,omitempty"`
	Lint   *Lint   `json:"lint,omitempty"`
}

// Solve asks the daemon for an image.
type Solve struct {
	Socket string `json:"socket"` // path of the daemon's
	// Attrs are those of the frontend dockerfile.v0.
	Attrs map[string]string `json:"attrs,omitempty"`
	// Mounts are the directories that the daemon may ask for, by name.
	Mounts  map[string]string `json:"mounts,omitempty"`
	Secrets map[string][]byte `json:"secrets,omitempty"`
	// Out is the directory that the image is handed over in, as an OCI layout
	// without its index.
	Out string `json:"out"`
	// Known is a directory with a file for each layer that is not handed over
	// again, named by the digest; "" hands over all.
	Known string `json:"known,omitempty"`
	// Reserve is how many bytes of Out's file system are left free.
	Reserve int64 `json:"reserve,omitempty"`
}

// Shrink takes Bytes off the daemon's cache, from what was used least recently.
type Shrink struct {
	Socket string `json:"socket"`
	Bytes  int64  `json:"bytes"`
}

// Lint asks what BuildKit's linter says of a Dockerfile that can be parsed.
type Lint struct {
	Text []byte `json:"text"`
}

// line is one that the program answers. The last has Done.
type line struct {
	Status   *Status              `json:"status,omitempty"`
	Digest   string               `json:"digest,omitempty"` // of the image's manifest
	Findings []dockerfile.Finding `json:"findings,omitempty"`
	Failure  *Failure             `json:"failure,omitempty"`
	Done     bool                 `json:"done,omitempty"`
}

// Status is what is new about the steps of a build: BuildKit's SolveStatus, with
// what is used of it.
type Status struct {
	Vertexes []Vertex `json:"vertexes,omitempty"`
	Logs     []Log    `json:"logs,omitempty"`
}

// Vertex is a step, as it is now.
type Vertex struct {
	Digest    string     `json:"digest,omitempty"`
	Name      string     `json:"name,omitempty"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
	Cached    bool       `json:"cached,omitempty"`
	Error     string     `json:"error,omitempty"`
}

// Log is what a step printed.
type Log struct {
	Vertex string `json:"vertex,omitempty"`
	Data   []byte `json:"data"`
}

// Failure is why the daemon, or the program, did not do it.
type Failure struct {
	Text     string `json:"text"`
	Line     int    `json:"line,omitempty"`     // of the Dockerfile; 0 is unknown
	Vertex   string `json:"vertex,omitempty"`   // the digest of the step that failed
	ExitCode *int   `json:"exitCode,omitempty"` // of the step's command, where it ended with one
	Full     bool   `json:"full,omitempty"`     // the reserve would have been taken
}

func (f *Failure) Error() string { return f.Text }
