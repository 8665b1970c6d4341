package errand

import "time"

// SecretID names one sealed value through all its changes: "secv_" and 32 hex
// digits.
type SecretID string

// Scope says for whom a secret holds.
type Scope string

// The scopes, the weakest first: where two scopes have a secret of one name,
// the later one's is taken.
const (
	ScopeTeam        Scope = "team"        // everybody on this server
	ScopeUser        Scope = "user"        // agents of one person
	ScopeRepository  Scope = "repository"  // agents on one repository
	ScopeEnvironment Scope = "environment" // agents in one stored environment
	// ScopeAgent holds what a request gave to its agent alone. It is stronger
	// than all others, and no list shows it.
	ScopeAgent Scope = "agent"
)

// SecretKind says what a secret's value is used for.
type SecretKind string

const (
	// SecretVariable: a variable of what runs in the machine. Not redacted.
	SecretVariable SecretKind = "environment_variable"
	// SecretRuntime: such a variable whose value is taken out of all that leaves
	// the machine; a push that contains it is refused.
	SecretRuntime SecretKind = "runtime_secret"
	// SecretBuild: only for a Dockerfile's RUN --mount=type=secret; in no layer.
	SecretBuild SecretKind = "build_secret"
)

// Secret is a named sealed value. The value itself is not here.
type Secret struct {
	ID    SecretID `json:"id"`
	Scope Scope    `json:"scope"`
	// Owner is whose it is within the scope: an environment's id, a repository's
	// clean URL, a person's name; "" for the team.
	Owner string     `json:"owner,omitempty"`
	Name  string     `json:"name"`
	Kind  SecretKind `json:"kind"`
	// Repositories restrict it to agents on one of them; none: to all.
	Repositories []string `json:"repositories,omitempty"`
	// Revision counts the values that it has had, from 1.
	Revision  int64     `json:"revision"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	// UsedAt is when it was last given to a machine or a build, in lists; zero:
	// never, or not in a list.
	UsedAt time.Time `json:"usedAt,omitzero"`
}

// SecretUse tells that a secret's value was opened. It never holds the value.
type SecretUse struct {
	Secret   SecretID   `json:"secret"`
	Revision int64      `json:"revision"`
	Scope    Scope      `json:"scope"`
	Name     string     `json:"name"`
	Kind     SecretKind `json:"kind"`
	Agent    AgentID    `json:"agent,omitempty"` // whose machine was given it
	Run      RunID      `json:"run,omitempty"`   // "" where a person woke the machine
	Build    BuildID    `json:"build,omitempty"` // the build that was given it
	At       time.Time  `json:"at,omitzero"`
}
