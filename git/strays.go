package git

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// mark is a variable in the environment of every git that runs here and of all
// that it starts, by which they are found when the server was killed: git ends
// with the server, but its transports go on and write.
func (m *Mirrors) mark() string { return "ERRAND_MIRRORS=" + m.options.Dir }

// How long endStrays waits for programs to be gone: told to end, and killed.
const (
	strayGrace    = 3 * time.Second
	strayPatience = 10 * time.Second
)

// endStrays ends what bears our mark, and returns when it is gone. It is told to end
// before it is killed: git takes its locks away then, also those in a remote that is
// a path on this host, where nobody else would. This process has started none yet.
func (m *Mirrors) endStrays() error {
	mark := []byte(m.mark())
	began := time.Now()
	for deadline := began.Add(strayPatience); ; time.Sleep(5 * time.Millisecond) {
		strays, err := bearing(mark)
		if err != nil || len(strays) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", strays[0].Pid)
		}
		for _, p := range strays {
			end := p.Kill
			if time.Since(began) < strayGrace {
				end = func() error { return p.Signal(syscall.SIGTERM) }
			}
			if err := end(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("ending process %d: %w", p.Pid, err)
			}
			p.Release()
		}
	}
}

// bearing lists the processes with a variable in their environment. One that
// has ended has none; those of others we may not read, nor have started. Nor have
// we those in another process namespace than our own: what runs in a machine may
// put anything into its environment.
func bearing(variable []byte) ([]*os.Process, error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil, err
	}
	var found []*os.Process
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		p, err := os.FindProcess(pid) // before it is looked at: a later one with its number is another
		if err != nil {
			return nil, err
		}
		env, err := os.ReadFile(file)
		space, spaceErr := os.Readlink(filepath.Join(filepath.Dir(file), "ns", "pid"))
		for _, err := range []error{err, spaceErr} {
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ESRCH) && !errors.Is(err, fs.ErrPermission) {
				return nil, err
			}
		}
		if pid != os.Getpid() && space == own && slices.ContainsFunc(bytes.Split(env, []byte{0}), func(v []byte) bool { return bytes.Equal(v, variable) }) {
			found = append(found, p)
		} else {
			p.Release()
		}
	}
	return found, nil
}
