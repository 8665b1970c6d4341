package build_test

import (
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/snapshot"
	"github.com/errand-dev/errand/store"
)

// nowhere is a host without machines.
type nowhere struct{ machine.Driver }

func (nowhere) List(context.Context) ([]machine.Handle, error) { return nil, nil }

// errorsOnly is a log of which only errors matter: at is told each.
type errorsOnly struct {
	slog.Handler
	at func()
}

func (h errorsOnly) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }
func (h errorsOnly) WithAttrs([]slog.Attr) slog.Handler           { return h }

func (h errorsOnly) Handle(context.Context, slog.Record) error {
	h.at()
	return nil
}

// TestEndIsWrittenLater keeps the end of a build from being written for a while:
// the build is not made again meanwhile, and ends once it can.
func TestEndIsWrittenLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "errand.db")
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.Exec(`CREATE TRIGGER no_end BEFORE UPDATE OF status ON builds WHEN NEW.status = 'failed' BEGIN SELECT RAISE(ABORT, 'not now'); END`); err != nil {
		t.Fatal(err)
	}
	mend := sync.OnceFunc(func() {
		if _, err := db.Exec(`DROP TRIGGER no_end`); err != nil {
			t.Error(err)
		}
	})
	failures := 0
	log := slog.New(errorsOnly{slog.DiscardHandler, func() {
		if failures++; failures == 2 { // all are of the one build, one after another
			mend()
		}
	}})
	redactor := &secret.Redactor{}
	b := build.New(build.Options{
		Store: s, Journal: journal.New(s, redactor), Redactor: redactor, Driver: nowhere{},
		Snapshots: snapshot.New(snapshot.Options{Driver: nowhere{}, Store: s}), Log: log, Image: errand.SnapshotImage + "none", Every: -1,
	})
	e, err := b.Create(t.Context(), caller, build.NewEnvironment{Name: "web", JSON: `{"install": "true"}`})
	if err != nil {
		t.Fatal(err)
	}
	all, _, _, err := b.List(t.Context(), caller, e.ID, 1, "")
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Run(ctx)
	}()
	made, last := 0, errand.BuildStatusData{}
	for event, err := range b.Follow(t.Context(), all[0], 0) {
		if err != nil {
			t.Fatal(err)
		}
		switch event.Kind {
		case errand.EventPhaseStarted:
			made++
		case errand.EventBuildStatus:
			last = read[errand.BuildStatusData](t, event)
		}
	}
	cancel()
	<-ended
	if made != 1 || last.Status != errand.BuildFailed {
		t.Errorf("the build was made %d times and ended as %+v", made, last)
	}
}
