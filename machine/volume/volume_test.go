//go:build linux

package volume

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/guesttest"
)

// endless gives no end of bytes.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestVolume fills a volume, gives back what it took, and finds it again.
func TestVolume(t *testing.T) {
	guesttest.Root(t)
	if err := Ready(); err != nil {
		guesttest.Lacking(t, "this test needs volumes: %v", err)
	}
	const limit = 64 << 20
	dir, at := t.TempDir(), t.TempDir()
	file := filepath.Join(dir, FileName)
	if err := Make(t.Context(), dir, dir, limit); err != nil {
		t.Fatal(err)
	}
	m := Mounter{Hasty: true}
	if err := m.Mount(file, at); err != nil {
		t.Fatal(err)
	}
	mounted := true
	defer func() {
		if mounted {
			unix.Unmount(at, unix.MNT_DETACH)
		}
	}()
	full, err := os.Create(filepath.Join(at, "full"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(full, endless{})
	if err := errors.Join(ignore(err, unix.ENOSPC), full.Close()); err != nil || n < limit || n > Size(limit) {
		t.Errorf("it held %d bytes of %d, %v", n, limit, err)
	}
	taken := blocks(t, file)
	if err := errors.Join(os.Remove(full.Name()), os.WriteFile(filepath.Join(at, "small"), []byte("kept"), 0o600), Trim(at)); err != nil {
		t.Fatal(err)
	}
	if left := blocks(t, file); taken < limit || left > taken/2 {
		t.Errorf("full it took %d bytes of the host's disk, empty %d", taken, left)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Settle(ended, file); !errors.Is(err, context.Canceled) {
		t.Errorf("settled while it is mounted: %v", err)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	mounted = false
	if !Whole(file) {
		t.Error("it is not whole in the boot that wrote to it")
	}
	if err := os.WriteFile(file+unsettled, []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	if Whole(file) {
		t.Error("it is whole though the host was started anew before it was settled")
	}
	if err := Settle(t.Context(), file); err != nil || !Whole(file) {
		t.Errorf("settled it is whole: %t, %v", Whole(file), err)
	}
	if err := m.Mount(file, at); err != nil {
		t.Fatal(err)
	}
	mounted = true
	if got, err := os.ReadFile(filepath.Join(at, "small")); err != nil || string(got) != "kept" {
		t.Errorf("mounted again it has %q, %v", got, err)
	}
}

func ignore(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

func blocks(t *testing.T, file string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}
