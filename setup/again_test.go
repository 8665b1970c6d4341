package setup_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/setup"
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
	db, err := sql.Open("sqlite", "file:"+filepath.Join(y.options.Dir, "errand.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `CREATE TRIGGER full BEFORE UPDATE OF status ON setups BEGIN SELECT RAISE(ABORT, 'no room'); END`); err != nil {
		t.Fatal(err)
	}
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
	if _, err := db.ExecContext(t.Context(), `DROP TRIGGER full`); err != nil {
		t.Fatal(err)
	}
	if s = y.waits(s.ID); s.Status != errand.SetupProposed || s.Error == nil {
		t.Errorf("with room again the setup is %s: %v", s.Status, s.Error)
	}
	if n := looks.Load(); n != 1 {
		t.Errorf("the repository was looked at %d times, want once", n)
	}
}
