package guest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/errand-dev/errand/guest"
)

func TestRun(t *testing.T) {
	m, l := plain(t)
	tests := []struct {
		name    string
		command guest.Command
		stdout  string
		stderr  string
		exit    guest.Exit
	}{
		{"both streams", sh("echo out; echo err >&2"), "out\n", "err\n", guest.Exit{End: 8}},
		{"exit code", sh("exit 7"), "", "", guest.Exit{Code: 7}},
		{"signal", sh("kill -9 $$"), "", "", guest.Exit{Code: 137, Signal: "KILL"}},
		{"dir", in(sh("pwd"), m.dir), m.dir + "\n", "", guest.Exit{End: int64(len(m.dir) + 1)}},
		{"env", env(sh(`echo "$A$B"`), "A=1", "B=2", "A=3"), "32\n", "", guest.Exit{End: 3}},
		{"empty stdin", sh("cat; echo end"), "end\n", "", guest.Exit{End: 4}},
		{"user", as(sh("id -u; id -g; echo $HOME $USER; echo x >/dev/stderr"), "nobody:0"), "65534\n0\n/nonexistent nobody\n", "x\n", guest.Exit{End: 30}},
		{"number", as(sh("id -u; id -g"), "4711:4712"), "4711\n4712\n", "", guest.Exit{End: 10}},
		{"no args looked up", guest.Command{Args: []string{"/bin/echo", "x"}}, "x\n", "", guest.Exit{End: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &printed{t: t}
			tt.command.ID = id()
			exit, err := l.Run(within(t, 20*time.Second), tt.command, p.take)
			if err != nil {
				t.Fatal(err)
			}
			if p.stdout.String() != tt.stdout || p.stderr.String() != tt.stderr {
				t.Errorf("printed %q and %q, want %q and %q", &p.stdout, &p.stderr, tt.stdout, tt.stderr)
			}
			if exit.Started.IsZero() || exit.Ended.Before(exit.Started) {
				t.Errorf("started %v, ended %v", exit.Started, exit.Ended)
			}
			if diff := cmp.Diff(tt.exit, exit, cmpopts.IgnoreFields(guest.Exit{}, "Started", "Ended")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func sh(script string) guest.Command { return guest.Command{Args: []string{"sh", "-c", script}} }

func in(c guest.Command, dir string) guest.Command { c.Dir = dir; return c }

func as(c guest.Command, user string) guest.Command { c.User = user; return c }

func env(c guest.Command, env ...string) guest.Command { c.Env = env; return c }

func TestNotStarted(t *testing.T) {
	_, l := plain(t)
	tests := []struct {
		name    string
		command guest.Command
		want    string
	}{
		{"no program", guest.Command{Args: []string{"no-such-program"}}, "PATH"},
		{"no file", guest.Command{Args: []string{"/no/such/file"}}, "no such file"},
		{"no directory", in(sh("true"), "/no/such/dir"), "directory /no/such/dir does not exist"},
		{"no user", as(sh("true"), "no-such-user"), `user "no-such-user" does not exist`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.command.ID = id()
			for range 2 { // the second time it is the id's result
				_, err := l.Run(within(t, 20*time.Second), tt.command, nil)
				if !errors.Is(err, guest.ErrNotStarted) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
			}
		})
	}
	if _, err := l.Run(within(t, 20*time.Second), guest.Command{ID: id()}, nil); err == nil {
		t.Error("a command without a program ran")
	}
}

func TestSameIDRunsOnce(t *testing.T) {
	m, l := plain(t)
	c := in(sh("echo ran >>ran; echo out"), m.dir)
	c.ID = id()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			p := &printed{t: t}
			if _, err := l.Run(within(t, 20*time.Second), c, p.take); err != nil {
				t.Error(err)
			}
			if p.stdout.String() != "out\n" {
				t.Errorf("printed %q", &p.stdout)
			}
		})
	}
	all.Wait()
	if got := read(t, filepath.Join(m.dir, "ran")); got != "ran\n" {
		t.Errorf("ran %q", got)
	}
	if err := l.Forget(within(t, time.Second), c.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Run(within(t, time.Second), c, nil); !errors.Is(err, guest.ErrForgotten) {
		t.Errorf("after Forget: %v", err)
	}
	if _, err := l.Rejoin(within(t, time.Second), c.ID, 0, nil); !errors.Is(err, guest.ErrUnknown) {
		t.Errorf("after Forget: %v", err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestThousandCommands(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 60*time.Second)
	var all sync.WaitGroup
	slots := make(chan struct{}, 200)
	for i := range 1000 {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			var out strings.Builder
			c := guest.Command{ID: fmt.Sprint("fast-", i), Args: []string{"/bin/echo", strconv.Itoa(i)}}
			exit, err := l.Run(ctx, c, func(o guest.Output) { out.Write(o.Data) })
			if err != nil || exit.Code != 0 || exit.Unknown || out.String() != strconv.Itoa(i)+"\n" {
				t.Errorf("%d: %q %+v %v", i, &out, exit, err)
			}
		})
	}
	all.Wait()
	known, err := l.Processes(ctx)
	if err != nil || len(known) != 1000 {
		t.Errorf("%d processes, %v", len(known), err)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	m, l := plain(t)
	// The inner shell exits at once, so its child is ours to wait for.
	out, _ := shell(t, l, `for i in 1 2 3 4 5; do sh -c 'sleep 0.05 & echo $!'; done`)
	for _, pid := range strings.Fields(out) {
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
				break
			}
			if time.Now().After(deadline) {
				stat := read(t, "/proc/"+pid+"/stat")
				t.Fatalf("orphan of guest %d is still there: %s", m.init.Process.Pid, stat)
			}
		}
	}
}

func TestBackgroundChildDoesNotHang(t *testing.T) {
	_, l := plain(t)
	began := time.Now()
	c := sh("sleep 100 & echo $!; (while sleep 0.01; do echo late; done) &")
	c.ID = id()
	var out strings.Builder
	exit, err := l.Run(within(t, 10*time.Second), c, func(o guest.Output) { out.Write(o.Data) })
	if err != nil || exit.Code != 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	// What comes later is collected all the same.
	ctx := within(t, 10*time.Second)
	for {
		processes, err := l.Processes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if processes[0].End > exit.End {
			break
		}
	}
	if err := l.Signal(ctx, c.ID, "KILL"); err != nil {
		t.Errorf("signalling what was left behind: %v", err)
	}
	for err == nil {
		err = l.Signal(ctx, c.ID, "KILL")
	}
	if !errors.Is(err, guest.ErrEnded) {
		t.Errorf("got %v, want ErrEnded", err)
	}
}

func TestSignalAndLimit(t *testing.T) {
	_, l := plain(t)
	t.Run("signal", func(t *testing.T) {
		ctx := within(t, 20*time.Second)
		c := sh("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.01; done")
		c.ID = id()
		var out strings.Builder
		exit, err := l.Run(ctx, c, func(o guest.Output) {
			if out.Len() == 0 {
				if err := l.Signal(ctx, c.ID, "TERM"); err != nil {
					t.Error(err)
				}
			}
			out.Write(o.Data)
		})
		if err != nil || exit.Code != 3 || !strings.Contains(out.String(), "got\n") {
			t.Errorf("%q %+v %v", &out, exit, err)
		}
		if err := l.Signal(ctx, c.ID, "NONSENSE"); err == nil {
			t.Error("NONSENSE was sent")
		}
	})
	t.Run("limit", func(t *testing.T) {
		c := sh("sleep 100")
		c.ID, c.Limit = id(), 50*time.Millisecond
		exit, err := l.Run(within(t, 4*time.Second), c, nil)
		if err != nil || !exit.TimedOut || exit.Signal != "TERM" {
			t.Errorf("%+v, %v", exit, err)
		}
	})
	t.Run("limit by force", func(t *testing.T) {
		c := sh("trap '' TERM; sleep 100")
		c.ID, c.Limit = id(), 50*time.Millisecond
		began := time.Now()
		exit, err := l.Run(within(t, 20*time.Second), c, nil)
		if err != nil || !exit.TimedOut || exit.Signal != "KILL" || time.Since(began) < 5*time.Second {
			t.Errorf("after %v: %+v, %v", time.Since(began), exit, err)
		}
	})
}

func TestKeepDropsTheMiddle(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 60*time.Second)
	c := sh("seq 1 200000")
	c.ID, c.Keep = id(), 64<<10
	if err := l.Start(ctx, c); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Rejoin(ctx, c.ID, 1<<40, nil); err != nil {
		t.Fatal(err)
	}
	var kept []guest.Output
	var bytes int64
	exit, err := l.Rejoin(ctx, c.ID, 0, func(o guest.Output) {
		kept = append(kept, o)
		bytes += int64(len(o.Data))
	})
	if err != nil {
		t.Fatal(err)
	}
	if bytes > c.Keep || bytes < c.Keep/3 {
		t.Errorf("kept %d bytes of %d, with Keep %d", bytes, exit.End, c.Keep)
	}
	if exit.Dropped != exit.End-bytes {
		t.Errorf("dropped %d, want %d", exit.Dropped, exit.End-bytes)
	}
	if first := string(kept[0].Data); !strings.HasPrefix(first, "1\n2\n3\n") {
		t.Errorf("begins with %.20q", first)
	}
	if last := string(kept[len(kept)-1].Data); !strings.HasSuffix(last, "199999\n200000\n") {
		t.Errorf("ends with %q", last)
	}
}

