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

var errExited = errors.New("it has exited")

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

// kill ends the process pid if it is still the one that began at start, and
// waits until it is gone.
func kill(ctx context.Context, pid int, start string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// Read after the descriptor was opened: what it says is about the process
	// that the descriptor holds.
	if at, err := startTime(pid); err != nil || at != start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("waiting for process %d: %w", pid, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}
