package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/errand-dev/errand"
)

// holdPatience is how long Hold waits for a lock that somebody has: a server
// that was killed takes a moment to end.
const holdPatience = 3 * time.Second

// Hold takes a data directory for this process alone, until what it gives is
// closed. A server does so before it opens anything in there; reading and single
// writes, as those of the key commands, need no hold. It blocks for a moment
// while another process has the directory, and then says so in a Conflict.
//
// The lock is a record lock, which is the process' own: one of flock would be
// shared with each program that is just being started, and outlive a killed
// server in it. Within one process it holds off nobody.
func Hold(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock file: %w", err)
	}
	for deadline := time.Now().Add(holdPatience); ; time.Sleep(20 * time.Millisecond) {
		if err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK}); err == nil {
			return f, nil
		}
		if time.Now().After(deadline) {
			break
		}
	}
	f.Close()
	return nil, errand.Errorf(errand.Conflict, "data_directory_in_use",
		"Another Errand server works in %s. Stop it first, or give this one its own directory with --data. (%w)", dir, err)
}