// TestRunBounded ends what prints without an end, and leaves alone what does not.
func TestRunBounded(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 60*time.Second)
	c := sh("echo little")
	c.ID = id()
	p := &printed{t: t}
	if exit, err := l.RunBounded(ctx, c, 7, p.take); err != nil || exit.Code != 0 || p.stdout.String() != "little\n" {
		t.Errorf("%+v, %v, printed %q", exit, err, p.stdout.String())
	}
	c = sh("exec yes")
	c.ID = id()
	got := 0
	_, err := l.RunBounded(ctx, c, 1<<20, func(o guest.Output) { got += len(o.Data) })
	if !errors.Is(err, guest.ErrTooLarge) || got > 1<<20 {
		t.Errorf("%v after %d bytes", err, got)
	}
	exit, err := l.Rejoin(ctx, c.ID, 1<<40, nil)
	if err != nil || exit.Signal != "KILL" {
		t.Errorf("it ended with %+v, %v", exit, err)
	}
}

func TestLargeOutput(t *testing.T) {
	m, l := plain(t)
	ctx := within(t, 120*time.Second)
	const size = 100 << 20
	for _, hold := range []bool{false, true} {
		t.Run(fmt.Sprint("hold ", hold), func(t *testing.T) {
			c := sh(fmt.Sprintf("head -c %d /dev/zero", size))
			c.ID, c.Hold = id(), hold
			var bytes int64
			exit, err := l.Run(ctx, c, func(o guest.Output) { bytes += int64(len(o.Data)) })
			if err != nil || exit.End != size || bytes+exit.Dropped != size {
				t.Fatalf("%d bytes, %+v, %v", bytes, exit, err)
			}
			if hold && exit.Dropped != 0 {
				t.Errorf("dropped %d bytes that were to be held", exit.Dropped)
			}
			t.Logf("%d bytes in %v, %d dropped", bytes, exit.Ended.Sub(exit.Started), exit.Dropped)
		})
	}
	if peak := peakMemory(t, m.init.Process.Pid); peak > 80<<20 && !raced {
		t.Errorf("the guest took %d MiB", peak>>20)
	} else {
		t.Logf("the guest took %d MiB", peak>>20)
	}
}

