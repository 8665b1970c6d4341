package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// scopes are those that people see, the weakest first.
var scopes = []errand.Scope{errand.ScopeTeam, errand.ScopeUser, errand.ScopeRepository, errand.ScopeEnvironment}

// openAtOnce is how many data keys are unwrapped at once: each may be a request
// to a key that is far away.
const openAtOnce = 8

// For says for whom secrets are opened.
type For struct {
	Agent        errand.AgentID // whose machine it is; "" for a build
	BuildID      errand.BuildID // whose machine it is; "" for an agent
	Caller       errand.Caller  // whose user secrets hold
	Repositories []string       // URLs that it works on
	Environment  errand.EnvironmentID
	Build        bool // build secrets too; otherwise they stay closed
}

// Opened is what a machine or a build is given. It holds values: keep it no
// longer than they are needed, and out of everything that is written.
type Opened struct {
	// Env are the variables of what runs in the machine, NAME=value, sorted.
	Env []string
	// Build are the build secrets, by name.
	Build map[string][]byte
	// Hidden are the values that must be taken out of what leaves the machine,
	// those among them that it was given earlier and may still have.
	Hidden []string
	// Guarded are the runtime and build secrets, by name, each with its values of
	// now and of earlier: what no push and no kept disk may contain.
	Guarded map[string][]string
	// Versions say which value each variable has, without telling it: equal
	// versions are equal values. What a request gave is not in it.
	Versions map[string]string
	// Given are the variables that a request gave, NAME=value, sorted.
	Given []string
	// Uses are what is to go on record, without agent, run and build.
	Uses []errand.SecretUse
}

// Open opens the secrets that hold for f. A key that cannot be used is an
// Unavailable error; then nothing is opened.
func (v *Vault) Open(ctx context.Context, f For) (Opened, error) {
	rows, err := v.chosen(ctx, f)
	if err != nil {
		return Opened{}, err
	}
	given, err := v.given(ctx, f.Agent)
	if err != nil {
		return Opened{}, err
	}
	before, err := v.before(ctx, f, rows)
	if err != nil {
		return Opened{}, err
	}
	values, err := v.openAll(ctx, slices.Concat(rows, before))
	if err != nil {
		return Opened{}, err
	}
	out := gather(rows, values, given)
	for i, row := range before {
		value := values[len(rows)+i]
		// What the same secret now shows on purpose is none.
		shown := func(s store.SecretRow) bool { return s.ID == row.ID && s.Kind == errand.SecretVariable }
		if i := slices.IndexFunc(rows, shown); i < 0 || values[i] != value {
			out.guard(row.Name, value)
		}
	}
	return out, nil
}

// Unchanged has give open secrets and put on record what a machine is about to be
// given, and does it again where one of them was changed in between.
func Unchanged(give func() error) error {
	for {
		err := give()
		if e := errand.AsError(err); e == nil || e.Code != store.SecretChanged {
			return err
		}
	}
}

// before gives the values that the machine was given earlier and is not given now:
// because the secret was changed or removed, or another one stands before it.
func (v *Vault) before(ctx context.Context, f For, now []store.SecretRow) ([]store.SecretRow, error) {
	rows, err := v.store.SecretsGiven(ctx, f.Agent, f.BuildID)
	return slices.DeleteFunc(rows, func(r store.SecretRow) bool {
		return slices.ContainsFunc(now, func(n store.SecretRow) bool { return n.ID == r.ID && n.Revision == r.Revision })
	}), err
}

// openAll gives the values of rows.
func (v *Vault) openAll(ctx context.Context, rows []store.SecretRow) ([]string, error) {
	values := make([]string, len(rows))
	var opening errgroup.Group
	opening.SetLimit(openAtOnce)
	for i, row := range rows {
		opening.Go(func() error {
			value, err := v.envelope.Open(ctx, secret.Sealed(row.Sealed), about(row.ID))
			values[i] = string(value)
			if err != nil {
				return fmt.Errorf("opening the secret %s: %w", row.Name, err)
			}
			return nil
		})
	}
	return values, opening.Wait()
}

// guard adds a value of a secret to what is hidden and guarded, once.
func (o *Opened) guard(name, value string) {
	if !slices.Contains(o.Hidden, value) {
		o.Hidden = append(o.Hidden, value)
	}
	if !slices.Contains(o.Guarded[name], value) {
		o.Guarded[name] = append(o.Guarded[name], value)
	}
}

