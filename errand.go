// Package errand holds the words of Errand: background coding agents on
// machines you own. A prompt and a repository go in; an isolated Linux machine
// is made ready, an agent works there, and a branch comes out.
//
// The nouns here are the whole product's vocabulary. The same struct is the
// row's content, the argument of a call and, by its JSON tags, the form in
// which Errand's own parts exchange it. Where the public API's wire form
// differs, package api holds that form and the one conversion.
//
// This package does no I/O and imports nothing of ours. Everything else in the
// repository stands on it.
package errand

import (
	"regexp"

	"github.com/google/uuid"
)

// AgentID names an agent: "bc-" and a UUID in lower case.
type AgentID string

// RunID names a run: "run-" and a UUID in lower case.
type RunID string

// NewAgentID returns a fresh agent id.
func NewAgentID() AgentID { return AgentID("bc-" + uuid.NewString()) }

// NewRunID returns a fresh run id.
func NewRunID() RunID { return RunID("run-" + uuid.NewString()) }

var (
	agentPattern = regexp.MustCompile(`^bc-` + uuidPattern + `$`)
	runPattern   = regexp.MustCompile(`^run-` + uuidPattern + `$`)
)

// ParseAgentID reads an agent id as a client sent it. Letters may come in
// either case. Anything else is an Invalid error that shows the right form.
func ParseAgentID(s string) (AgentID, error) {
	return parseID[AgentID](s, agentPattern, "an agent id", "bc-00000000-0000-0000-0000-000000000001")
}

// ParseRunID reads a run id as a client sent it. Letters may come in either
// case. Anything else is an Invalid error that shows the right form.
func ParseRunID(s string) (RunID, error) {
	return parseID[RunID](s, runPattern, "a run id", "run-00000000-0000-0000-0000-000000000001")
}
