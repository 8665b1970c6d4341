package inside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/wire"
)

// stopLimit is how long processes have to end when the machine is to end.
const stopLimit = 2 * time.Second

// Init is the whole life of a machine's first process: it prepares the machine,
// serves at opts.Socket, and when ctx ends asks all processes to end. In a
// process that is not the first one of a machine, as in tests, it adopts the
// orphans of what it started and ends only its own commands.
func Init(ctx context.Context, opts Options) error {
	first := os.Getpid() == 1
	if !first {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("adopting orphans: %w", err)
		}
	}
	unix.Umask(0o022)
	if first {
		raiseLoopback()
		if err := makeArtifacts(); err != nil {
			opts.Log.Warn("no folder for artifacts", "err", err)
		}
	}
	l, err := listenAt(opts.Socket)
	if err != nil {
		return err
	}
	g, err := New(opts)
	if err != nil {
		l.Close()
		return err
	}
	err = g.Serve(ctx, l)
	if first {
		stopAll()
	} else {
		g.killAll()
	}
	return err
}

// makeArtifacts makes the folder for what an agent leaves for people, whoever it
// is in the machine.
func makeArtifacts() error {
	if err := os.MkdirAll(wire.Artifacts, 0o755); err != nil {
		return err
	}
	return os.Chmod(wire.Artifacts, 0o777|os.ModeSticky)
}

// listenAt listens on a Unix socket that root alone may use, in place of what
// an earlier life left there.
func listenAt(socket string) (net.Listener, error) {
	dir := filepath.Dir(socket)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the guest's directory: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing an old socket: %w", err)
	}
	// The mode is set by the umask, so that there is no moment without it.
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", socket)
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

// raiseLoopback brings lo up where nobody has. Without the right to do so it
// is left as it is.
func raiseLoopback() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo) != nil {
		return
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// stopAll asks all processes of the machine to end and waits a little. When we
// return, the kernel ends the rest.
func stopAll() {
	unix.Kill(-1, unix.SIGTERM)
	for deadline := time.Now().Add(stopLimit); time.Now().Before(deadline); {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
		if pid == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// killAll ends all commands that the guest started.
func (g *Guest) killAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for pid := range g.groups {
		unix.Kill(-pid, unix.SIGKILL)
	}
}