func gather(rows []store.SecretRow, values []string, given map[string]string) Opened {
	out := Opened{Build: map[string][]byte{}, Guarded: map[string][]string{}, Versions: map[string]string{}}
	overridden := map[string]bool{}
	for name, value := range given {
		overridden[strings.ToLower(name)] = true
		out.Given = append(out.Given, name+"="+value)
		out.Hidden = append(out.Hidden, value)
	}
	slices.Sort(out.Given)
	out.Env = slices.Clone(out.Given)
	for i, row := range rows {
		value := values[i]
		if row.Kind != errand.SecretBuild && overridden[strings.ToLower(row.Name)] {
			continue
		}
		switch row.Kind {
		case errand.SecretBuild:
			out.Build[row.Name] = []byte(value)
		default:
			out.Env = append(out.Env, row.Name+"="+value)
			out.Versions[row.Name] = string(row.ID) + "@" + strconv.FormatInt(row.Revision, 10)
		}
		if row.Kind != errand.SecretVariable {
			out.guard(row.Name, value)
		}
		out.Uses = append(out.Uses, errand.SecretUse{Secret: row.ID, Revision: row.Revision, Scope: row.Scope, Name: row.Name, Kind: row.Kind})
	}
	slices.Sort(out.Env)
	return out
}

// chosen gives the secrets that hold for f, one for each name; build secrets
// and variables do not hide each other.
func (v *Vault) chosen(ctx context.Context, f For) ([]store.SecretRow, error) {
	var repositories []string
	owners := []Owner{Team, UserOf(f.Caller)}
	for _, url := range f.Repositories {
		name, err := repositoryName(url)
		if err != nil {
			return nil, err
		}
		repositories = append(repositories, name)
		owners = append(owners, Owner{errand.ScopeRepository, name})
	}
	if f.Environment != "" {
		owners = append(owners, Environment(f.Environment))
	}
	type slot struct {
		build bool
		name  string
	}
	best := map[slot]store.SecretRow{}
	for _, o := range owners { // the weakest first
		rows, err := v.store.Secrets(ctx, o.Scope, o.ID)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row.Kind == errand.SecretBuild && !f.Build {
				continue
			}
			if holdsFor(row.Secret, repositories) {
				best[slot{row.Kind == errand.SecretBuild, strings.ToLower(row.Name)}] = row
			}
		}
	}
	return slices.SortedFunc(maps.Values(best), func(a, b store.SecretRow) int { return strings.Compare(a.Name, b.Name) }), nil
}

// given opens what the request gave to the agent.
func (v *Vault) given(ctx context.Context, agent errand.AgentID) (map[string]string, error) {
	if agent == "" {
		return nil, nil
	}
	b, err := v.variablesOf(ctx, agent)
	if err != nil || b == nil {
		return nil, err
	}
	var vars map[string]string
	if err := json.Unmarshal(b, &vars); err != nil {
		return nil, fmt.Errorf("reading the agent's variables: %w", err)
	}
	return vars, nil
}

func (v *Vault) variablesOf(ctx context.Context, agent errand.AgentID) ([]byte, error) {
	old, err := v.store.AgentEnv(ctx, agent)
	if err != nil {
		return nil, err
	}
	if old != "" {
		return v.old.OpenOld(old, "env of "+string(agent))
	}
	row, err := v.store.Secret(ctx, errand.ScopeAgent, string(agent), variables)
	if errand.KindOf(err) == errand.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return v.envelope.Open(ctx, secret.Sealed(row.Sealed), about(row.ID))
}

// holdsFor says whether a secret's own list lets it hold for one of repositories.
func holdsFor(s errand.Secret, repositories []string) bool {
	if s.Scope == errand.ScopeRepository {
		return slices.Contains(repositories, s.Owner)
	}
	return len(s.Repositories) == 0 || slices.ContainsFunc(s.Repositories, func(r string) bool { return slices.Contains(repositories, r) })
}

// repositoryName gives one name for all the ways to write a repository's
// address: host/owner/name, or the path of one on this machine.
func repositoryName(url string) (string, error) {
	clean, err := git.Clean(url)
	if err != nil && !strings.Contains(url, "://") && strings.Contains(url, "/") {
		clean, err = git.Clean("https://" + url)
	}
	if err != nil {
		return "", err
	}
	clean = strings.TrimSuffix(strings.TrimPrefix(clean, "file://"), ".git")
	if strings.HasPrefix(clean, "/") {
		return clean, nil
	}
	if !strings.Contains(clean, "://") { // user@host:path
		_, rest, _ := strings.Cut(clean, "@")
		host, path, _ := strings.Cut(rest, ":")
		return strings.ToLower(host + "/" + strings.TrimLeft(path, "/")), nil
	}
	// Parsed, for an @ in the path is no end of a user's name.
	u, err := neturl.Parse(clean)
	if err != nil {
		return "", fmt.Errorf("reading the repository's address: %w", err)
	}
	return strings.ToLower(u.Host + u.RequestURI()), nil
}
