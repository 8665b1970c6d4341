package api

import (
	"time"

	"github.com/errand-dev/errand"
)

// Secret is a secret in lists. Its value is never given. Scope, EnvironmentID,
// Repository, Revision, UpdatedAt and UsedAt are Errand's own.
type Secret struct {
	ID            string     `json:"id" doc:"Unique identifier of the secret." example:"secv_0123456789abcdef0123456789abcdef"`
	Name          string     `json:"name"`
	Type          string     `json:"type" enum:"runtime_secret,environment_variable,build_secret"`
	Repos         []string   `json:"repos" doc:"Repositories that it is restricted to; none means all."`
	CreatedAt     time.Time  `json:"createdAt"`
	Scope         string     `json:"scope" enum:"team,user,repository,environment"`
	EnvironmentID string     `json:"environmentId,omitempty"`
	Repository    string     `json:"repository,omitempty" doc:"Whose it is, in the scope repository."`
	Revision      int64      `json:"revision" doc:"Counts the values that it has had."`
	UpdatedAt     time.Time  `json:"updatedAt"`
	UsedAt        *time.Time `json:"usedAt,omitempty" doc:"When it was last given to a machine or a build; in lists, where it ever was."`
}

// Secrets is one page of secrets.
type Secrets struct {
	Items      []Secret `json:"items"`
	NextCursor *string  `json:"nextCursor" doc:"Null on the last page."`
}

// PutSecret is the body that sets a secret.
type PutSecret struct {
	Value string   `json:"value" doc:"1 to 4096 bytes."`
	Type  string   `json:"type" enum:"runtime_secret,environment_variable,build_secret"`
	Repos []string `json:"repos,omitempty" doc:"URLs of the repositories that it is restricted to, at most 100."`
}

// SecretUse tells that a secret was given to an agent's machine or to a build.
type SecretUse struct {
	AgentID  string    `json:"agentId,omitempty"`
	RunID    string    `json:"runId,omitempty"`
	BuildID  string    `json:"buildId,omitempty"`
	Name     string    `json:"name" doc:"What the secret was called then."`
	Type     string    `json:"type"`
	Scope    string    `json:"scope"`
	Revision int64     `json:"revision"`
	UsedAt   time.Time `json:"usedAt"`
}

// SecretUses is one page of a secret's uses, newest first.
type SecretUses struct {
	Items      []SecretUse `json:"items"`
	NextCursor *string     `json:"nextCursor" doc:"Null on the last page."`
}

// SecretKey says which key-encryption key seals, and what is sealed under which.
type SecretKey struct {
	Key     string         `json:"key" doc:"The key that seals now."`
	Version string         `json:"version,omitempty"`
	Under   []SecretsUnder `json:"under"`
	Old     int            `json:"old,omitempty" doc:"Agents whose variables are still sealed without a data key."`
	Error   string         `json:"error,omitempty" doc:"Why the key cannot be used."`
}

// SecretsUnder counts what one version of a key seals.
type SecretsUnder struct {
	Key     string `json:"key"`
	Version string `json:"version,omitempty"`
	Secrets int    `json:"secrets"`
}

// Rewrap is the body that has data keys wrapped anew. Before is taken from the
// first answer, so that all calls mean the same ones.
type Rewrap struct {
	Before time.Time `json:"before,omitzero"`
}

// Rewrapped is how far one call came. Done of 0 means that none is left.
type Rewrapped struct {
	Before time.Time `json:"before"`
	Done   int       `json:"done"`
}

// FromSecret gives a secret's wire form.
func FromSecret(s errand.Secret) Secret {
	wire := Secret{
		ID: string(s.ID), Name: s.Name, Type: string(s.Kind), Repos: append([]string{}, s.Repositories...), CreatedAt: s.CreatedAt,
		Scope: string(s.Scope), Revision: s.Revision, UpdatedAt: s.UpdatedAt, UsedAt: timeOrNil(s.UsedAt),
	}
	switch s.Scope {
	case errand.ScopeEnvironment:
		wire.EnvironmentID = s.Owner
	case errand.ScopeRepository:
		wire.Repository = s.Owner
	}
	return wire
}

// FromSecretUse gives a use's wire form.
func FromSecretUse(u errand.SecretUse) SecretUse {
	return SecretUse{
		AgentID: string(u.Agent), RunID: string(u.Run), BuildID: string(u.Build),
		Name: u.Name, Type: string(u.Kind), Scope: string(u.Scope), Revision: u.Revision, UsedAt: u.At,
	}
}

// OrNull gives a cursor as it stands where null means the last page.
func OrNull(cursor string) *string {
	if cursor == "" {
		return nil
	}
	return &cursor
}
