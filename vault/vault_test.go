package vault_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

var ada = errand.Caller{Key: "laptop", Name: "Ada", Email: "ada@example.com"}

// house is a vault over a real store and a real key file.
type house struct {
	*vault.Vault
	t     *testing.T
	store *store.Store
	dir   string
}

func open(t *testing.T) *house {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), filepath.Join(dir, "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &house{vault.Open(s, filepath.Join(dir, "secret.key"), "", nil), t, s, dir}
}

func (h *house) put(o vault.Owner, name, value string, kind errand.SecretKind, only ...string) errand.Secret {
	h.t.Helper()
	s, _, err := h.Put(h.t.Context(), o, name, vault.Value{Value: value, Kind: kind, Repositories: only})
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) opened(f vault.For) vault.Opened {
	h.t.Helper()
	o, err := h.Open(h.t.Context(), f)
	if err != nil {
		h.t.Fatal(err)
	}
	return o
}

const app = "https://github.com/you/App.git"

func TestPrecedence(t *testing.T) {
	h := open(t)
	environment := errand.NewEnvironmentID()
	repository, err := vault.Repository("git@github.com:you/app")
	if err != nil {
		t.Fatal(err)
	}
	owners := []vault.Owner{vault.Team, vault.UserOf(ada), repository, vault.Environment(environment)}
	f := vault.For{Caller: ada, Repositories: []string{app}, Environment: environment}
	for i, o := range owners {
		h.put(o, []string{"Name", "NAME"}[i%2], fmt.Sprint("name of ", o.Scope), errand.SecretVariable)
		got := h.opened(f).Env
		want := []string{"NAME", "Name"}[(i+1)%2] + "=name of " + string(o.Scope)
		if !slices.Contains(got, want) {
			t.Errorf("with %s there is %v, want %s", o.Scope, got, want)
		}
	}
	agent := errand.NewAgentID()
	row, err := h.SealVariables(t.Context(), agent, map[string]string{"nAmE": "of the request"})
	if err != nil {
		t.Fatal(err)
	}
	err = h.store.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.InsertAgent(errand.Agent{ID: agent}, ""), tx.PutSecret(*row))
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Agent = agent
	o := h.opened(f)
	if !slices.Contains(o.Env, "nAmE=of the request") || slices.ContainsFunc(o.Env, func(v string) bool { return strings.HasPrefix(v, "NAME=") }) {
		t.Errorf("with a request's own there is %v", o.Env)
	}
	if all, _, err := h.List(t.Context(), vault.Query{Caller: ada}); err != nil || slices.ContainsFunc(all, func(s errand.Secret) bool { return s.Scope == errand.ScopeAgent }) {
		t.Errorf("listed are %+v, %v", all, err)
	}
}

// TestRepository: all ways to write an address are one, and no other address is
// taken for it, however its path is written.
func TestRepository(t *testing.T) {
	const same = "github.com/acme/private"
	for url, want := range map[string]string{
		"https://github.com/Acme/Private.git":             same,
		"https://bob:pw@github.com/acme/private/":         same,
		"ssh://git@github.com/acme/private":               same,
		"git@github.com:acme/private.git":                 same,
		"github.com/acme/private":                         same,
		"https://evil.example/x@github.com/acme/private":  "evil.example/x@github.com/acme/private",
		"ssh://git@evil.example/x@github.com/acme/secret": "evil.example/x@github.com/acme/secret",
		"git@evil.example:x@github.com/acme/private":      "evil.example/x@github.com/acme/private",
		"https://evil.example/?@github.com/acme/private":  "",
		"https://github.com/acme%2Fprivate":               "github.com/acme%2fprivate",
		"/srv/x@github.com/acme/private":                  "/srv/x@github.com/acme/private",
	} {
		got, err := vault.Repository(url)
		if got.ID != want || (err != nil) != (want == "") {
			t.Errorf("Repository(%q) = %q, %v; want %q", url, got.ID, err, want)
		}
	}
}

