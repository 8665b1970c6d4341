package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// partial is a directory in which a layer is made before it gets its name. Its
// lock file is held while its maker lives, so that another process can tell
// work under way from what a killed one left.
type partial struct {
	dir  string // where the layer grows
	home string // holds dir and the lock
	lock *os.File
}

func (s *Store) newPartial() (*partial, error) {
	home, err := os.MkdirTemp(s.path("partial"), "layer-")
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(home, "lock"))
	if err != nil {
		os.RemoveAll(home)
		return nil, err
	}
	p := &partial{dir: filepath.Join(home, "tree"), home: home, lock: lock}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		p.discard()
		return nil, err
	}
	return p, nil
}

// discard removes what is there. After keep it removes only the lock.
func (p *partial) discard() {
	os.RemoveAll(p.home)
	p.lock.Close()
}

// keep gives the finished layer its name. A layer that is there already, from
// another process, is as good: names are digests.
func (s *Store) keep(p *partial, name string) error {
	// Until its content is on the disk, a layer is good for as long as this
	// host stays up: a power cut could leave a whole name on hollow files.
	if err := WriteFile(name+unsynced, []byte(Boot())); err != nil {
		return err
	}
	err := os.Rename(p.dir, name)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// unsynced ends the name of the file that goes with a layer whose content may
// not be on the disk yet; it holds the boot in which the layer was made.
const unsynced = ".unsynced"

// syncLater puts the layers' content on the disk and measures it, behind the
// call that made them: it is work in proportion to all that the host has not written yet.
func (s *Store) syncLater(names ...string) {
	s.after.Go(func() {
		d, err := os.Open(s.path("layers"))
		if err != nil {
			return
		}
		defer d.Close()
		if err := unix.Syncfs(int(d.Fd())); err != nil {
			s.opts.Log.Warn("flushing layers", "err", err)
			return
		}
		for _, name := range names {
			os.Remove(name + unsynced)
			if _, err := s.Size(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.opts.Log.Warn("measuring layer", "layer", name, "err", err)
			}
		}
	})
}

// whole says whether the layer is there with all that it holds, and removes
// one that a power cut may have hollowed.
func (s *Store) whole(name string) bool {
	if _, err := os.Stat(name); err != nil {
		return false
	}
	boot, err := os.ReadFile(name + unsynced)
	if errors.Is(err, fs.ErrNotExist) || err == nil && string(boot) == Boot() {
		return true
	}
	os.RemoveAll(name)
	os.Remove(name + unsynced)
	return false
}

// Boot names the boot that this host is in. What was written in an earlier one
// and not flushed may be hollow, whole as its name looks.
func Boot() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it, all boots are one
	return strings.TrimSpace(string(data))
}

// sweepPartial removes what killed processes left half made.
func (s *Store) sweepPartial() error {
	entries, err := os.ReadDir(s.path("partial"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		home := s.path("partial", e.Name())
		lock, err := lockFile(filepath.Join(home, "lock"))
		if err != nil {
			continue // its maker lives
		}
		os.RemoveAll(home)
		lock.Close()
	}
	return nil
}

// lockFile takes path's lock without waiting.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
