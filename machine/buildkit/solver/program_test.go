package solver_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/errand-dev/errand/guest/guesttest"
	"github.com/errand-dev/errand/machine/buildkit/solver"
)

// program gives the real one.
func program(t *testing.T) solver.Program {
	return solver.Program(guesttest.Program(t, "errand-buildkit"))
}

func TestLint(t *testing.T) {
	t.Parallel()
	odd, err := program(t).Lint(t.Context(), []byte("FROM alpine:3\nMAINTAINER joe\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(odd) != 1 || odd[0].Line != 2 || odd[0].Rule != "MaintainerDeprecated" {
		t.Errorf("it finds %+v", odd)
	}
}

// A build that is called off while the daemon says nothing ends, and so does the
// program that waits for it.
func TestCalledOff(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			cancel()
			// Its end shows only when the program lets go of it.
			for err == nil {
				_, err = conn.Read(make([]byte, 1024))
			}
		}
		closed <- err
	}()
	_, err = program(t).Solve(ctx, solver.Solve{Socket: socket, Out: t.TempDir()}, func(solver.Status) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the build ends with %v", err)
	}
	<-closed
}

// What a program says that ends too early is told.
func TestEndsEarly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "errand-buildkit")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nread task\necho out of luck >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []solver.Program{solver.Program(path), "/nonexistent/errand-buildkit"} {
		err := p.Shrink(t.Context(), solver.Shrink{})
		var failure *solver.Failure
		if err == nil || errors.As(err, &failure) || !strings.Contains(err.Error(), "errand-buildkit") {
			t.Errorf("%s: %v", p, err)
		}
		if p == solver.Program(path) && !strings.Contains(err.Error(), "out of luck") {
			t.Errorf("what it said is lost: %v", err)
		}
	}
}

// What the daemon, or the lack of one, says is a Failure.
func TestNoDaemon(t *testing.T) {
	t.Parallel()
	var failure *solver.Failure
	if err := program(t).Shrink(t.Context(), solver.Shrink{Socket: filepath.Join(t.TempDir(), "none")}); !errors.As(err, &failure) {
		t.Errorf("without a daemon: %v", err)
	}
}