// peakMemory gives the most memory that a process ever had, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func TestHoldWaitsForSomebody(t *testing.T) {
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	c := in(sh("head -c 1000000 /dev/zero; touch done"), m.dir)
	c.ID, c.Hold, c.Keep = id(), true, 256<<10
	if err := l.Start(ctx, c); err != nil {
		t.Fatal(err)
	}
	for {
		p, err := l.Processes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if p[0].Kept >= c.Keep/2 {
			break
		}
	}
	if _, err := os.Stat(filepath.Join(m.dir, "done")); err == nil {
		t.Error("the command did not wait")
	}
	p := &printed{t: t}
	if exit, err := l.Rejoin(ctx, c.ID, 0, p.take); err != nil || exit.Dropped != 0 || p.stdout.Len() != 1000000 {
		t.Errorf("%d bytes, %+v, %v", p.stdout.Len(), exit, err)
	}
}

func TestStdin(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	c := sh("cat; echo end")
	c.ID, c.Stdin = id(), true
	if err := l.Start(ctx, c); err != nil {
		t.Fatal(err)
	}
	data := []byte(strings.Repeat("0123456789", 100000))
	steps := []struct{ from, to int }{{0, 10}, {0, 10}, {5, 300}, {100, 100000}, {100000, len(data)}, {0, len(data)}}
	for _, s := range steps {
		if err := l.Write(ctx, c.ID, int64(s.from), data[s.from:s.to]); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Write(ctx, c.ID, int64(len(data)+1), []byte("x")); err == nil {
		t.Error("a gap was accepted")
	}
	for range 2 {
		if err := l.CloseStdin(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	p := &printed{t: t}
	if _, err := l.Rejoin(ctx, c.ID, 0, p.take); err != nil {
		t.Fatal(err)
	}
	if p.stdout.String() != string(data)+"end\n" {
		t.Errorf("%d bytes came back of %d", p.stdout.Len(), len(data)+4)
	}
	if err := l.Write(ctx, c.ID, int64(len(data)), []byte("late")); err != nil {
		t.Errorf("writing after the exit: %v", err)
	}
}

func TestFeed(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	// More than the guest keeps, to a command that reads it late.
	c := sh("sleep 0.2; wc -c")
	c.ID, c.Stdin = id(), true
	if err := l.Start(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := l.Feed(ctx, c.ID, strings.NewReader(strings.Repeat("x", 5<<20))); err != nil {
		t.Fatal(err)
	}
	p := &printed{t: t}
	if _, err := l.Rejoin(ctx, c.ID, 0, p.take); err != nil || strings.TrimSpace(p.stdout.String()) != "5242880" {
		t.Errorf("%q, %v", &p.stdout, err)
	}
}

func TestTTY(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	c := as(sh("stty size; tty >/dev/null && echo tty $TERM; read line; stty size; echo got $line; cat"), "nobody")
	c.ID, c.TTY = id(), &guest.Size{Cols: 97, Rows: 31}
	if err := l.Start(ctx, c); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	typed := false
	exit, err := l.Rejoin(ctx, c.ID, 0, func(o guest.Output) {
		out.Write(o.Data)
		if typed || !strings.Contains(out.String(), "tty xterm-256color") {
			return
		}
		typed = true
		if err := l.Resize(ctx, c.ID, guest.Size{Cols: 120, Rows: 40}); err != nil {
			t.Error(err)
		}
		if err := l.Write(ctx, c.ID, 0, []byte("hello\n")); err != nil {
			t.Error(err)
		}
		if err := l.CloseStdin(ctx, c.ID); err != nil {
			t.Error(err)
		}
	})
	if err != nil || exit.Code != 0 {
		t.Fatalf("%q %+v %v", &out, exit, err)
	}
	for _, want := range []string{"31 97\r\n", "40 120\r\n", "got hello\r\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, &out)
		}
	}
}

func TestContextEndLeavesCommand(t *testing.T) {
	_, l := plain(t)
	ctx, cancel := context.WithCancel(within(t, 20*time.Second))
	c := sh("echo on; sleep 0.3; echo off")
	c.ID = id()
	_, err := l.Run(ctx, c, func(guest.Output) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if known, err := l.Known(within(t, time.Second), c.ID); !known || err != nil {
		t.Fatalf("known %v, %v", known, err)
	}
	p := &printed{t: t}
	exit, err := l.Rejoin(within(t, 10*time.Second), c.ID, 0, p.take)
	if err != nil || exit.Code != 0 || p.stdout.String() != "on\noff\n" {
		t.Errorf("%q %+v %v", &p.stdout, exit, err)
	}
}

func TestForgetLetsRunningCommandGoOn(t *testing.T) {
	m, l := plain(t)
	ctx := within(t, 20*time.Second)
	c := in(sh("echo started; while [ ! -e go ]; do sleep 0.01; done; head -c 1000000 /dev/zero && touch done"), m.dir)
	c.ID = id()
	if err := l.Start(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(ctx, c.ID, "never-heard-of"); err != nil {
		t.Fatal(err)
	}
	if known, err := l.Known(ctx, c.ID); known || err != nil {
		t.Errorf("it is still known: %t, %v", known, err)
	}
	if err := os.WriteFile(filepath.Join(m.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(m.dir, "done")); err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("it did not go on")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
