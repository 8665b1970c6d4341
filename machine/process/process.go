//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one process of this host.
type Process struct {
	PID       int    `json:"pid"`
	StartTime string `json:"startTime"` // so that a later process is not taken for it
}

var errExited = errors.New("it has exited")

// Find gives the process that has the number pid now.
func Find(pid int) (Process, error) {
	at, err := startTime(pid)
	if err != nil {
		return Process{}, fmt.Errorf("finding process %d: %w", pid, err)
	}
	return Process{PID: pid, StartTime: at}, nil
}

// Alive says whether the process is there.
func (p Process) Alive() bool {
	at, err := startTime(p.PID)
	return err == nil && at == p.StartTime
}

// startTime tells a process from a later one with its number. A process that
// has exited, though not yet been waited for, is an error.
func startTime(pid int) (string, error) {
	fields, err := statFields("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	return fields[19], nil
}

// statFields gives what a stat file of a process or thread holds from its state
// on (proc(5) counts that as the third), errExited for one that has ended.
func statFields(file string) ([]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, errExited
	}
	_, rest, ok := strings.Cut(string(data), ") ") // the name before may hold anything
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return nil, errExited
	}
	return fields, nil
}

// Kill ends the process if it is still there, and waits until it is gone.
func (p Process) Kill(ctx context.Context) error {
	return p.end(ctx, 50*time.Millisecond, func() bool { return false })
}

// Halt ends the process if it is still there, and waits until none of its
// threads can do anything more, a write to a file for instance. What is left of
// it then is the release of its memory, for which Kill waits too: some 40 ms for
// the kernel of a gVisor machine that has written 20,000 files. The children of
// the process go on.
func (p Process) Halt(ctx context.Context) error {
	return p.end(ctx, time.Millisecond, p.exiting)
}

// end kills the process and waits until it is gone or enough says so, which is
// asked at once and then every so often.
func (p Process) end(ctx context.Context, every time.Duration, enough func() bool) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// Read after the descriptor was opened: what it says is about the process
	// that the descriptor holds.
	if !p.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", p.PID, err)
	}
	for !enough() {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(every.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("waiting for process %d: %w", p.PID, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	return nil
}

// exiting says whether all threads of a killed process are on their way out. A
// killed process gets no new ones.
func (p Process) exiting() bool {
	const flag = 0x4 // PF_EXITING of include/linux/sched.h, set before anything is released
	tasks := fmt.Sprintf("/proc/%d/task", p.PID)
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	for _, t := range threads {
		fields, err := statFields(filepath.Join(tasks, t.Name(), "stat"))
		if errors.Is(err, errExited) {
			continue
		}
		if flags, err := strconv.ParseUint(fields[6], 10, 64); err != nil || flags&flag == 0 {
			return false
		}
	}
	return true
}
