package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"
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

const (
	// rewrapAtOnce is how many data keys one transaction of Rewrap writes.
	rewrapAtOnce = 50
	// rewrapTries is how many that cannot be wrapped one Rewrap goes past: where no
	// key answers, it is not asked for every secret that there is.
	rewrapTries = 200
)

// Rewrap wraps data keys anew under the current key: a batch of those that were
// wrapped before a time or by another key. It says how many it did; 0 means that
// none is left. What cannot be wrapped is left as it is, and the error when
// nothing else is left names it. It can be stopped at any point and called again
// with the same time.
func (v *Vault) Rewrap(ctx context.Context, before time.Time) (int, error) {
	done, failed, err := v.renewOld(ctx)
	if err != nil || done > 0 {
		return done, err
	}
	version, err := v.envelope.Version(ctx)
	if err != nil {
		return 0, err
	}
	tried := map[revision]bool{}
	for limit := rewrapAtOnce; ; limit += rewrapAtOnce {
		rows, err := v.store.SecretsWrappedBefore(ctx, before, v.envelope.Current(), version, limit)
		if err != nil {
			return 0, err
		}
		fresh := slices.DeleteFunc(slices.Clone(rows), func(r store.SecretRow) bool { return tried[revisionOf(r)] })
		for _, row := range fresh {
			tried[revisionOf(row)] = true
		}
		done, odd, err := v.rewrap(ctx, fresh)
		if err != nil || done > 0 {
			return done, err
		}
		failed = append(failed, odd...)
		if len(rows) < limit || len(tried) >= rewrapTries {
			return 0, notWrapped(failed)
		}
	}
}

// revision is one value of a secret.
type revision struct {
	secret errand.SecretID
	number int64
}

func revisionOf(r store.SecretRow) revision { return revision{r.ID, r.Revision} }

// lapse is something that is sealed and could not be sealed anew.
type lapse struct {
	what string
	err  error
}

// rewrap wraps the data keys of rows anew, and says which could not be.
func (v *Vault) rewrap(ctx context.Context, rows []store.SecretRow) (done int, failed []lapse, err error) {
	again, errs := make([]secret.Sealed, len(rows)), make([]error, len(rows))
	var wrapping errgroup.Group
	wrapping.SetLimit(openAtOnce)
	for i, row := range rows {
		wrapping.Go(func() error {
			again[i], errs[i] = v.envelope.Rewrap(ctx, secret.Sealed(row.Sealed))
			return ctx.Err()
		})
	}
	if err := wrapping.Wait(); err != nil {
		return 0, nil, err
	}
	err = v.store.Write(ctx, func(t *store.Tx) error {
		done, failed = 0, nil
		for i, row := range rows {
			if errs[i] != nil {
				what, err := told(ctx, t, row)
				if err != nil {
					return err
				}
				failed = append(failed, lapse{what, errs[i]})
				continue
			}
			done++
			if err := t.Rewrap(row, store.Sealed(again[i])); err != nil {
				return err
			}
		}
		return nil
	})
	return done, failed, err
}

// told names a secret with whose it is, and an earlier value with who has it.
func told(ctx context.Context, t *store.Tx, row store.SecretRow) (string, error) {
	switch {
	case row.Earlier():
		agents, err := t.AgentsGiven(ctx, row.ID, row.Revision)
		return fmt.Sprintf("an earlier value of %s, kept until what was given it is gone: %s", row.Name, holders(agents)), err
	case row.Scope == errand.ScopeAgent:
		return "the variables of agent " + row.Owner, nil
	case row.Owner == "":
		return fmt.Sprintf("%s of the %s", row.Name, row.Scope), nil
	}
	return fmt.Sprintf("%s of the %s %s", row.Name, row.Scope, row.Owner), nil
}

// holders names the agents for whom an earlier value is kept; where there are
// none, it is for a build.
func holders(agents []errand.AgentID) string {
	if len(agents) == 0 {
		return "a build"
	}
	const most = 5
	text := "agent"
	for i, id := range agents[:min(len(agents), most)] {
		if i > 0 {
			text += ","
		}
		text += " " + string(id)
	}
	if len(agents) > most {
		text += fmt.Sprintf(" and %d more", len(agents)-most)
	}
	return text
}

// notWrapped is an error that names what could not be wrapped anew; nil for none.
func notWrapped(failed []lapse) error {
	if len(failed) == 0 {
		return nil
	}
	const most = 20
	var text strings.Builder
	for _, l := range failed[:min(len(failed), most)] {
		fmt.Fprintf(&text, "\n- %s: %s", l.what, errand.AsError(l.err).Message)
	}
	if len(failed) > most {
		fmt.Fprintf(&text, "\n… and %d more", len(failed)-most)
	}
	first := errand.AsError(failed[0].err)
	return errand.Errorf(first.Kind, first.Code, "These could not be wrapped anew and stay as they are. See that their keys are there and answer, or set or delete them (errand rm for agents), and run it again:%s", text.String())
}

// renewOld gives data keys to values of agents from before there were any, and
// says of which that could not be done.
func (v *Vault) renewOld(ctx context.Context) (done int, failed []lapse, err error) {
	tried := map[errand.AgentID]bool{}
	for limit := rewrapAtOnce; ; limit += rewrapAtOnce {
		agents, err := v.store.AgentsWithEnv(ctx, limit)
		if err != nil {
			return done, failed, err
		}
		for _, id := range agents {
			if tried[id] {
				continue
			}
			tried[id] = true
			vars, err := v.variablesOf(ctx, id)
			if err == nil {
				err = v.renew(ctx, id, vars)
			} else if ctx.Err() == nil {
				failed = append(failed, lapse{"the variables of agent " + string(id), err})
				continue
			}
			if err != nil {
				return done, failed, err
			}
			done++
		}
		if done > 0 || len(agents) < limit || len(tried) >= rewrapTries {
			return done, failed, nil
		}
	}
}

// renew seals an agent's variables under a data key, in place of what was there.
func (v *Vault) renew(ctx context.Context, id errand.AgentID, vars []byte) error {
	row, err := v.sealFor(ctx, id, vars)
	if err != nil {
		return err
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
	if errand.KindOf(err) == errand.NotFound {
		return nil // the agent is gone
	}
	return err
}
