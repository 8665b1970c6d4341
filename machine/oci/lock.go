//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine"
)

// locks holds one turn per machine.
type locks struct {
	mu   sync.Mutex
	held map[machine.ID]chan struct{}
	file map[machine.ID]*os.File
}

// take waits for its turn within this process.
func (l *locks) take(ctx context.Context, id machine.ID) error {
	for {
		l.mu.Lock()
		other, busy := l.held[id]
		if !busy {
			l.held[id] = make(chan struct{})
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *locks) release(id machine.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[id])
	delete(l.held, id)
}

// lock takes the machine for one change. The lock file's descriptor is handed
// to the engine's program as well: a program that outlives our process keeps
// the machine locked until it has done what it was asked.
func (d *Driver) lock(ctx context.Context, id machine.ID) (unlock func(), err error) {
	if err := d.locks.take(ctx, id); err != nil {
		return nil, err
	}
	f, err := d.lockFile(ctx, id)
	if err != nil {
		d.locks.release(id)
		return nil, fmt.Errorf("locking machine %s: %w", id, err)
	}
	d.locks.mu.Lock()
	d.locks.file[id] = f
	d.locks.mu.Unlock()
	return func() {
		d.locks.mu.Lock()
		delete(d.locks.file, id)
		d.locks.mu.Unlock()
		if _, err := os.Stat(d.machineDir(id)); errors.Is(err, os.ErrNotExist) {
			os.Remove(f.Name()) // with the machine goes its lock
		}
		f.Close()
		d.locks.release(id)
	}, nil
}

func (d *Driver) lockFile(ctx context.Context, id machine.ID) (*os.File, error) {
	if err := os.MkdirAll(d.path("locks"), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.path("locks", string(id)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// flock has no way to wait with a context, and only what a killed process
	// left running is waited for here.
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && current(f) {
			return f, nil
		}
		if err == nil { // whoever held it has removed it
			f.Close()
			return d.lockFile(ctx, id)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		}
	}
}

// sweepLocks removes the locks of machines that are not there, which a process left
// that was killed before it made the machine, or after it removed it. One that is
// held stays.
func (d *Driver) sweepLocks() error {
	files, err := os.ReadDir(d.path("locks"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, file := range files {
		err = errors.Join(err, d.sweepLock(machine.ID(file.Name())))
	}
	return err
}

func (d *Driver) sweepLock(id machine.ID) error {
	f, err := os.OpenFile(d.path("locks", string(id)), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil || !current(f) {
		return nil // somebody's
	}
	if _, err := os.Stat(d.machineDir(id)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(f.Name())
}

// current says whether f is still the file of its name.
func current(f *os.File) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(open, named)
}

// lockOf gives the lock file that the caller holds.
func (d *Driver) lockOf(id machine.ID) *os.File {
	d.locks.mu.Lock()
	defer d.locks.mu.Unlock()
	return d.locks.file[id]
}
