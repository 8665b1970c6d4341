package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func write(t *testing.T, s *store.Store, f func(*store.Tx) error) {
	t.Helper()
	if err := s.Write(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func newAgent(t *testing.T, s *store.Store) errand.Agent {
	t.Helper()
	a := errand.Agent{
		ID: errand.NewAgentID(), Name: "Fix the test", Status: errand.AgentActive,
		Caller:       errand.Caller{Key: "k", Name: "Ada", Email: "ada@example.com"},
		Repositories: []errand.Repository{{URL: "https://example.com/r.git", Ref: "main"}},
		Branch:       "errand/fix-ab12", Settings: errand.Settings{Model: errand.Model{ID: "m", Params: map[string]string{"effort": "high"}}, Limits: errand.Limits{CPUs: 1.5}},
		CreatedAt: time.UnixMilli(1000).UTC(), UpdatedAt: time.UnixMilli(1000).UTC(),
	}
	write(t, s, func(tx *store.Tx) error { return tx.InsertAgent(a, "sealed") })
	return a
}

func newRun(t *testing.T, s *store.Store, agent errand.AgentID) errand.Run {
	t.Helper()
	r := errand.Run{ID: errand.NewRunID(), Agent: agent, Prompt: errand.Prompt{Text: "do it", Images: []errand.Image{{MIME: "image/png", Data: []byte{1, 2}}}}, Status: errand.RunQueued}
	write(t, s, func(tx *store.Tx) error {
		r.CreatedAt, r.UpdatedAt = tx.Now(), tx.Now()
		return tx.InsertRun(r)
	})
	return r
}

func TestAgentsComeBackAsTheyWere(t *testing.T) {
	s := open(t)
	want := newAgent(t, s)
	got, err := s.Agent(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if env, err := s.AgentEnv(t.Context(), want.ID); env != "sealed" || err != nil {
		t.Errorf("env = %q, %v", env, err)
	}
	err = s.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertAgent(want, "") })
	if e := errand.AsError(err); e.Kind != errand.Conflict || e.Code != "agent_id_conflict" {
		t.Errorf("a second agent with the id gave %v", err)
	}
	if _, err := s.Agent(t.Context(), errand.NewAgentID()); errand.KindOf(err) != errand.NotFound {
		t.Errorf("an unknown agent gave %v", err)
	}
}

func TestAgentsArePagedNewestFirst(t *testing.T) {
	s := open(t)
	var ids []errand.AgentID
	for range 5 {
		ids = append(ids, newAgent(t, s).ID)
	}
	write(t, s, func(tx *store.Tx) error {
		a, err := tx.Agent(t.Context(), ids[2])
		a.Status = errand.AgentArchived
		return errors.Join(err, tx.UpdateAgent(a))
	})
	// next lists from a page's cursor on and checks what comes.
	next := func(query store.AgentQuery, want ...int) string {
		t.Helper()
		got, cursor, err := s.Agents(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		var have, wanted []errand.AgentID
		for _, a := range got {
			have = append(have, a.ID)
		}
		for _, i := range want {
			wanted = append(wanted, ids[i])
		}
		if d := cmp.Diff(wanted, have); d != "" {
			t.Errorf("%+v: %s", query, d)
		}
		return cursor
	}
	cursor := next(store.AgentQuery{Limit: 2, IncludeArchived: true}, 4, 3)
	next(store.AgentQuery{Limit: 2, Cursor: cursor}, 1, 0)
	// Those of the first page are deleted meanwhile.
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.DeleteAgent(ids[3]), tx.DeleteAgent(ids[4])) })
	cursor = next(store.AgentQuery{Limit: 2, IncludeArchived: true, Cursor: cursor}, 2, 1)
	if cursor = next(store.AgentQuery{Limit: 2, IncludeArchived: true, Cursor: cursor}, 0); cursor != "" {
		t.Errorf("the last page has the cursor %q", cursor)
	}
	for _, bad := range []string{"x", "-1", string(ids[0])} {
		if _, _, err := s.Agents(t.Context(), store.AgentQuery{Limit: 2, Cursor: bad}); errand.KindOf(err) != errand.Invalid {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

func TestSetupsArePagedNewestFirst(t *testing.T) {
	s := open(t)
	var ids []errand.SetupID
	for range 3 {
		id := errand.NewSetupID()
		ids = append(ids, id)
		write(t, s, func(tx *store.Tx) error { return tx.InsertSetup(errand.Setup{ID: id}) })
	}
	first, cursor, err := s.Setups(t.Context(), 2, "")
	if err != nil || len(first) != 2 || first[0].ID != ids[2] || first[1].ID != ids[1] {
		t.Fatalf("the first page: %+v, %v", first, err)
	}
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.DeleteSetup(ids[1]), tx.DeleteSetup(ids[2])) })
	if rest, cursor, err := s.Setups(t.Context(), 2, cursor); err != nil || len(rest) != 1 || rest[0].ID != ids[0] || cursor != "" {
		t.Errorf("the second page: %+v, %q, %v", rest, cursor, err)
	}
}

