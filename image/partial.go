package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
func (p *partial) keep(name string) error {
	if err := syncTree(p.dir); err != nil {
		return err
	}
	err := os.Rename(p.dir, name)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return nil
	}
	return err
}

// syncTree makes the layer's content durable before its name is, so that a
// power cut cannot leave a whole name on a hollow layer.
func syncTree(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("flushing layer: %w", err)
	}
	return nil
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
