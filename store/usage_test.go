package store_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

func date(text string) time.Time {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return t
}

// used keeps usage of a day that is past.
func used(t *testing.T, s *store.Store, day, model, repository, person string, tokens int64) {
	t.Helper()
	err := store.Exec(s, fmt.Sprintf(`INSERT INTO usage VALUES (%d, '%s', '%s', '%s', %d, 1, 2, 3, 4, 5, 6000)`,
		date(day).Unix()/86400, model, repository, person, tokens))
	if err != nil {
		t.Fatal(err)
	}
}

func TestUsageOverTime(t *testing.T) {
	s := open(t)
	used(t, s, "2026-11-01", "a", "r", "ada", 10)    // a Sunday
	used(t, s, "2026-11-02", "a", "r", "bob", 20)    // a Monday
	used(t, s, "2026-11-08", "b", "", "ada", 30)     // the Sunday after
	used(t, s, "2026-11-09", "c", "r", "ada", 5)     // the next week
	used(t, s, "2026-12-01", "a", "r", "ada", 10000) // not asked for
	type row struct {
		Start, Name string
		Others      bool
		Input       int64
	}
	for _, tt := range []struct {
		by    string
		weeks bool
		most  int
		want  []row
	}{
		{"", true, 8, []row{{"2026-10-26", "", false, 10}, {"2026-11-02", "", false, 50}, {"2026-11-09", "", false, 5}}},
		{"model", true, 2, []row{{"2026-10-26", "a", false, 10}, {"2026-11-02", "a", false, 20}, {"2026-11-02", "b", false, 30}, {"2026-11-09", "", true, 5}}},
		{"repository", true, 1, []row{{"2026-10-26", "r", false, 10}, {"2026-11-02", "r", false, 20}, {"2026-11-02", "", true, 30}, {"2026-11-09", "r", false, 5}}},
		{"person", false, 8, []row{{"2026-11-01", "ada", false, 10}, {"2026-11-02", "bob", false, 20}, {"2026-11-08", "ada", false, 30}, {"2026-11-09", "ada", false, 5}}},
	} {
		all, err := s.Usage(t.Context(), store.UsageQuery{From: date("2026-11-01"), To: date("2026-11-30"), By: tt.by, Weeks: tt.weeks, Most: tt.most})
		if err != nil {
			t.Fatal(err)
		}
		var got []row
		for _, u := range all {
			got = append(got, row{u.Start.Format(time.DateOnly), u.Name, u.Others, u.Usage.Input})
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("by %q: %s", tt.by, d)
		}
	}
}

func TestUsageAddsUp(t *testing.T) {
	s := open(t)
	of := errand.UsageOf{Model: "m", Repository: "r", Person: "ada"}
	var now time.Time
	for range 2 {
		write(t, s, func(tx *store.Tx) error {
			now = tx.Now()
			return tx.AddUsage(of, errand.Spent{Usage: errand.Usage{Input: 1, Output: 2, CacheRead: 3, CacheWrite: 4}, Cost: 5, Machine: 50 * time.Hour})
		})
	}
	all, err := s.Usage(t.Context(), store.UsageQuery{From: now.AddDate(0, 0, -9), To: now, By: "model", Most: 8})
	if err != nil {
		t.Fatal(err)
	}
	var sum errand.Spent
	for _, u := range all {
		sum = sum.Add(u.Spent)
		if u.Machine > 2*24*time.Hour {
			t.Errorf("two machines ran for %s on one day", u.Machine)
		}
	}
	want := errand.Spent{Usage: errand.Usage{Input: 2, Output: 4, CacheRead: 6, CacheWrite: 8}, Cost: 10, Machine: 100 * time.Hour}
	if d := cmp.Diff(want, sum); d != "" || len(all) < 3 {
		t.Errorf("%d days: %s", len(all), d)
	}
}

func TestMachinesMeter(t *testing.T) {
	s := open(t)
	id := newAgent(t, s).ID
	meter := func(running bool) (ran time.Duration) {
		t.Helper()
		write(t, s, func(tx *store.Tx) (err error) { ran, err = tx.MeterMachine(id, running); return err })
		return ran
	}
	began := func(hours int) {
		t.Helper()
		if err := store.Exec(s, fmt.Sprintf(`UPDATE machines SET metered_at = %d`, time.Now().Add(-time.Duration(hours)*time.Hour).UnixMilli())); err != nil {
			t.Fatal(err)
		}
	}
	if ran := meter(true); ran != 0 {
		t.Errorf("no machine ran for %s", ran)
	}
	write(t, s, func(tx *store.Tx) error {
		if err := tx.PutMachine(store.Machine{ID: "m", Agent: id, State: store.MachineWanted}); err != nil {
			return err
		}
		return tx.StartMeter(id, true)
	})
	began(5)
	write(t, s, func(tx *store.Tx) error { return tx.StartMeter(id, false) })
	if ran := meter(true).Round(time.Minute); ran != 5*time.Hour {
		t.Errorf("it ran for %s", ran)
	}
	began(3)
	if ran := meter(false).Round(time.Minute); ran != 3*time.Hour {
		t.Errorf("it ran for %s more", ran)
	}
	if ran := meter(true); ran != 0 {
		t.Errorf("stopped it ran for %s", ran)
	}
}

// TestUsageOfMany: usage is asked for fast however much there is: here a row for
// each of 100,000 agents, none like another.
func TestUsageOfMany(t *testing.T) {
	s := open(t)
	agents := 100_000
	if raced {
		agents /= 40
	}
	err := store.Exec(s, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d - 1)
		INSERT INTO usage SELECT 20000 + i %% 365, 'model ' || (i %% 7), 'repository ' || i, 'person ' || (i %% 50), i, 1, 1, 1, 0, 1, 1 FROM n`, agents))
	if err != nil {
		t.Fatal(err)
	}
	from := time.Unix(20000*86400, 0).UTC()
	for _, by := range []string{"", "model", "repository", "person"} {
		began := time.Now()
		all, err := s.Usage(t.Context(), store.UsageQuery{From: from, To: from.AddDate(0, 0, 364), By: by, Most: 8})
		if err != nil || len(all) < 365 || len(all) > 365*9 {
			t.Fatalf("by %q: %d rows, %v", by, len(all), err)
		}
		took := time.Since(began)
		t.Logf("by %q: %d rows in %s", by, len(all), took)
		if took > 5*time.Second {
			t.Errorf("by %q: %s", by, took)
		}
	}
}

// TestUsageBefore: what was used before there was a table of it is in it.
func TestUsageBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "errand.db")
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	agent := newAgent(t, s)
	run := newRun(t, s, agent.ID)
	run.Usage = errand.Usage{Input: 7, Output: 5, CacheRead: 3, CacheWrite: 1}
	write(t, s, func(tx *store.Tx) error { return tx.UpdateRun(run) })
	for _, q := range []string{`DROP TABLE usage`, `ALTER TABLE machines DROP COLUMN metered_at`, `DELETE FROM goose_db_version WHERE version_id = 8`} {
		if err := store.Exec(s, q); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for by, name := range map[string]string{"model": "m", "repository": "https://example.com/r.git", "person": "ada@example.com"} {
		all, err := s.Usage(t.Context(), store.UsageQuery{From: run.CreatedAt, To: run.CreatedAt, By: by, Most: 8})
		if err != nil || len(all) != 1 || all[0].Name != name || all[0].Usage != run.Usage || all[0].Unpriced != 16 {
			t.Errorf("by %s: %+v, %v", by, all, err)
		}
	}
}