func TestRunsComeBackAsTheyWere(t *testing.T) {
	s := open(t)
	a := newAgent(t, s)
	want := newRun(t, s, a.ID)
	code := 3
	want.Status, want.Phase, want.CancelAsked = errand.RunFailed, errand.PhaseInstall, true
	want.Error = &errand.Error{Kind: errand.Unavailable, Code: "install_failed", Message: "It failed.", Output: "boom", ExitCode: &code}
	want.Usage = errand.Usage{Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4}
	want.StartedAt, want.EndedAt = time.UnixMilli(5).UTC(), time.UnixMilli(6).UTC()
	write(t, s, func(tx *store.Tx) error { want.UpdatedAt = tx.Now(); return tx.UpdateRun(want) })
	got, err := s.Run(t.Context(), a.ID, want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := s.Run(t.Context(), errand.NewAgentID(), want.ID); errand.KindOf(err) != errand.NotFound {
		t.Errorf("another agent's run gave %v", err)
	}
}

// TestRunsInListsAreSmall lists runs with pictures: these are not read with them.
func TestRunsInListsAreSmall(t *testing.T) {
	s := open(t)
	a := newAgent(t, s)
	run := newRun(t, s, a.ID)
	run.Usage = errand.Usage{Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4}
	write(t, s, func(tx *store.Tx) error { return tx.UpdateRun(run) })
	all, err := s.Runs(t.Context(), a.ID, 10, "")
	if err != nil || len(all) != 1 || all[0].Prompt.Text != run.Prompt.Text || all[0].Prompt.Images != nil {
		t.Errorf("Runs = %+v, %v", all, err)
	}
	used, err := s.Usages(t.Context(), a.ID, 10)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]errand.Run{{ID: run.ID, Usage: run.Usage}}, used); d != "" {
		t.Error(d)
	}
}

// TestJournalOnlyGrows holds the product's most important promise at its lowest
// place: no statement changes or removes an event of an agent that exists.
func TestJournalOnlyGrows(t *testing.T) {
	s := open(t)
	a := newAgent(t, s)
	append1 := func(texts ...string) []errand.Event {
		events := make([]errand.Event, len(texts))
		for i, text := range texts {
			events[i] = errand.Event{Kind: errand.EventNotice, Data: []byte(fmt.Sprintf(`{"text":%q}`, text))}
		}
		write(t, s, func(tx *store.Tx) error { return tx.AppendEvents(a.ID, events) })
		return events
	}
	written := append(append1("one", "two"), append1("three")...)
	got, err := s.Events(t.Context(), a.ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(written, got); d != "" {
		t.Error(d)
	}
	for i, e := range got {
		if e.Seq != errand.Seq(i+1) {
			t.Errorf("event %d has number %d", i, e.Seq)
		}
	}
	for _, statement := range []string{`UPDATE events SET data = '{}'`, `DELETE FROM events`, `DELETE FROM events WHERE seq = 3`} {
		if err := store.Exec(s, statement); err == nil || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s gave %v, want the journal's refusal", statement, err)
		}
	}
	// A transaction that fails leaves no event and no hole in the numbers.
	failure := errors.New("no")
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.AppendEvents(a.ID, []errand.Event{{Kind: errand.EventNotice, Data: []byte("{}")}}), failure)
	})
	if !errors.Is(err, failure) {
		t.Fatal(err)
	}
	if e := append1("four"); e[0].Seq != 4 {
		t.Errorf("after a transaction that failed the next number is %d, want 4", e[0].Seq)
	}
	write(t, s, func(tx *store.Tx) error { return tx.DeleteAgent(a.ID) })
	if left, err := s.Events(t.Context(), a.ID, 0, 100); err != nil || len(left) > 0 {
		t.Errorf("a deleted agent left %d events, %v", len(left), err)
	}
}

