package runner_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/store"
)

// troubles is a log of which only warnings and errors matter: at is told each.
type troubles struct {
	slog.Handler
	at func(string)
}

func (h troubles) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (h troubles) WithAttrs([]slog.Attr) slog.Handler           { return h }

func (h troubles) Handle(_ context.Context, r slog.Record) error {
	h.at(r.Message)
	return nil
}

// TestFullDisk fills the disk of the database under a run: it waits for room and
// goes on, and ends by what became of it then.
func TestFullDisk(t *testing.T) {
	guesttest.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	r := bareIn(t, dir, newShelf())
	agent := errand.Agent{ID: errand.NewAgentID(), Status: errand.AgentActive, Caller: caller, Settings: errand.Settings{Image: errand.SnapshotImage + "none"}}
	run := errand.Run{ID: errand.NewRunID(), Agent: agent.ID, Status: errand.RunQueued}
	if err := r.Store.Write(t.Context(), func(tx *store.Tx) error { return errors.Join(tx.InsertAgent(agent, ""), tx.InsertRun(run)) }); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err == nil {
		t.Fatal("the file system is larger than it should be")
	}
	for n := 100_000; n > 0; {
		if _, err := r.Journal.Append(t.Context(), agent.ID, "", errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Text: strings.Repeat("x", n)}}); err != nil {
			n /= 10 // until nothing has room any more
		}
	}
	free := sync.OnceFunc(func() {
		if err := os.Remove(ballast); err != nil {
			t.Error(err)
		}
	})
	r.Log = slog.New(troubles{slog.DiscardHandler, func(string) { free() }})
	r.Drive(t.Context(), run)
	got, err := r.Store.Run(t.Context(), agent.ID, run.ID)
	if err != nil || got.Status != errand.RunFailed || got.Error.Code != "snapshot_not_found" {
		t.Errorf("the run is %s with %+v, %v; want it to fail for want of its image alone", got.Status, got.Error, err)
	}
}
