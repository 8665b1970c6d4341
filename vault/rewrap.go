package vault

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// KeyState says which key seals, and how far all secrets are under it.
type KeyState struct {
	Key     string           `json:"key"`               // the current key-encryption key
	Version string           `json:"version,omitempty"` // its version; "" where it tells none
	Under   []store.KeyCount `json:"under"`             // what is sealed under which
	Old     int              `json:"old,omitempty"`     // agents whose variables have no data key yet
	Error   string           `json:"error,omitempty"`   // why the key cannot be used
}

// Key tries the current key out and says how things stand. A key that does not
// work is no error: the state tells it.
func (v *Vault) Key(ctx context.Context) (KeyState, error) {
	state := KeyState{Key: v.envelope.Current(), Under: []store.KeyCount{}}
	counts, err := v.store.KeyCounts(ctx)
	if err != nil {
		return state, err
	}
	state.Under = append(state.Under, counts...)
	if state.Old, err = v.store.CountAgentsWithEnv(ctx); err != nil {
		return state, err
	}
	if state.Version, err = v.envelope.Check(ctx); err != nil {
		state.Error = errand.AsError(err).Message
	}
	return state, nil
}

// Rotate makes a new version of the current key, where that is ours to do, and
// gives it. What is sealed under the earlier ones stays so until Rewrap.
func (v *Vault) Rotate(ctx context.Context) (string, error) { return v.envelope.Rotate(ctx) }

// rewrapAtOnce is how many data keys one transaction of Rewrap writes.
const rewrapAtOnce = 50

// Rewrap wraps data keys anew under the current key: a batch of those that were
// wrapped before a time or by another key. It says how many it did; 0 means that
// none is left. It can be stopped at any point and called again with the same
// time.
func (v *Vault) Rewrap(ctx context.Context, before time.Time) (int, error) {
	if done, err := v.renewOld(ctx); err != nil || done > 0 {
		return done, err
	}
	version, err := v.envelope.Version(ctx)
	if err != nil {
		return 0, err
	}
	rows, err := v.store.SecretsWrappedBefore(ctx, before, v.envelope.Current(), version, rewrapAtOnce)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	again := make([]secret.Sealed, len(rows))
	var wrapping errgroup.Group
	wrapping.SetLimit(openAtOnce)
	for i, row := range rows {
		wrapping.Go(func() (err error) {
			if again[i], err = v.envelope.Rewrap(ctx, secret.Sealed(row.Sealed)); err != nil {
				return fmt.Errorf("wrapping the key of the secret %s: %w", row.Name, err)
			}
			return nil
		})
	}
	if err := wrapping.Wait(); err != nil {
		return 0, err
	}
	err = v.store.Write(ctx, func(t *store.Tx) error {
		for i, row := range rows {
			if err := t.Rewrap(row, store.Sealed(again[i])); err != nil {
				return err
			}
		}
		return nil
	})
	return len(rows), err
}

// renewOld gives data keys to values of agents from before there were any.
func (v *Vault) renewOld(ctx context.Context) (int, error) {
	agents, err := v.store.AgentsWithEnv(ctx, rewrapAtOnce)
	if err != nil {
		return 0, err
	}
	for done, id := range agents {
		vars, err := v.variablesOf(ctx, id)
		if err != nil {
			return done, err
		}
		row, err := v.sealFor(ctx, id, vars)
		if err != nil {
			return done, err
		}
		err = v.store.Write(ctx, func(t *store.Tx) error {
			if old, err := t.AgentEnv(ctx, id); err != nil || old == "" {
				return err
			}
			if err := t.ClearAgentEnv(id); err != nil {
				return err
			}
			return t.PutSecret(*row)
		})
		if err != nil && errand.KindOf(err) != errand.NotFound {
			return done, err
		}
	}
	return len(agents), nil
}
