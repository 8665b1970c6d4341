// Package vault keeps named secrets and says which of them an agent's machine is
// given.
//
// A secret belongs to an owner within a scope: the team, a person, a repository,
// a stored environment. Where several have one of the same name, the narrower
// scope wins, and what a request gave to its agent wins over all. Values go in
// and are opened for machines and builds; no call gives them to people. Each
// opening is a use, which the caller keeps in the transaction that tells of it.
// What a machine was given is hidden there for good, whatever becomes of the
// secret.
//
// It seals and opens by package secret and knows neither machines nor HTTP.
// Redacting is the caller's: it is told which values to look for.
package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// The bounds of what a secret may be.
const (
	MaxName         = 255  // bytes
	MaxValue        = 4096 // bytes
	MaxRepositories = 100
	MaxPerOwner     = 1000
)

// Vault is the secrets of one store. It may be used from many goroutines.
type Vault struct {
	store    *store.Store
	envelope *secret.Envelope
	old      *secret.KeyFile // opens what was sealed before there were data keys
}

// New gives the vault over s. All three stay the caller's.
func New(s *store.Store, e *secret.Envelope, old *secret.KeyFile) *Vault {
	return &Vault{store: s, envelope: e, old: old}
}

// OwnKey is the name in records of the key file of the data directory, which may
// move.
const OwnKey = "file"

// Open gives the vault over s whose own key file is at path. current is the
// name of the key-encryption key that seals, "" for the own one; find opens
// others by their names, and may be nil where there are none.
func Open(s *store.Store, path, current string, find func(context.Context, string) (*secret.KEK, error)) *Vault {
	own := secret.OpenKeyFile(path, Unused(s, OwnKey, true))
	return New(s, secret.NewEnvelope(cmp.Or(current, OwnKey), func(ctx context.Context, name string) (*secret.KEK, error) {
		if name == OwnKey || find == nil {
			return own.KEK(OwnKey), nil
		}
		return find(ctx, name)
	}), own)
}

// Unused gives a function that says whether nothing in s is sealed under the key
// called name, as secret.OpenKeyFile wants it. old says whether values from
// before there were data keys count.
func Unused(s *store.Store, name string, old bool) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		counts, err := s.KeyCounts(ctx)
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(counts, func(c store.KeyCount) bool { return c.KEK == name }) {
			return false, nil
		}
		if !old {
			return true, nil
		}
		n, err := s.CountAgentsWithEnv(ctx)
		return n == 0, err
	}
}

// Owner is whose a secret is.
type Owner struct {
	Scope errand.Scope
	ID    string // within the scope; "" for the team
}

// Team is the owner of what holds for everybody.
var Team = Owner{Scope: errand.ScopeTeam}

// UserOf gives the person behind a caller.
func UserOf(c errand.Caller) Owner { return Owner{errand.ScopeUser, c.Person()} }

// Environment gives the owner that a stored environment is.
func Environment(id errand.EnvironmentID) Owner {
	return Owner{errand.ScopeEnvironment, string(id)}
}

// Repository gives the owner that a repository is, however its URL is written.
func Repository(url string) (Owner, error) {
	known, err := repositoryName(url)
	return Owner{errand.ScopeRepository, known}, err
}

// Value is what Put is told of a secret.
type Value struct {
	Value        string            // 1 to MaxValue bytes
	Kind         errand.SecretKind //
	Repositories []string          // URLs; none: it holds for all
}

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// CheckName says whether a secret may be called name.
func CheckName(name string) error {
	upper := strings.ToUpper(name)
	switch {
	case len(name) > MaxName || !namePattern.MatchString(name):
		return errand.Errorf(errand.Invalid, "validation_error", "%.80q cannot be a secret's name. It has letters, digits and underscores, does not begin with a digit, and is at most %d long.", name, MaxName)
	case strings.Contains(upper, "CURSOR_SANDBOX"), upper == "HTTP_PROXY", upper == "HTTPS_PROXY", upper == "ALL_PROXY":
		return errand.Errorf(errand.Invalid, "reserved_secret_name", "%s is a name that machines use themselves. Choose another.", name)
	}
	return nil
}

