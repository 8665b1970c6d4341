package guest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/errand-dev/errand/guest"
)

// program is the errand-guest that TestMain built, or the one of $ERRAND_BIN.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "errand-guest-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "errand-guest")
	if bin := os.Getenv("ERRAND_BIN"); bin != "" {
		program = filepath.Join(bin, "errand-guest")
	} else if err := build(program, raced); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// build builds errand-guest as it is shipped, or with the race detector.
func build(file string, raced bool) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if raced {
		cmd.Args = append(cmd.Args, "-race")
		cmd.Env = os.Environ()
	}
	cmd.Args = append(cmd.Args, "../cmd/errand-guest")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building errand-guest: %w\n%s", err, out)
	}
	return nil
}

// machine is a guest that runs as an ordinary process beside the test: the real
// program, with no isolation around it.
type machine struct {
	t      testing.TB
	dir    string // where its sockets are, and for the test's files
	socket string
	init   *exec.Cmd
}

// markEnv is in the environment of all that a test's guest starts.
const markEnv = "ERRAND_TEST_DIR"

// boot starts a guest and ends it, with all it started, after the test.
func boot(t testing.TB) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "errand-guest-machine")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir, socket: filepath.Join(dir, "guest.sock")}
	m.start()
	t.Cleanup(func() {
		m.stop()
		m.sweep()
		os.RemoveAll(dir)
	})
	return m
}

func (m *machine) start() {
	m.t.Helper()
	m.init = exec.Command(program, "init", "-socket", m.socket)
	// A HOME of its own, so that no shell reads the settings of who runs the
	// test. A program with the race detector would sleep for a second at its end.
	m.init.Env = append(os.Environ(), markEnv+"="+m.dir, "HOME="+m.dir, "GORACE=atexit_sleep_ms=0")
	m.init.Stderr = os.Stderr
	if err := m.init.Start(); err != nil {
		m.t.Fatal(err)
	}
}

// stop ends the guest in order.
func (m *machine) stop() {
	m.init.Process.Signal(syscall.SIGTERM)
	m.wait()
}

// kill ends the guest without a warning.
func (m *machine) kill() {
	m.init.Process.Kill()
	m.wait()
}

// wait takes what stop or kill did. A guest that ends by itself has failed, or
// has seen a race.
func (m *machine) wait() {
	var exit *exec.ExitError
	if err := m.init.Wait(); errors.As(err, &exit) && exit.ExitCode() > 0 {
		m.t.Errorf("the guest ended with: %v", err)
	}
}

// sweep ends what outlived the guest: background children of commands, tmux.
func (m *machine) sweep() {
	for _, pid := range m.alive() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for deadline := time.Now().Add(5 * time.Second); len(m.alive()) > 0; {
		if time.Now().After(deadline) {
			m.t.Errorf("processes left behind: %v", m.alive())
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive gives the processes that the guest or its commands started.
func (m *machine) alive() []int {
	var pids []int
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(env), markEnv+"="+m.dir) {
			continue
		}
		var pid int
		fmt.Sscanf(file, "/proc/%d/", &pid)
		pids = append(pids, pid)
	}
	return pids
}

func (m *machine) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", m.socket)
}

// line opens a line that is closed after the test.
func (m *machine) line(dial func(context.Context) (net.Conn, error), opts guest.Options) *guest.Line {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if dial == nil {
		dial = m.dial
	}
	l, err := guest.Open(ctx, dial, opts)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { l.Close() })
	return l
}

// plain boots a machine and opens a sound line to it.
func plain(t *testing.T) (*machine, *guest.Line) {
	t.Helper()
	m := boot(t)
	return m, m.line(nil, guest.Options{})
}

// within gives a context that no call in a test should see the end of.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

var ids atomic.Int64

// id gives a fresh id.
func id() string { return fmt.Sprintf("t-%d", ids.Add(1)) }

// printed collects output and checks that it has no gap and nothing twice.
type printed struct {
	t              *testing.T
	mu             sync.Mutex
	stdout, stderr strings.Builder
	next           int64
}

func (p *printed) take(o guest.Output) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.Offset != p.next {
		p.t.Errorf("output at offset %d, want %d", o.Offset, p.next)
	}
	p.next = o.Offset + int64(len(o.Data))
	if o.Stderr {
		p.stderr.Write(o.Data)
	} else {
		p.stdout.Write(o.Data)
	}
}

// shell runs a shell command that must be started.
func shell(t *testing.T, l *guest.Line, script string) (string, guest.Exit) {
	t.Helper()
	p := &printed{t: t}
	exit, err := l.Run(within(t, 60*time.Second), guest.Command{ID: id(), Args: []string{"sh", "-c", script}}, p.take)
	if err != nil {
		t.Fatal(err)
	}
	return p.stdout.String() + p.stderr.String(), exit
}
