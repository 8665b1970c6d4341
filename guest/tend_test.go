package guest_test

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand/guest"
)

// await waits until a terminal is as it should be.
func await(t *testing.T, ctx context.Context, l *guest.Line, name string, as func(guest.TerminalState) bool) guest.TerminalState {
	t.Helper()
	var last guest.TerminalState
	for {
		all, err := l.Terminals(ctx)
		if err != nil {
			t.Fatalf("waiting for %s, which is %+v (%+v): %v", name, last, last.Tended, err)
		}
		if i := slices.IndexFunc(all, func(s guest.TerminalState) bool { return s.Name == name }); i >= 0 {
			if last = all[i]; as(last) {
				return last
			}
		}
	}
}

func status(want string, restarts int) func(guest.TerminalState) bool {
	return func(s guest.TerminalState) bool {
		return s.Tended != nil && string(s.Tended.Status) == want && s.Tended.Restarts == restarts
	}
}

func TestTendCrash(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	command := `echo x >>starts; echo attempt $(wc -l <starts); [ $(wc -l <starts) = 3 ] || exit 7; exec cat`
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "dev", Dir: m.dir, Command: command, Tend: true}); err != nil {
		t.Fatal(err)
	}
	s := await(t, ctx, l, "dev", status("waiting", 0))
	if s.Running || s.ExitCode != 7 || s.Tended.Last != "attempt 1" || s.Tended.Next.Before(s.Tended.Since) || s.Command != command {
		t.Errorf("after a crash: %+v, %+v", s, s.Tended)
	}
	until(t, ctx, l, "dev", "exit code 7; starting again in 1s")
	s = await(t, ctx, l, "dev", status("waiting", 1))
	if wait := s.Tended.Next.Sub(s.Tended.Since); wait < 1900*time.Millisecond || wait > 2*time.Second {
		t.Errorf("the second wait is %s, want 2s", wait)
	}
	began := time.Now()
	if err := l.Type(ctx, id(), "dev", "", true); err != nil {
		t.Fatal(err)
	}
	s = await(t, ctx, l, "dev", status("running", 2))
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("after Enter it took %s to start", took)
	}
	if !s.Running || s.ExitCode != 7 || s.Tended.Last != "attempt 2" || !s.Tended.Next.IsZero() || s.PID != s.Tended.PID {
		t.Errorf("when it runs: %+v, %+v", s, s.Tended)
	}
	until(t, ctx, l, "dev", "attempt 3")
	if err := l.Type(ctx, id(), "dev", "heard", true); err != nil {
		t.Fatal(err)
	}
	if shown := until(t, ctx, l, "dev", "heard\nheard"); !strings.Contains(shown, "attempt 3") {
		t.Errorf("it shows %q", shown)
	}
	if err := l.CloseTerminal(ctx, "dev"); err != nil {
		t.Fatal(err)
	}
	for syscall.Kill(s.PID, 0) == nil {
		if ctx.Err() != nil {
			t.Fatalf("process %d outlives its terminal", s.PID)
		}
	}
}

// TestTendSweeps holds that a command which is started again finds nothing of
// its earlier run in its way.
func TestTendSweeps(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	command := `echo x >>starts; [ $(wc -l <starts) = 1 ] || exec cat; sleep 1000 & echo $! >child; exit 7`
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "dev", Dir: m.dir, Command: command, Tend: true}); err != nil {
		t.Fatal(err)
	}
	await(t, ctx, l, "dev", status("waiting", 0))
	child, err := strconv.Atoi(strings.TrimSpace(read(t, filepath.Join(m.dir, "child"))))
	if err != nil || syscall.Kill(child, 0) != nil {
		t.Fatalf("the child %d is not there (%v)", child, err)
	}
	if s := await(t, ctx, l, "dev", status("running", 1)); !s.Running {
		t.Errorf("it is %+v", s)
	}
	for syscall.Kill(child, 0) == nil {
		if ctx.Err() != nil {
			t.Fatalf("process %d is still there", child)
		}
	}
}

func TestTendEnds(t *testing.T) {
	needTmux(t)
	_, l := plain(t)
	ctx := within(t, 20*time.Second)
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "once", Command: "echo bye; exit 0", Tend: true}); err != nil {
		t.Fatal(err)
	}
	s := await(t, ctx, l, "once", status("ended", 0))
	if s.Running || s.ExitCode != 0 || s.Tended.Last != "bye" {
		t.Errorf("after its end: %+v, %+v", s, s.Tended)
	}
	until(t, ctx, l, "once", "the command has ended]") // tmux adds its own word for a dead pane, or misses the end
}

