package vault_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

// agent makes one of ada's.
func (h *house) agent() vault.For {
	h.t.Helper()
	id := errand.NewAgentID()
	if err := h.store.Write(h.t.Context(), func(tx *store.Tx) error { return tx.InsertAgent(errand.Agent{ID: id}, "") }); err != nil {
		h.t.Fatal(err)
	}
	return vault.For{Agent: id, Caller: ada}
}

// gives opens the secrets and puts on record that a machine was given them.
func (h *house) gives(f vault.For) vault.Opened {
	h.t.Helper()
	o := h.opened(f)
	for i := range o.Uses {
		o.Uses[i].Agent, o.Uses[i].Build = f.Agent, f.BuildID
	}
	if err := h.record(o.Uses); err != nil {
		h.t.Fatal(err)
	}
	return o
}

func (h *house) record(uses []errand.SecretUse) error {
	return h.store.Write(h.t.Context(), func(tx *store.Tx) error {
		_, err := tx.PutSecretUses(uses)
		return err
	})
}

// guarded wants what a machine may not let out, by name.
func (h *house) guarded(when string, f vault.For, want map[string][]string) {
	h.t.Helper()
	o := h.opened(f)
	if diff := cmp.Diff(want, o.Guarded); diff != "" {
		h.t.Errorf("%s: guarded (-want +got)\n%s", when, diff)
	}
	hidden := 0
	for _, values := range want {
		hidden += len(values)
	}
	if len(o.Hidden) != hidden {
		h.t.Errorf("%s: hidden is %q", when, o.Hidden)
	}
}

