//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/machine/netns"
)

// daemon is a buildkitd that runs.
type daemon struct {
	pid   int
	plain []string      // the registries that it speaks to without TLS
	ended chan struct{} // closed when it has
	said  *lastLines
}

const (
	// startLimit bounds how long the daemon may take until it answers.
	startLimit = 30 * time.Second
	// stopLimit bounds how long it may take to end when it is asked to.
	stopLimit = 5 * time.Second
	// lockPatience is how long a daemon is waited for whose server was killed.
	lockPatience = 10 * time.Second
)

// startDaemon starts buildkitd and returns when it answers. It ends when this
// process does.
func (b *Builder) startDaemon(ctx context.Context, plain []string) (*daemon, error) {
	if err := b.Ready(); err != nil {
		return nil, err
	}
	if err := errors.Join(removeAll(b.path("work", "*")), b.makeDisk(ctx)); err != nil {
		return nil, fmt.Errorf("readying the image builder: %w", err)
	}
	d := &daemon{plain: plain, ended: make(chan struct{}), said: &lastLines{log: b.log}}
	if err := b.spawn(ctx, d); err != nil {
		return nil, fmt.Errorf("starting buildkitd: %w", err)
	}
	if err := d.furnish(ctx); err != nil {
		said := d.said.String()
		d.kill()
		return nil, fmt.Errorf("starting buildkitd: %w%s", err, said)
	}
	return d, nil
}

// clear waits until no daemon of an earlier process has the state, and removes
// what a killed one left there.
func (b *Builder) clear(ctx context.Context, state string) error {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	f, err := os.OpenFile(filepath.Join(state, "buildkitd.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process uses %s: %w", b.opts.Dir, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return removeAll(filepath.Join(state, "*", "executor", "*"))
}

// removeAll removes what a pattern matches.
func removeAll(pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// spawn starts the daemon's process in namespaces of its own, on a thread that
// is in a mount namespace with the daemon's root. The thread lives as long as
// the process: the kernel ends a child with the thread that made it.
func (b *Builder) spawn(ctx context.Context, d *daemon) error {
	started := make(chan error, 1)
	offMain(func() {
		err := errors.Join(b.enterRoot(ctx, d.plain), b.makeGroups())
		if err != nil {
			started <- err
			return
		}
		script := `mount -t proc proc /proc && ` + enter(b.group(daemonGroup)) + ` && exec "$@"`
		cmd := exec.Command("/bin/sh", "-c", script, "sh", daemonProgram, "--config", configFile)
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TMPDIR=/tmp"}
		cmd.Stdout, cmd.Stderr = d.said, d.said
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Setsid:     true,
			Pdeathsig:  syscall.SIGKILL,
			Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		}
		err = cmd.Start()
		if err == nil {
			d.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in what it said
			close(d.ended)
		}
	})
	return <-started
}

// offMain runs f on a thread that ends with it and is not the process' first:
// that one stands for the process in /proc/self, where the mounts that others
// unmount are looked up.
func offMain(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return // locked: the thread is spoilt for others
		}
		taken := make(chan struct{})
		go func() {
			runtime.LockOSThread() // another one, since the first is held here
			close(taken)
			f()
		}()
		<-taken
		runtime.UnlockOSThread()
	}()
}

// furnish gives the daemon its network and waits until it answers.
func (d *daemon) furnish(ctx context.Context) error {
	if err := netns.Furnish(d.network()); err != nil {
		return fmt.Errorf("making its network: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", d.socket())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-d.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// socket is where it answers.
func (d *daemon) socket() string { return d.root() + socketFile }

// network is where its network namespace is found.
func (d *daemon) network() string { return "/proc/" + strconv.Itoa(d.pid) + "/ns/net" }

// root is where its root file system is found.
func (d *daemon) root() string { return "/proc/" + strconv.Itoa(d.pid) + "/root" }

// alive says whether it still runs.
func (d *daemon) alive() bool {
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// stop asks it to end, and sees to it that it does. All that it started ends
// with it.
func (d *daemon) stop() {
	if d.alive() {
		unix.Kill(d.pid, unix.SIGTERM)
		select {
		case <-d.ended:
		case <-time.After(stopLimit):
		}
	}
	d.kill()
}

func (d *daemon) kill() {
	if d.alive() {
		unix.Kill(d.pid, unix.SIGKILL)
	}
	<-d.ended
}

// lastLines keeps the end of what the daemon printed, for when it fails, and
// logs it.
type lastLines struct {
	log *slog.Logger

	mu   sync.Mutex
	tail []byte
}

func (l *lastLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p...)
	l.tail = l.tail[max(0, len(l.tail)-4096):]
	l.log.Debug("buildkitd", "said", strings.TrimSpace(string(p)))
	return len(p), nil
}

// String gives the last of them in brackets; "" is none.
func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(l.tail)), "\n")
	if last := strings.Join(lines[max(0, len(lines)-3):], "; "); last != "" {
		return " (" + last + ")"
	}
	return ""
}