func TestWhoIsGivenWhat(t *testing.T) {
	h := open(t)
	token := h.put(vault.Team, "TOKEN", "0123456789", errand.SecretRuntime)
	h.put(vault.Team, "PLAIN", "visible", errand.SecretVariable)
	h.put(vault.Team, "NPMRC", "build-only", errand.SecretBuild)
	h.put(vault.Team, "RESTRICTED", "for one", errand.SecretRuntime, "github.com/you/app")
	h.put(vault.UserOf(errand.Caller{Email: "bob@example.com"}), "BOBS", "bob's own", errand.SecretRuntime)
	got := h.opened(vault.For{Caller: ada, Repositories: []string{"https://github.com/other/app"}})
	want := vault.Opened{
		Env: []string{"PLAIN=visible", "TOKEN=0123456789"}, Build: map[string][]byte{}, Hidden: []string{"0123456789"},
		Guarded: map[string][]string{"TOKEN": {"0123456789"}},
	}
	got.Versions, got.Uses = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	got = h.opened(vault.For{Caller: ada, Repositories: []string{app}, Build: true})
	if !slices.Contains(got.Env, "RESTRICTED=for one") || string(got.Build["NPMRC"]) != "build-only" || len(got.Guarded["NPMRC"]) != 1 {
		t.Errorf("a build of the repository is given %+v", got)
	}
	if slices.ContainsFunc(got.Env, func(v string) bool { return strings.Contains(v, "build-only") }) {
		t.Error("a build secret is a variable")
	}
	first := got.Versions["TOKEN"]
	h.put(vault.Team, "TOKEN", "another-value", errand.SecretRuntime)
	again := h.opened(vault.For{Caller: ada})
	if first != string(token.ID)+"@1" || again.Versions["TOKEN"] == first {
		t.Errorf("the versions are %q and %q", first, again.Versions["TOKEN"])
	}
}

func TestBadInput(t *testing.T) {
	h := open(t)
	good := vault.Value{Value: "x", Kind: errand.SecretRuntime}
	many := make([]string, 101)
	for name, tt := range map[string]struct {
		name string
		v    vault.Value
		want string
	}{
		"digit":    {"1A", good, "validation_error"},
		"dash":     {"A-B", good, "validation_error"},
		"empty":    {"", good, "validation_error"},
		"long":     {strings.Repeat("A", 256), good, "validation_error"},
		"proxy":    {"https_proxy", good, "reserved_secret_name"},
		"reserved": {"MY_CURSOR_SANDBOX_X", good, "reserved_secret_name"},
		"no value": {"A", vault.Value{Kind: errand.SecretRuntime}, "validation_error"},
		"big":      {"A", vault.Value{Value: strings.Repeat("x", 4097), Kind: errand.SecretRuntime}, "validation_error"},
		"zero":     {"A", vault.Value{Value: "a\x00b", Kind: errand.SecretRuntime}, "validation_error"},
		"kind":     {"A", vault.Value{Value: "x", Kind: "other"}, "validation_error"},
		"repos":    {"A", vault.Value{Value: "x", Kind: errand.SecretRuntime, Repositories: many}, "validation_error"},
		"repo":     {"A", vault.Value{Value: "x", Kind: errand.SecretRuntime, Repositories: []string{"nonsense"}}, "validation_error"},
	} {
		if _, _, err := h.Put(t.Context(), vault.Team, tt.name, tt.v); errand.AsError(err) == nil || errand.AsError(err).Code != tt.want {
			t.Errorf("%s gave %v, want %s", name, err, tt.want)
		}
	}
	for name, v := range map[string]vault.Value{strings.Repeat("A", 255): good, "_b": {Value: strings.Repeat("x", 4096), Kind: errand.SecretVariable}} {
		if _, created, err := h.Put(t.Context(), vault.Team, name, v); err != nil || !created {
			t.Errorf("%.5s… gave %v, %v", name, created, err)
		}
	}
	if _, created, err := h.Put(t.Context(), vault.Team, "_B", good); err != nil || created {
		t.Errorf("the same name in another case gave %v, %v", created, err)
	}
}

