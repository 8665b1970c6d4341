package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/errand-dev/errand"
)

// A statement that failed, was rolled back or lost its context serves the next
// transaction as if nothing had been.
func TestStatementsAfterFailures(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	add := func(ctx context.Context, id errand.AgentID, then error) error {
		return s.Write(ctx, func(tx *Tx) error {
			return errors.Join(tx.InsertAgent(errand.Agent{ID: id, Name: "one"}, ""), then)
		})
	}
	ids := []errand.AgentID{errand.NewAgentID(), errand.NewAgentID(), errand.NewAgentID(), errand.NewAgentID()}
	undone := errand.NewAgentID()
	wrong := errors.New("on purpose")
	for i, id := range ids {
		if err := add(t.Context(), id, nil); err != nil {
			t.Fatalf("adding agent %d: %v", i, err)
		}
		if err := add(t.Context(), id, nil); err == nil {
			t.Error("an agent was added twice")
		}
		if err := add(t.Context(), undone, wrong); !errors.Is(err, wrong) {
			t.Errorf("rolling back: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Write(ctx, func(tx *Tx) error {
			if err := tx.InsertAgent(errand.Agent{ID: undone, Name: "one"}, ""); err != nil {
				return err
			}
			cancel()
			return tx.UpdateAgent(errand.Agent{ID: undone, Name: "two"})
		})
		if err == nil {
			t.Error("a transaction outlived its context")
		}
	}
	if len(s.parsed.known) == 0 {
		t.Error("nothing was kept")
	}
	for _, id := range ids {
		if _, err := s.Agent(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Agent(t.Context(), undone); errand.KindOf(err) != errand.NotFound {
		t.Errorf("what was rolled back: %v", err)
	}
}