func (n Value) check() error {
	switch {
	case n.Value == "" || len(n.Value) > MaxValue:
		return errand.Errorf(errand.Invalid, "validation_error", "A secret's value has 1 to %d bytes; this one has %d.", MaxValue, len(n.Value))
	case strings.ContainsRune(n.Value, 0):
		return errand.Errorf(errand.Invalid, "validation_error", "A secret's value cannot hold a zero byte: a variable could not carry it. Encode it, as with base64.")
	case n.Kind != errand.SecretVariable && n.Kind != errand.SecretRuntime && n.Kind != errand.SecretBuild:
		return errand.Errorf(errand.Invalid, "validation_error", "%.80q is no kind of secret. It is environment_variable, runtime_secret or build_secret.", n.Kind)
	case len(n.Repositories) > MaxRepositories:
		return errand.Errorf(errand.Invalid, "validation_error", "A secret is restricted to %d repositories at most; %d were given. Leave the list out to have it hold for all.", MaxRepositories, len(n.Repositories))
	}
	return nil
}

// Put keeps a secret, new or in place of the owner's one of that name. Agents
// that start later get the new value.
func (v *Vault) Put(ctx context.Context, o Owner, name string, n Value) (kept errand.Secret, created bool, err error) {
	if err := CheckName(name); err != nil {
		return kept, false, err
	}
	if err := n.check(); err != nil {
		return kept, false, err
	}
	repositories := []string{}
	for _, url := range n.Repositories {
		known, err := repositoryName(url)
		if err != nil {
			return kept, false, err
		}
		if !slices.Contains(repositories, known) {
			repositories = append(repositories, known)
		}
	}
	// Sealed before the transaction: a key that is far away must not hold up
	// who else writes. The id is settled first, because the value is bound to it.
	now, err := v.store.Secret(ctx, o.Scope, o.ID, name)
	if err != nil && errand.KindOf(err) != errand.NotFound {
		return kept, false, err
	}
	id := now.ID
	if id == "" {
		id = newID()
	}
	sealed, err := v.envelope.Seal(ctx, []byte(n.Value), about(id))
	if err != nil {
		return kept, false, err
	}
	err = v.store.Write(ctx, func(t *store.Tx) error {
		row, err := t.Secret(ctx, o.Scope, o.ID, name)
		created = errand.KindOf(err) == errand.NotFound
		switch {
		case err != nil && !created:
			return err
		case row.ID != now.ID:
			return errand.Errorf(errand.Conflict, store.SecretChanged, "The secret %s was changed by somebody else at the same moment. Set it again.", name)
		case created:
			if err := room(ctx, t, o); err != nil {
				return err
			}
			row.ID, row.Scope, row.Owner, row.CreatedAt = id, o.Scope, o.ID, t.Now()
		}
		row.Name, row.Kind, row.Repositories = name, n.Kind, repositories
		row.Revision++
		row.Sealed, row.UpdatedAt, row.WrappedAt = store.Sealed(sealed), t.Now(), t.Now()
		kept = row.Secret
		return t.PutSecret(row)
	})
	return kept, created, err
}

func newID() errand.SecretID {
	return errand.SecretID("secv_" + strings.ReplaceAll(uuid.NewString(), "-", ""))
}

// about binds a value to its secret.
func about(id errand.SecretID) string { return "secret " + string(id) }

func room(ctx context.Context, t *store.Tx, o Owner) error {
	n, err := t.CountSecrets(ctx, o.Scope, o.ID)
	if err == nil && n >= MaxPerOwner {
		return errand.Errorf(errand.Conflict, "too_many_secrets", "There are %d secrets of this %s already, which is the most. Remove those that are not used: errand secret ls", n, o.Scope)
	}
	return err
}

// Secret gives one secret of an owner, or a NotFound error.
func (v *Vault) Secret(ctx context.Context, o Owner, name string) (errand.Secret, error) {
	row, err := v.store.Secret(ctx, o.Scope, o.ID, name)
	return row.Secret, err
}