func TestClaim(t *testing.T) {
	s := open(t)
	a, b := newAgent(t, s), newAgent(t, s)
	first, second := newRun(t, s, a.ID), newRun(t, s, a.ID)
	other := newRun(t, s, b.ID)
	claim := func(owner string, lease time.Duration) (got errand.RunID) {
		t.Helper()
		write(t, s, func(tx *store.Tx) error {
			r, ok, err := tx.Claim(owner, lease)
			if ok {
				got = r.ID
			}
			return err
		})
		return got
	}
	if got := map[errand.RunID]bool{claim("x", time.Hour): true, claim("x", time.Hour): true}; !got[first.ID] || !got[other.ID] {
		t.Errorf("claimed %v, want the first run of each agent, %s and %s", got, first.ID, other.ID)
	}
	if got := claim("y", time.Hour); got != "" {
		t.Errorf("claimed %s although all are taken or wait", got)
	}
	// A lease that is over, or was released by a new holder, is had again.
	write(t, s, func(tx *store.Tx) error { return tx.ReleaseAll() })
	released := claim("y", 0)
	if released != first.ID && released != other.ID {
		t.Errorf("claimed %q after the release, want %s or %s", released, first.ID, other.ID)
	}
	if got := claim("y", 0); got != first.ID && got != other.ID {
		t.Errorf("claimed %q after the lease was over, want %s or %s", got, first.ID, other.ID)
	}
	write(t, s, func(tx *store.Tx) error {
		r, err := tx.Run(t.Context(), a.ID, first.ID)
		r.Status = errand.RunFinished
		return errors.Join(err, tx.UpdateRun(r))
	})
	// Both were made in the same millisecond perhaps, so either may come first.
	got := map[errand.RunID]bool{claim("z", time.Hour): true, claim("z", time.Hour): true}
	if !got[second.ID] || !got[other.ID] {
		t.Errorf("claimed %v once the first had ended, want %s and %s", got, second.ID, other.ID)
	}
}

// TestSleepGivesNothingTwice lets a lease run out while its owner lives, as it
// does when the host sleeps.
func TestSleepGivesNothingTwice(t *testing.T) {
	s := open(t)
	run := newRun(t, s, newAgent(t, s).ID)
	claim := func(owner string) (id errand.RunID) {
		write(t, s, func(tx *store.Tx) error {
			r, _, err := tx.Claim(owner, 0)
			id = r.ID
			return err
		})
		return id
	}
	for _, c := range []struct {
		owner string
		want  errand.RunID
	}{{"x", run.ID}, {"x", ""}, {"y", run.ID}} {
		if got := claim(c.owner); got != c.want {
			t.Errorf("%s claimed %q, want %q", c.owner, got, c.want)
		}
	}
}

func TestClaimIsForOne(t *testing.T) {
	s := open(t)
	const runs = 20
	for range runs {
		newRun(t, s, newAgent(t, s).ID)
	}
	got := make(chan errand.RunID)
	for range runs {
		go func() {
			var id errand.RunID
			if err := s.Write(context.Background(), func(tx *store.Tx) error {
				r, _, err := tx.Claim("x", time.Hour)
				id = r.ID
				return err
			}); err != nil {
				t.Error(err)
			}
			got <- id
		}()
	}
	seen := map[errand.RunID]bool{}
	for range runs {
		id := <-got
		if id == "" || seen[id] {
			t.Errorf("claimed %q twice or nothing", id)
		}
		seen[id] = true
	}
}

func TestKeysAndRequests(t *testing.T) {
	s := open(t)
	k := store.Key{ID: "1", Name: "laptop", Hash: "h", Person: "Ada", CreatedAt: time.UnixMilli(7).UTC()}
	write(t, s, func(tx *store.Tx) error { return errors.Join(tx.InsertKey(k), tx.RevokeKey("laptop")) })
	got, err := s.KeyByHash(t.Context(), "h")
	if err != nil || got.RevokedAt.IsZero() || got.Name != "laptop" {
		t.Errorf("KeyByHash = %+v, %v", got, err)
	}
	if err := s.Write(t.Context(), func(tx *store.Tx) error { return tx.RevokeKey("other") }); errand.KindOf(err) != errand.NotFound {
		t.Errorf("revoking an unknown key gave %v", err)
	}
	write(t, s, func(tx *store.Tx) error { return tx.PutRequest("a", "k", store.Request{Agent: "bc-1", Run: "run-1"}) })
	if r, ok, err := s.Request(t.Context(), "a", "k"); !ok || err != nil || r.Run != "run-1" {
		t.Errorf("Request = %+v, %v, %v", r, ok, err)
	}
	if _, ok, _ := s.Request(t.Context(), "b", "k"); ok {
		t.Error("another caller's idempotency key was found")
	}
}
