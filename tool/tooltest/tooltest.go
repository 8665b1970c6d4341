// Package tooltest gives tests a real guest to work with: the errand-guest
// program as a child process on this host, with a line to it. It isolates
// nothing; that is what machines are for.
package tooltest

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/guest/guesttest"
)

// Guest is a guest process.
type Guest struct {
	t      testing.TB
	socket string
	cmd    *exec.Cmd
}

// Start starts a guest that ends with the test. Without the program
// errand-guest in $ERRAND_BIN or the repository's bin the test is skipped, under
// CI=true failed.
func Start(t testing.TB) *Guest {
	t.Helper()
	g := &Guest{t: t, socket: filepath.Join(t.TempDir(), "guest.sock")}
	t.Cleanup(g.stop)
	g.start()
	return g
}

// Restart ends the guest and what it runs, and starts it anew, as when a machine
// is rebooted. Lines that were open say guest.ErrRebooted from then on.
func (g *Guest) Restart() {
	g.t.Helper()
	g.stop()
	g.start()
}

func (g *Guest) start() {
	g.t.Helper()
	g.cmd = exec.Command(guesttest.Program(g.t, "errand-guest"), "init", "-socket", g.socket)
	g.cmd.Stderr = g.t.Output()
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := g.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *Guest) stop() {
	// A server of terminals outlives the guest that started it.
	exec.Command("tmux", "-S", filepath.Join(filepath.Dir(g.socket), "tmux"), "kill-server").Run()
	if g.cmd == nil {
		return
	}
	g.cmd.Process.Signal(syscall.SIGTERM)
	g.cmd.Wait()
	g.cmd = nil
}

// Line opens a line that is closed with the test.
func (g *Guest) Line() *guest.Line {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	line, err := guest.Open(ctx, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", g.socket)
	}, guest.Options{})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { line.Close() })
	return line
}
