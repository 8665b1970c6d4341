//go:build linux

package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// idRange is how many user ids a machine has, and firstID where the first
// machine's begin: the range that systemd's list of uses calls unused. No two
// running machines of this host share ids, so what breaks out of one is nobody
// to the others too.
const (
	idRange = 65536
	firstID = 0x70000000
	lastID  = 0x7ffe0000
)

// takeIDs gives the first id of a range for the machine whose run directory is
// run. The range is its own until that directory is gone.
func (d *Driver) takeIDs(run string) (uint32, error) {
	dir := filepath.Join(d.opts.RunDir, "ids")
	if err := mkdirs(0o700, dir); err != nil {
		return 0, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return 0, fmt.Errorf("locking ids: %w", err)
	}
	for base := uint32(firstID); base < lastID; base += idRange {
		file := filepath.Join(dir, strconv.FormatUint(uint64(base), 10))
		owner, err := os.ReadFile(file)
		if err == nil && string(owner) != run {
			if _, err := os.Stat(string(owner)); err == nil {
				continue
			}
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		return base, os.WriteFile(file, []byte(run), 0o600)
	}
	return 0, errors.New("all ranges of user ids are taken")
}