// sealed says how many values there are, earlier ones among them.
func (h *house) sealed() (n int) {
	h.t.Helper()
	counts, err := h.store.KeyCounts(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range counts {
		n += c.Secrets
	}
	return n
}

// TestEarlierValues changes, shadows and removes secrets that a machine was given:
// their values stay hidden for that one, and no machine is given them again.
func TestEarlierValues(t *testing.T) {
	h := open(t)
	f, other := h.agent(), h.agent()
	h.put(vault.Team, "TOKEN", "value-1", errand.SecretRuntime)
	h.put(vault.Team, "PLAIN", "plain-1", errand.SecretVariable)
	h.gives(f)

	h.put(vault.Team, "TOKEN", "value-2", errand.SecretRuntime)
	h.put(vault.Team, "PLAIN", "plain-2", errand.SecretVariable)
	h.guarded("changed", f, map[string][]string{"TOKEN": {"value-2", "value-1"}})
	h.guarded("for another", other, map[string][]string{"TOKEN": {"value-2"}})
	o := h.gives(f)
	if diff := cmp.Diff([]string{"PLAIN=plain-2", "TOKEN=value-2"}, o.Env); diff != "" || len(o.Versions) != 2 || len(o.Uses) != 2 {
		t.Errorf("it is given %v, %v, %v", o.Env, o.Versions, o.Uses)
	}

	h.put(vault.Team, "TOKEN", "value-3", errand.SecretRuntime) // which no machine is given
	h.put(vault.Team, "TOKEN", "value-4", errand.SecretRuntime)
	h.gives(f)
	h.put(vault.UserOf(ada), "TOKEN", "nearer", errand.SecretRuntime)
	h.guarded("another before it", f, map[string][]string{"TOKEN": {"nearer", "value-1", "value-2", "value-4"}})
	h.gives(f)

	for _, owner := range []vault.Owner{vault.Team, vault.UserOf(ada)} {
		if _, err := h.Delete(t.Context(), owner, "TOKEN"); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string][]string{"TOKEN": {"value-1", "value-2", "value-4", "nearer"}}
	got := h.opened(f)
	if diff := cmp.Diff(set(all["TOKEN"]), set(got.Guarded["TOKEN"])); diff != "" || len(got.Hidden) != 4 || len(got.Env) != 1 {
		t.Errorf("removed: %+v\n%s", got, diff)
	}
	h.guarded("removed, for another", other, map[string][]string{})

	// 1 that holds and 4 of earlier; these go with their agent.
	if n := h.sealed(); n != 5 {
		t.Errorf("%d values are kept", n)
	}
	if err := h.store.Write(t.Context(), func(tx *store.Tx) error { return tx.DeleteAgent(f.Agent) }); err != nil {
		t.Fatal(err)
	}
	if n := h.sealed(); n != 1 {
		t.Errorf("with the agent gone %d values are kept", n)
	}
}

func set(all []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range all {
		out[s] = true
	}
	return out
}

// TestNoSecretAnyMore makes a plain variable of what was a secret: its value is
// hidden no more, one that it had before is.
func TestNoSecretAnyMore(t *testing.T) {
	h := open(t)
	f := h.agent()
	h.put(vault.Team, "REGION", "a-secret-place", errand.SecretRuntime)
	h.gives(f)
	h.put(vault.Team, "REGION", "everywhere", errand.SecretRuntime)
	h.gives(f)
	h.put(vault.Team, "REGION", "everywhere", errand.SecretVariable)
	h.guarded("a variable", f, map[string][]string{"REGION": {"a-secret-place"}})
}

// TestEarlierValuesOfBuild: a build that is open keeps the values that it was
// given, until it has ended.
func TestEarlierValuesOfBuild(t *testing.T) {
	h, ctx := open(t), t.Context()
	b := errand.Build{ID: errand.NewBuildID(time.Now()), Status: errand.BuildRunning}
	if err := h.store.Write(ctx, func(tx *store.Tx) error { return tx.InsertBuild(b) }); err != nil {
		t.Fatal(err)
	}
	f := vault.For{BuildID: b.ID, Build: true}
	h.put(vault.Team, "NPMRC", "value-1", errand.SecretBuild)
	h.gives(f)
	h.put(vault.Team, "NPMRC", "value-2", errand.SecretBuild)
	h.guarded("changed", f, map[string][]string{"NPMRC": {"value-2", "value-1"}})
	if got := h.opened(f).Build; string(got["NPMRC"]) != "value-2" || len(got) != 1 {
		t.Errorf("it is given %q", got)
	}
	b.Status = errand.BuildSucceeded
	if err := h.store.Write(ctx, func(tx *store.Tx) error { return tx.UpdateBuild(b) }); err != nil {
		t.Fatal(err)
	}
	if n := h.sealed(); n != 1 {
		t.Errorf("when it has ended %d values are kept", n)
	}
}

// TestChangedBetween changes and removes a secret after it was opened and before
// its use is on record: the use is refused, for nothing could hide it later.
func TestChangedBetween(t *testing.T) {
	h := open(t)
	f := h.agent()
	h.put(vault.Team, "TOKEN", "value-1", errand.SecretRuntime)
	for what, change := range map[string]func(){
		"changed": func() { h.put(vault.Team, "TOKEN", "value-2", errand.SecretRuntime) },
		"removed": func() {
			if _, err := h.Delete(t.Context(), vault.Team, "TOKEN"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		h.put(vault.Team, "TOKEN", "value-1", errand.SecretRuntime)
		o := h.opened(f)
		o.Uses[0].Agent = f.Agent
		change()
		if err := h.record(o.Uses); errand.AsError(err) == nil || errand.AsError(err).Code != store.SecretChanged {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestRewrapEarlier moves to another key: earlier values come along and are hidden
// without the first one. One that cannot be wrapped is named with who has it.
func TestRewrapEarlier(t *testing.T) {
	h, ctx := open(t), t.Context()
	f := h.agent()
	h.put(vault.Team, "TOKEN", "value-1", errand.SecretRuntime)
	h.gives(f)
	h.put(vault.Team, "TOKEN", "value-2", errand.SecretRuntime)
	const name = "file:///elsewhere"
	first, path := filepath.Join(h.dir, "secret.key"), filepath.Join(h.dir, "other.key")
	h.Vault = vault.Open(h.store, first, name, func(context.Context, string) (*secret.KEK, error) {
		return secret.OpenKeyFile(path, vault.Unused(h.store, name, false)).KEK(name), nil
	})
	if err := os.Rename(first, first+".away"); err != nil {
		t.Fatal(err)
	}
	h.put(vault.Team, "TOKEN", "value-3", errand.SecretRuntime) // value-2 was given to nobody
	done, err := h.Rewrap(ctx, time.Time{})
	if done != 0 || err == nil || !strings.Contains(err.Error(), "an earlier value of TOKEN, kept until what was given it is gone: agent "+string(f.Agent)) {
		t.Errorf("without the first key it did %d, %v", done, err)
	}
	if err := os.Rename(first+".away", first); err != nil {
		t.Fatal(err)
	}
	if done, err = h.Rewrap(ctx, time.Time{}); done != 1 || err != nil {
		t.Errorf("it did %d, %v", done, err)
	}
	if state, err := h.Key(ctx); err != nil || len(state.Under) != 1 || state.Under[0] != (store.KeyCount{KEK: name, Version: state.Version, Secrets: 2}) {
		t.Errorf("then the key is %+v, %v", state, err)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	h.guarded("under another key", f, map[string][]string{"TOKEN": {"value-3", "value-1"}})
}

// TestRewrapMeanwhile changes a secret while its data key is wrapped anew: the
// earlier value has the new wrapping.
func TestRewrapMeanwhile(t *testing.T) {
	h, ctx := open(t), t.Context()
	f := h.agent()
	h.put(vault.Team, "TOKEN", "value-1", errand.SecretRuntime)
	h.gives(f)
	read, err := h.store.SecretsWrappedBefore(ctx, time.Now().Add(time.Hour), vault.OwnKey, "", 10)
	if err != nil || len(read) != 1 {
		t.Fatalf("read %+v, %v", read, err)
	}
	h.put(vault.Team, "TOKEN", "value-2", errand.SecretRuntime)
	again := read[0].Sealed
	again.KEK, again.DataKey = "another", "AAAA"
	if err := h.store.Write(ctx, func(tx *store.Tx) error { return tx.Rewrap(read[0], again) }); err != nil {
		t.Fatal(err)
	}
	rows, err := h.store.SecretsGiven(ctx, f.Agent, "")
	if err != nil || len(rows) != 1 || !rows[0].Earlier() || rows[0].Sealed != again {
		t.Errorf("it is %+v, %v", rows, err)
	}
}
