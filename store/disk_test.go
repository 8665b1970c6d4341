package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/store"
)

// TestFullDisk fills a small file system under the database: writing says what
// to do, reading goes on, and with room again writing does too.
func TestFullDisk(t *testing.T) {
	guesttest.Root(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	s, err := store.Open(t.Context(), filepath.Join(dir, "errand.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ballast := filepath.Join(dir, "ballast")
	a := newAgent(t, s)
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err == nil {
		t.Fatal("the file system is larger than it should be")
	}
	tell := func() error {
		return s.Write(t.Context(), func(tx *store.Tx) error {
			return tx.AppendEvents(a.ID, []errand.Event{{Kind: errand.EventNotice, Data: []byte(`{"text":"` + strings.Repeat("x", 100_000) + `"}`)}})
		})
	}
	for range 100 {
		if err = tell(); err != nil {
			break
		}
	}
	if e := errand.AsError(err); e == nil || e.Code != "disk_full" || e.Kind != errand.Unavailable {
		t.Fatalf("writing to a full disk gave %v", err)
	}
	if _, err := s.Agent(t.Context(), a.ID); err != nil {
		t.Errorf("reading with a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := tell(); err != nil {
		t.Errorf("writing with room again: %v", err)
	}
}
