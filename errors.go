package errand

import (
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error. It exists only where some
// caller acts on it; package server maps each kind to one HTTP status.
type Kind string

const (
	// Invalid: the request itself is wrong; sending it again changes nothing.
	Invalid Kind = "invalid"
	// Unauthorized: no key, or one that is not known.
	Unauthorized Kind = "unauthorized"
	// Forbidden: the caller is known and may not do this.
	Forbidden Kind = "forbidden"
	// NotFound: the named thing is not there, or not for this caller.
	NotFound Kind = "not_found"
	// Conflict: the thing is in a state in which this cannot be done.
	Conflict Kind = "conflict"
	// Gone: it was there once and will not come back.
	Gone Kind = "gone"
	// TooLarge: the input passes a bound that the message names.
	TooLarge Kind = "too_large"
	// Limited: too much at once; the same request may go through later.
	Limited Kind = "limited"
	// Unavailable: something this needs (a host, a registry, a provider, a
	// disk) cannot be used now; the same request may go through later.
	Unavailable Kind = "unavailable"
	// Internal: a fault of ours.
	Internal Kind = "internal"
)

// Error is an error that somebody acts on or reads. Its Message is a sentence
// for people that says what is wrong and what to do next.
type Error struct {
	Kind    Kind   `json:"kind"`
	Code    string `json:"code"`    // machine-readable, as in the public API ("agent_busy")
	Message string `json:"message"` // for people; never holds a secret
	// Output is what the failing command printed, if one failed; at most 16 KiB.
	Output string `json:"output,omitempty"`
	// ExitCode is that command's exit code; nil when no command was at fault.
	ExitCode *int `json:"exitCode,omitempty"`
	// Err is the cause, for logs; it does not leave the process.
	Err error `json:"-"`
}

// Error gives the message alone: it is what a person is shown.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error. A %w in format is kept as the cause.
func Errorf(kind Kind, code, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Code: code, Message: wrapped.Error(), Err: errors.Unwrap(wrapped)}
}

// KindOf gives the kind of the first Error in err's chain, and Internal where
// there is none. It is "" for a nil error.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// AsError gives err as an Error: the first one in its chain, or a new Internal
// one whose message is err's own text. It is nil for a nil error.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Code: "internal_error", Message: err.Error(), Err: err}
}