// Delete removes a secret of an owner and gives what it was. Machines that have
// it keep it, and it stays hidden there.
func (v *Vault) Delete(ctx context.Context, o Owner, name string) (gone errand.Secret, err error) {
	err = v.store.Write(ctx, func(t *store.Tx) error {
		row, err := t.Secret(ctx, o.Scope, o.ID, name)
		if err != nil {
			return err
		}
		gone = row.Secret
		return t.DeleteSecret(row.ID)
	})
	return gone, err
}

// Sees says whether who asks may know of a stored environment. What environments
// there are and whose, others know.
type Sees func(context.Context, errand.EnvironmentID) (bool, error)

// Query chooses secrets for a list.
type Query struct {
	Caller     errand.Caller // whose user secrets are shown
	Sees       Sees          // which environments' secrets are shown; nil: of none
	Scope      errand.Scope  // "" is all
	Owner      string        // with Scope: only this one's, whom the caller may know of; "" is all
	Name       string        // without regard to case; "" is all
	Repository string        // only those that hold for it; "" is all
	Limit      int           // at most so many; 0 is 50
	Cursor     string        // from the page before; "" for the first
}

// List gives secrets by scope, owner and name, and the cursor of the next page
// ("" on the last one).
func (v *Vault) List(ctx context.Context, q Query) ([]errand.Secret, string, error) {
	rows, err := v.visible(ctx, q)
	if err != nil {
		return nil, "", err
	}
	repository := ""
	if q.Repository != "" {
		if repository, err = repositoryName(q.Repository); err != nil {
			return nil, "", err
		}
	}
	limit := q.Limit
	if limit == 0 {
		limit = 50
	}
	out, skip := []errand.Secret{}, q.Cursor != ""
	for _, row := range rows {
		if skip {
			skip = string(row.ID) != q.Cursor
			continue
		}
		if q.Name != "" && !strings.EqualFold(q.Name, row.Name) || repository != "" && !holdsFor(row.Secret, []string{repository}) {
			continue
		}
		if len(out) == limit {
			return out, string(out[limit-1].ID), nil
		}
		if row.UsedAt, err = v.store.LastSecretUse(ctx, row.ID); err != nil {
			return nil, "", err
		}
		out = append(out, row.Secret)
	}
	if skip {
		return nil, "", errand.Errorf(errand.Invalid, "validation_error", "The cursor %.80q is not one that this server gave, or its secret is gone. Begin again without it.", q.Cursor)
	}
	return out, "", nil
}

func (v *Vault) visible(ctx context.Context, q Query) ([]store.SecretRow, error) {
	wanted := scopes
	if q.Scope != "" {
		if !slices.Contains(scopes, q.Scope) {
			return nil, errand.Errorf(errand.Invalid, "validation_error", "%.80q is no scope. It is team, user, repository or environment.", q.Scope)
		}
		wanted = []errand.Scope{q.Scope}
	}
	if q.Owner != "" {
		return v.store.Secrets(ctx, q.Scope, q.Owner)
	}
	var all []store.SecretRow
	for _, scope := range wanted {
		read := func() ([]store.SecretRow, error) { return v.store.SecretsOfScope(ctx, scope) }
		if scope == errand.ScopeUser {
			read = func() ([]store.SecretRow, error) { return v.store.Secrets(ctx, scope, UserOf(q.Caller).ID) }
		}
		rows, err := read()
		if err == nil && scope == errand.ScopeEnvironment {
			rows, err = q.Sees.only(ctx, rows)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, rows...)
	}
	return all, nil
}

// only leaves those of rows whose environment may be known of. A nil Sees leaves
// none.
func (s Sees) only(ctx context.Context, rows []store.SecretRow) ([]store.SecretRow, error) {
	if s == nil {
		return nil, nil
	}
	known := map[string]bool{}
	var left []store.SecretRow
	for _, row := range rows {
		sees, asked := known[row.Owner]
		if !asked {
			var err error
			if sees, err = s(ctx, errand.EnvironmentID(row.Owner)); err != nil {
				return nil, err
			}
			known[row.Owner] = sees
		}
		if sees {
			left = append(left, row)
		}
	}
	return left, nil
}

