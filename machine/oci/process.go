//go:build linux

package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is one process on the host.
type process struct {
	PID       int    `json:"pid"`
	StartTime string `json:"startTime"` // so that a later process is not taken for it
}

var errExited = errors.New("it has exited")

// findProcess gives the process that has the number pid now.
func findProcess(pid int) (process, error) {
	at, err := startTime(pid)
	if err != nil {
		return process{}, fmt.Errorf("finding process %d: %w", pid, err)
	}
	return process{PID: pid, StartTime: at}, nil
}

// alive says whether the process is there.
func (p process) alive() bool {
	at, err := startTime(p.PID)
	return err == nil && at == p.StartTime
}

// startTime tells a process from a later one with its number. A process that
// has exited, though not yet been waited for, is an error.
func startTime(pid int) (string, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", errExited
	}
	_, rest, ok := strings.Cut(string(data), ") ") // the name before may hold anything
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", errExited
	}
	return fields[19], nil
}

// kill ends the process if it is still there, and waits until it is gone.
func (p process) kill(ctx context.Context) error {
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
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", p.PID, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("waiting for process %d: %w", p.PID, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}