func TestPages(t *testing.T) {
	h := open(t)
	for i := range 7 {
		h.put(vault.Team, fmt.Sprint("A", i), "x", errand.SecretVariable)
	}
	var names []string
	for cursor := ""; ; {
		page, next, err := h.List(t.Context(), vault.Query{Caller: ada, Limit: 3, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			names = append(names, s.Name)
		}
		if cursor = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"A0", "A1", "A2", "A3", "A4", "A5", "A6"}, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestRewrap rotates the key with many secrets and an agent of before, and stops
// in the middle.
func TestRewrap(t *testing.T) {
	h, ctx := open(t), t.Context()
	for i := range 120 {
		h.put(vault.Team, fmt.Sprint("A", i), fmt.Sprint("value ", i), errand.SecretVariable)
	}
	version, err := h.Rotate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before, total := time.Now().Add(-time.Hour), 0 // by version alone
	for range 10 {
		done, err := h.Rewrap(ctx, before)
		if err != nil {
			t.Fatal(err)
		}
		if total += done; done == 0 {
			break
		}
		h.Vault = vault.Open(h.store, filepath.Join(h.dir, "secret.key"), "", nil) // another process goes on
	}
	state, err := h.Key(ctx)
	if err != nil || total != 120 || len(state.Under) != 1 || state.Under[0].Version != version || state.Version != version || state.Error != "" {
		t.Errorf("%d were wrapped; %+v, %v", total, state, err)
	}
	if got := h.opened(vault.For{Caller: ada}).Env; len(got) != 120 {
		t.Errorf("%d can be opened", len(got))
	}
}

// TestRewrapGoesPast damages more secrets than one batch has: all others are
// wrapped anew, and the damaged ones named at the end with whose they are.
func TestRewrapGoesPast(t *testing.T) {
	h, ctx := open(t), t.Context()
	for i := range 60 {
		h.put(vault.UserOf(ada), fmt.Sprint("BAD", i), "value", errand.SecretVariable)
	}
	h.put(vault.Team, "GOOD", "value", errand.SecretVariable)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(h.dir, "errand.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `UPDATE secrets SET data_key = 'AAAA', wrapped_at = 1 WHERE name LIKE 'BAD%'`); err != nil {
		t.Fatal(err)
	}
	version, err := h.Rotate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(time.Hour)
	if done, err := h.Rewrap(ctx, time.UnixMilli(2)); done != 1 || err != nil {
		t.Errorf("it did %d, %v", done, err)
	}
	done, err := h.Rewrap(ctx, time.UnixMilli(2))
	if done != 0 || err == nil || strings.Count(err.Error(), " of the user "+ada.Person()+": ") != 20 || !strings.Contains(err.Error(), "and 40 more") || strings.Contains(err.Error(), "GOOD") {
		t.Errorf("then it did %d, %v", done, err)
	}
	rows, err := h.store.SecretsWrappedBefore(ctx, before, vault.OwnKey, version, 100)
	if err != nil || len(rows) != 61 {
		t.Errorf("%d rows are there, %v", len(rows), err)
	}
	for _, row := range rows {
		if (row.Name == "GOOD") != (row.Version == version) {
			t.Errorf("%s is under %s", row.Name, row.Version)
		}
	}
}

// TestMoveToAnotherKey starts the same store under another key-encryption key:
// both open, and after rewrap the first is not needed.
func TestMoveToAnotherKey(t *testing.T) {
	h, ctx := open(t), t.Context()
	h.put(vault.Team, "A", "value", errand.SecretVariable)
	const name = "file:///elsewhere"
	path := filepath.Join(h.dir, "other.key")
	moved := vault.Open(h.store, filepath.Join(h.dir, "secret.key"), name, func(context.Context, string) (*secret.KEK, error) {
		return secret.OpenKeyFile(path, vault.Unused(h.store, name, false)).KEK(name), nil
	})
	h.Vault = moved
	h.put(vault.Team, "B", "value", errand.SecretVariable)
	if got := h.opened(vault.For{Caller: ada}).Env; len(got) != 2 {
		t.Errorf("under both keys there is %v", got)
	}
	for {
		done, err := h.Rewrap(ctx, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if done == 0 {
			break
		}
	}
	if err := os.Remove(filepath.Join(h.dir, "secret.key")); err != nil {
		t.Fatal(err)
	}
	if got := h.opened(vault.For{Caller: ada}).Env; len(got) != 2 {
		t.Errorf("without the first key there is %v", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Open(ctx, vault.For{Caller: ada}); errand.AsError(err) == nil || errand.AsError(err).Code != "key_lost" {
		t.Errorf("without any key opening gave %v", err)
	}
	if _, _, err := h.Put(ctx, vault.Team, "C", vault.Value{Value: "x", Kind: errand.SecretVariable}); errand.AsError(err) == nil || errand.AsError(err).Code != "key_lost" {
		t.Errorf("without any key setting gave %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a lost key was replaced")
	}
	for _, n := range []string{"A", "B"} {
		if _, err := h.Delete(ctx, vault.Team, n); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := h.Put(ctx, vault.Team, "C", vault.Value{Value: "x", Kind: errand.SecretVariable}); err != nil {
		t.Errorf("with nothing sealed under the lost key, setting gave %v", err)
	}
}