func TestTendInterrupt(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	typed := func(text string, enter bool) {
		t.Helper()
		if err := l.Type(ctx, id(), "dev", text, enter); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "dev", Dir: m.dir, Command: "stty raw -echo; stty -raw; echo up; exec sleep 1000", Tend: true}); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "dev", "up")
	typed("\x03", false)
	s := await(t, ctx, l, "dev", status("stopped", 0))
	if s.ExitCode != 130 || s.Running {
		t.Errorf("after Ctrl-C: %+v", s)
	}
	until(t, ctx, l, "dev", "press Enter to start it again")
	typed("", true)
	await(t, ctx, l, "dev", status("running", 1))
}

// TestTendShell holds that a program which moves its children in and out of the
// terminal's foreground is left in peace, and that the terminal is whole after
// it.
func TestTendShell(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	typed := func(text string, enter bool) {
		t.Helper()
		if err := l.Type(ctx, id(), "sh", text, enter); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "sh", Dir: m.dir, Command: "exec bash --norc -i", Tend: true}); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "sh", "bash-")
	typed("echo begin$((1+1)); sleep 1000", true)
	until(t, ctx, l, "sh", "begin2")
	typed("\x03", false)
	typed("echo still$((2+1))here", true)
	until(t, ctx, l, "sh", "still3here\nbash-") // what is typed while a shell takes its terminal back may be lost
	if s := await(t, ctx, l, "sh", func(guest.TerminalState) bool { return true }); s.Tended == nil || s.Tended.Restarts != 0 || !s.Running {
		t.Errorf("after Ctrl-C in a shell: %+v, %+v", s, s.Tended)
	}
	typed("stty -echo; kill -9 $$", true)
	s := await(t, ctx, l, "sh", status("waiting", 0))
	if s.ExitCode != 137 {
		t.Errorf("killed, its exit code is %d", s.ExitCode)
	}
	typed("", true)
	await(t, ctx, l, "sh", status("running", 1))
	typed("echo again$((3+1))", true)
	until(t, ctx, l, "sh", "again4")
}

func TestWindow(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	window := []guest.Terminal{
		{Name: "api é", Dir: m.dir, Command: "echo api; exec cat >api", Tend: true},
		{Name: "worker", Dir: m.dir, Command: "echo worker; exec cat >worker", Tend: true},
		{Name: "log", Dir: m.dir, Command: "echo log; exec cat"},
	}
	for range 2 {
		if err := l.OpenWindow(ctx, window...); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.OpenTerminal(ctx, window[1]); err != nil {
		t.Fatal(err)
	}
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "single", Command: "exec cat"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"api é": "api", "worker": "worker", "log": "log"} {
		until(t, ctx, l, name, want)
		if err := l.Type(ctx, id(), name, "to "+want, true); err != nil {
			t.Fatal(err)
		}
	}
	until(t, ctx, l, "log", "to log")
	for _, name := range []string{"api", "worker"} {
		for read(t, filepath.Join(m.dir, name)) != "to "+name+"\n" {
			if ctx.Err() != nil {
				t.Fatalf("%s heard %q", name, read(t, filepath.Join(m.dir, name)))
			}
		}
	}
	all, err := l.Terminals(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"api é", "log", "single", "worker"}, names); diff != "" {
		t.Error(diff)
	}
	seesBoth(t, ctx, l)
	if err := l.CloseTerminal(ctx, "worker"); err != nil {
		t.Fatal(err)
	}
	if all, err := l.Terminals(ctx); err != nil || len(all) != 3 {
		t.Errorf("after closing one: %v, %v", all, err)
	}
	until(t, ctx, l, "api é", "api")
}

// seesBoth holds that who looks at one terminal of a window sees them all.
func seesBoth(t *testing.T, ctx context.Context, l *guest.Line) {
	t.Helper()
	argv, err := l.AttachCommand(ctx, "worker", guest.Viewing{})
	if err != nil {
		t.Fatal(err)
	}
	c := guest.Command{ID: id(), Args: argv, TTY: &guest.Size{Cols: 120, Rows: 40}}
	seen, done := make(chan struct{}), make(chan error, 1)
	var shown strings.Builder
	go func() {
		_, err := l.Run(ctx, c, func(o guest.Output) {
			shown.Write(o.Data)
			if s := shown.String(); strings.Contains(s, " api é ") && strings.Contains(s, " worker ") && strings.Contains(s, " log ") {
				select {
				case <-seen:
				default:
					close(seen)
				}
			}
		})
		done <- err
	}()
	select {
	case <-seen:
	case <-ctx.Done():
		t.Errorf("the viewer saw %q", shown.String())
	}
	if err := l.Signal(ctx, c.ID, "KILL"); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
