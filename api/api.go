// Package api holds the forms in which Errand speaks over HTTP, and the one
// conversion between each of them and the words of package errand.
//
// The forms of /v1 are Cursor's, field by field, so that their clients work
// with another base URL; what Errand adds is always a new optional field or a
// new path. A run's stream is a pure fold over the agent's journal ([Stream]):
// the same events give the same messages with the same ids, which is what makes
// resuming exact.
//
// Struct tags other than json (doc, minLength, enum, …) are what package server
// makes the OpenAPI document from. Nothing here touches the network, and
// package client builds on it wherever Go runs.
package api

import (
	"time"

	"github.com/errand-dev/errand"
)

// The headers that package server and package client agree on.
const (
	HeaderLastEventID    = "Last-Event-ID"
	HeaderIdempotencyKey = "Idempotency-Key"
	HeaderRetention      = "X-Cursor-Stream-Retention-Seconds"
)

// ErrorBody is the body of every answer that is not a success.
type ErrorBody struct {
	Error Error `json:"error"`
}

// Error says what is wrong. Output and ExitCode are Errand's own additions.
type Error struct {
	Code     string `json:"code" doc:"Machine-readable error code."`
	Message  string `json:"message" doc:"Human-readable error message that says what to do next."`
	HelpURL  string `json:"helpUrl,omitempty" format:"uri"`
	Provider string `json:"provider,omitempty"`
	Output   string `json:"output,omitempty" doc:"What the failing command printed, at most 16 KiB."`
	ExitCode *int   `json:"exitCode,omitempty" doc:"The failing command's exit code."`
}

// FromError gives the wire form of err. What is not an errand.Error says only
// that the fault is the server's: its text is for the log.
func FromError(err error) Error {
	e := errand.AsError(err)
	if e.Kind == errand.Internal {
		return Error{Code: "internal_error", Message: "The server failed at this. Its log says more."}
	}
	return fromError(e)
}

// fromError keeps an error that has a place in the journal as it is there.
func fromError(e *errand.Error) Error {
	return Error{Code: e.Code, Message: e.Message, Output: e.Output, ExitCode: e.ExitCode}
}

// ID is the answer of calls that change one thing.
type ID struct {
	ID string `json:"id" doc:"Identifier of the affected resource."`
}

// Me says whose key this is.
type Me struct {
	APIKeyName    string    `json:"apiKeyName"`
	CreatedAt     time.Time `json:"createdAt"`
	UserEmail     string    `json:"userEmail,omitempty"`
	UserFirstName string    `json:"userFirstName,omitempty"`
	UserLastName  string    `json:"userLastName,omitempty"`
}
