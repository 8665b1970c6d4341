package setup_test

import (
	"context"
	"database/sql"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/llm"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/setup"
	"github.com/errand-dev/errand/store"
)

// logged is a log whose messages a test can wait for.
type logged struct {
	slog.Handler
	messages chan string
}

func (l logged) Handle(_ context.Context, r slog.Record) error {
	select {
	case l.messages <- r.Message:
	default:
	}
	return nil
}

// sql runs a statement on the database beside the store.
func (y *yard) sql(statement string) {
	y.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(y.options.Dir, "errand.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		y.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(y.t.Context(), statement); err != nil {
		y.t.Fatal(err)
	}
}

// TestNoRoom lets no change of a setup be written, as with a full disk, and wants
// the step done once: its failure waits for room.
func TestNoRoom(t *testing.T) {
	y := newYard(t)
	log := logged{slog.Default().Handler(), make(chan string, 100)}
	y.options.Log = slog.New(log)
	looks := atomic.Int32{}
	y.limits = setup.Options{Programs: func(context.Context) map[string]string {
		looks.Add(1)
		return nil
	}}
	y.open()
	y.sql(`CREATE TRIGGER full BEFORE UPDATE OF status ON setups BEGIN SELECT RAISE(ABORT, 'no room'); END`)
	s := y.row(errand.Setup{Status: errand.SetupSurveying, Repository: errand.Repository{URL: repository(t, node)}})
	y.run()
	for message := range log.messages {
		if strings.HasPrefix(message, "cannot write a setup's failure") {
			break
		}
	}
	if now := y.now(s.ID); now.Status != errand.SetupSurveying {
		t.Errorf("without room the setup is %s", now.Status)
	}
	y.sql(`DROP TRIGGER full`)
	if s = y.waits(s.ID); s.Status != errand.SetupProposed || s.Error == nil {
		t.Errorf("with room again the setup is %s: %v", s.Status, s.Error)
	}
	if n := looks.Load(); n != 1 {
		t.Errorf("the repository was looked at %d times, want once", n)
	}
}

// TestPushedOnce ends the process when a draft has been pushed, before its
// machines could go, and wants the next to push nothing.
func TestPushedOnce(t *testing.T) {
	y := withMachines(t, runner.Defaults{}, setup.Options{})
	repo := repository(t, map[string]string{"README": "hello\n"})
	id := y.drafted(repo, `{"install": "true"}`, "")
	y.sql(`CREATE TRIGGER stay BEFORE DELETE ON agents BEGIN SELECT RAISE(ABORT, 'not now'); END`)
	y.sql(`CREATE TRIGGER write BEFORE UPDATE OF status ON setups WHEN OLD.status = 'writing' AND NEW.status <> 'writing' BEGIN SELECT RAISE(ABORT, 'not now'); END`)
	if _, err := y.setups.Accept(t.Context(), caller, id, errand.Acceptance{As: errand.AcceptCommit}, true); err != nil {
		t.Fatal(err)
	}
	y.until(id, "the draft is pushed", func(e errand.Event) bool {
		return e.Kind == errand.EventPhaseEnded && read[errand.PhaseEnded](t, e).Phase == errand.PhaseWrite
	})
	y.stop()
	y.sql(`DROP TRIGGER stay`)
	y.sql(`DROP TRIGGER write`)
	pushed := *y.now(id).Accept
	if pushed.Commit == "" || pushed.Branch == "" {
		t.Errorf("nobody knows what was pushed before the machines go: %+v", pushed)
	}
	y.open()
	y.run()
	s := y.waits(id)
	if s.Status != errand.SetupAccepted || s.Accept.Branch != pushed.Branch || s.Accept.Commit != pushed.Commit || s.Accept.Writer != "" {
		t.Errorf("after the restart the setup is %s, with %+v instead of %+v: %v", s.Status, s.Accept, pushed, s.Error)
	}
	out, err := exec.Command("git", "-C", repo, "for-each-ref", "--format=%(refname:short) %(objectname)").Output()
	if want := pushed.Branch + " " + pushed.Commit + "\n"; err != nil || !strings.Contains(string(out), want) || strings.Count(string(out), "\n") != 2 {
		t.Errorf("the branches are\n%s, %v; want main and %s", out, err, want)
	}
}

// TestPushedBefore takes up an acceptance whose machine is gone already.
func TestPushedBefore(t *testing.T) {
	y := newYard(t)
	accept := errand.Acceptance{As: errand.AcceptCommit, Writer: errand.NewAgentID(), Branch: "errand/env", Commit: strings.Repeat("c", 40)}
	s := y.row(errand.Setup{Status: errand.SetupWriting, Branch: "errand/env", Draft: "{}", Accept: &accept})
	y.run()
	if s = y.waits(s.ID); s.Status != errand.SetupAccepted || s.Accept.Commit != accept.Commit || s.Accept.Branch != accept.Branch {
		t.Errorf("the setup is %s with %+v: %v", s.Status, s.Accept, s.Error)
	}
}

// TestOtherModel sends models to work, one after another, and wants each try made
// with the model that was chosen for it.
func TestOtherModel(t *testing.T) {
	y := newYard(t)
	y.options.Models = &runner.Models{
		Catalog:   llm.NewCatalog().With(llm.Entry{ID: "one", Provider: "test"}, llm.Entry{ID: "two", Provider: "test"}),
		Providers: map[string]runner.Provider{"test": {New: func(llm.Entry) llm.Model { return nil }}},
	}
	y.open()
	one, low := errand.Model{ID: "one"}, errand.Model{ID: "one", Params: map[string]string{"effort": "low"}}
	s := y.row(errand.Setup{
		Status: errand.SetupProposed, Commit: "c0ffee", Draft: "{}", Repository: errand.Repository{URL: "/srv/shop.git"},
		Proposal: &errand.Proposal{Path: ".errand/environment.json"},
	})
	var before errand.AgentID
	for _, model := range []errand.Model{one, {ID: "two"}, low, low, {}} {
		var last errand.Seq
		for _, e := range y.events(s.ID) {
			last = e.Seq
		}
		if _, err := y.setups.Open(t.Context(), caller, s.ID, errand.SetupAgent, model); err != nil {
			t.Fatal(err)
		}
		y.run()
		y.until(s.ID, "a model works", func(e errand.Event) bool {
			return e.Seq > last && e.Kind == errand.EventSetupChanged && strings.HasPrefix(read[errand.SetupChanged](t, e).What, "the model works")
		})
		y.stop()
		s = y.now(s.ID)
		agent, err := y.store.Agent(t.Context(), s.Machine)
		if err != nil {
			t.Fatal(err)
		}
		want := model
		if want.ID == "" {
			want = low // the one that was chosen last
		}
		if diff := cmp.Diff(want, agent.Settings.Model); diff != "" {
			t.Errorf("the model that works (-want +got):\n%s", diff)
		}
		if before != "" && agent.ID != before {
			t.Errorf("%v works in another machine than the one before it", model)
		}
		before = agent.ID
		// As after a try that came to nothing.
		if err := y.store.Write(t.Context(), func(tx *store.Tx) error {
			s.Status = errand.SetupProposed
			return tx.UpdateSetup(s)
		}); err != nil {
			t.Fatal(err)
		}
		y.open()
	}
}