// Uses gives a secret's uses, newest first, also of one that is gone, and the
// cursor of the next page ("" on the last one). Those of another person's secret
// are NotFound, and so are those of an environment that sees does not let the
// caller know of.
func (v *Vault) Uses(ctx context.Context, c errand.Caller, sees Sees, id errand.SecretID, limit int, cursor string) ([]errand.SecretUse, string, error) {
	var offset int
	if cursor != "" {
		if _, err := fmt.Sscanf(cursor, "%d", &offset); err != nil || offset < 0 {
			return nil, "", errand.Errorf(errand.Invalid, "validation_error", "The cursor %.80q is not one that this server gave.", cursor)
		}
	}
	if limit == 0 {
		limit = 50
	}
	uses, err := v.store.SecretUses(ctx, id, limit+1, offset)
	if err != nil {
		return nil, "", err
	}
	owner, err := v.ownerOf(ctx, id, uses)
	if err != nil {
		return nil, "", err
	}
	shown := owner.Scope == errand.ScopeTeam || owner.Scope == errand.ScopeRepository || owner == UserOf(c)
	if owner.Scope == errand.ScopeEnvironment && sees != nil {
		if shown, err = sees(ctx, errand.EnvironmentID(owner.ID)); err != nil {
			return nil, "", err
		}
	}
	if !shown {
		return nil, "", errand.Errorf(errand.NotFound, "secret_not_found", "There is no secret %.80s. `errand secret ls` shows which there are.", id)
	}
	if len(uses) > limit {
		return uses[:limit], fmt.Sprint(offset + limit), nil
	}
	return uses, "", nil
}

// ownerOf gives whose a secret is, or was, as its uses tell. Of a person's that is
// gone nobody knows whose it was: it is NotFound. Where all that used one of an
// environment are gone too, the owner's ID is "".
func (v *Vault) ownerOf(ctx context.Context, id errand.SecretID, uses []errand.SecretUse) (Owner, error) {
	row, err := v.store.SecretByID(ctx, id)
	if errand.KindOf(err) != errand.NotFound || len(uses) == 0 {
		return Owner{row.Scope, row.Owner}, err
	}
	owner := Owner{Scope: uses[0].Scope}
	switch owner.Scope {
	case errand.ScopeUser:
		return owner, err
	case errand.ScopeTeam, errand.ScopeRepository:
		return owner, nil
	}
	for _, use := range uses {
		environment, err := v.usedIn(ctx, use)
		if err == nil && environment != "" {
			owner.ID = string(environment)
			return owner, nil
		}
		if err != nil && errand.KindOf(err) != errand.NotFound {
			return owner, err
		}
	}
	return owner, nil
}

// usedIn gives the environment of the build or the agent that a secret was used
// for.
func (v *Vault) usedIn(ctx context.Context, use errand.SecretUse) (errand.EnvironmentID, error) {
	if use.Build != "" {
		build, err := v.store.Build(ctx, use.Build)
		return build.Environment, err
	}
	agent, err := v.store.Agent(ctx, use.Agent)
	return agent.Environment, err
}

// SealVariables gives the row that keeps what a request gave to its agent, for
// the transaction that makes the agent; nil for none.
func (v *Vault) SealVariables(ctx context.Context, agent errand.AgentID, vars map[string]string) (*store.SecretRow, error) {
	if len(vars) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(vars)
	if err != nil {
		return nil, err
	}
	return v.sealFor(ctx, agent, b)
}

func (v *Vault) sealFor(ctx context.Context, agent errand.AgentID, vars []byte) (*store.SecretRow, error) {
	id := newID()
	sealed, err := v.envelope.Seal(ctx, vars, about(id))
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	return &store.SecretRow{
		Secret: errand.Secret{ID: id, Scope: errand.ScopeAgent, Owner: string(agent), Name: variables, Kind: errand.SecretVariable, Revision: 1, CreatedAt: now, UpdatedAt: now},
		Sealed: store.Sealed(sealed), WrappedAt: now,
	}, nil
}

// variables is the name of the one secret that an agent itself owns: JSON of all
// its variables.
const variables = "variables"
