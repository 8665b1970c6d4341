package guest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/errand-dev/errand/guest"
)

// needTmux skips a test where there is no tmux, but not in CI.
func needTmux(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("tmux is missing; install it")
	}
	t.Skip("needs tmux")
}

// until waits for a terminal to show something.
func until(t *testing.T, ctx context.Context, l *guest.Line, name, want string) string {
	t.Helper()
	var last string
	for {
		shown, err := l.Capture(ctx, name, -1)
		if err != nil {
			all, _ := l.Terminals(context.Background())
			t.Fatalf("waiting for %q: %v; it shows %q; terminals: %+v", want, err, last, all)
		}
		if strings.Contains(shown, want) {
			return shown
		}
		last = shown
	}
}

func TestTerminals(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)

	if all, err := l.Terminals(ctx); err != nil || len(all) != 0 {
		t.Fatalf("before any: %v, %v", all, err)
	}
	if _, err := l.Capture(ctx, "none", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("capturing what is not there: %v", err)
	}
	server := guest.Terminal{
		Name: "Dev Server: é.1", Dir: m.dir, Env: []string{"GREETING=hé llo;"},
		Command: `echo "$GREETING in $(pwd) $USER"; cat >typed;`, User: "root",
	}
	for range 2 {
		if err := l.OpenTerminal(ctx, server); err != nil {
			t.Fatal(err)
		}
	}
	until(t, ctx, l, server.Name, "hé llo; in "+m.dir+" root")

	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "fails", Command: "exit 3"}); err != nil {
		t.Fatal(err)
	}
	for running := true; running; {
		all, err := l.Terminals(ctx)
		if err != nil {
			t.Fatal(err)
		}
		running = slices.ContainsFunc(all, func(s guest.TerminalState) bool { return s.Name == "fails" && s.Running })
	}
	until(t, ctx, l, "fails", "Ended with status 3. At a command line, Ctrl-B D leaves.")
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "shell"}); err != nil {
		t.Fatal(err)
	}
	all, err := l.Terminals(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []guest.TerminalState{
		{Name: server.Name, Running: true, Command: server.Command, Cols: 120, Rows: 32},
		{Name: "fails", ExitCode: 3, Command: "exit 3", Cols: 120, Rows: 32},
		{Name: "shell", Running: true, Cols: 120, Rows: 32},
	}
	if diff := cmp.Diff(want, all, cmpopts.IgnoreFields(guest.TerminalState{}, "PID", "Row")); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := l.CloseTerminal(ctx, "fails"); err != nil {
			t.Error(err)
		}
	}
	if all, _ := l.Terminals(ctx); len(all) != 2 {
		t.Errorf("after closing one: %v", all)
	}
}

// TestTerminalShowsAll opens terminals whose commands end at once, many at a
// time, so that tmux hears of an end before it reads what was printed.
func TestTerminalShowsAll(t *testing.T) {
	needTmux(t)
	_, l := plain(t)
	ctx := within(t, time.Minute)
	for round := range 6 {
		var terminals []guest.Terminal
		for i := range 6 {
			terminals = append(terminals, guest.Terminal{Name: fmt.Sprintf("t%d-%d", round, i), Command: "echo first; seq 100; echo last"})
		}
		if err := l.OpenWindow(ctx, terminals...); err != nil {
			t.Fatal(err)
		}
	}
	for all := []guest.TerminalState{{Running: true}}; slices.ContainsFunc(all, func(s guest.TerminalState) bool { return s.Running }); {
		var err error
		if all, err = l.Terminals(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 6 {
		for i := range 6 {
			name := fmt.Sprintf("t%d-%d", round, i)
			shown, err := l.Capture(ctx, name, -1)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(shown, "first\n") || !strings.Contains(shown, "last\n") {
				t.Errorf("%s shows %q", name, shown)
			}
		}
	}
}

func TestTypeOnce(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "t", Dir: m.dir, Command: "stty -echo; echo ready; cat >typed"}); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "t", "ready")
	long := strings.Repeat(strings.Repeat("abcdefghi;", 50)+"\n", 40)
	typed := []string{"-n one; two;", `back\slash\;`, "'quoted' \"$HOME\" Enter é", "", long}
	for _, text := range typed {
		op := id()
		for range 3 {
			if err := l.Type(ctx, op, "t", text, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := strings.Join(typed, "\n") + "\n"
	for {
		got := read(t, filepath.Join(m.dir, "typed"))
		if len(got) >= len(want) || ctx.Err() != nil {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			break
		}
	}
	if err := l.Type(ctx, id(), "other", "x", true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("typing into nothing: %v", err)
	}
}

func TestAttach(t *testing.T) {
	needTmux(t)
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	argv, err := l.AttachCommand(ctx, "main", guest.Viewing{})
	if err != nil {
		t.Fatal(err)
	}
	viewer := guest.Command{ID: id(), Args: argv, TTY: &guest.Size{Cols: 90, Rows: 25}}
	if err := l.Start(ctx, viewer); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(ctx, viewer.ID, 0, []byte("echo see$((1+1))me\r")); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "main", "see2me")
	all, err := l.Terminals(ctx)
	if err != nil || len(all) != 1 || all[0].Cols != 90 || all[0].Rows != 25 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := l.CloseTerminal(ctx, "main"); err != nil {
		t.Fatal(err)
	}
	var shown strings.Builder
	if _, err := l.Rejoin(ctx, viewer.ID, 0, func(o guest.Output) { shown.Write(o.Data) }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(shown.String(), "see2me") {
		t.Errorf("the viewer saw %q", shown.String())
	}
}

func TestNoTmux(t *testing.T) {
	m := &machine{t: t}
	t.Setenv("PATH", t.TempDir())
	m = boot(t)
	l := m.line(nil, guest.Options{})
	if err := l.OpenTerminal(within(t, 10*time.Second), guest.Terminal{Name: "x"}); !errors.Is(err, guest.ErrNoTmux) {
		t.Errorf("got %v", err)
	}
}

func TestTerminalNames(t *testing.T) {
	_, l := plain(t)
	for _, name := range []string{"", strings.Repeat("x", 65), "a\nb", "\xff"} {
		if err := l.OpenTerminal(within(t, time.Second), guest.Terminal{Name: name}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestStrangeTmux: a tmux that prints without an end is not listened to for long.
func TestStrangeTmux(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "tmux"), []byte("#!/bin/sh\nexec head -c 100000000 /dev/zero\n"), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, l := plain(t)
	if _, err := l.Terminals(within(t, 60*time.Second)); !errors.Is(err, guest.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// TestTerminalAfterTheLast opens a terminal when the last one was just closed, and
// tmux ends with it.
func TestTerminalAfterTheLast(t *testing.T) {
	_, l := plain(t)
	ctx := within(t, time.Minute)
	for range 40 {
		must(t, l.OpenTerminal(ctx, guest.Terminal{Name: "only", Command: "exec sleep 1000", Dir: "/"}))
		must(t, l.CloseTerminal(ctx, "only"))
	}
}

// TestNewTerminal makes a terminal of a name once, alone or beside others in a
// window.
func TestNewTerminal(t *testing.T) {
	needTmux(t)
	_, l := plain(t)
	ctx := within(t, 30*time.Second)
	if err := l.NewTerminal(ctx, guest.Terminal{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	if err := l.OpenWindow(ctx, guest.Terminal{Name: "left"}, guest.Terminal{Name: "right"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "left", "right"} {
		if err := l.NewTerminal(ctx, guest.Terminal{Name: name}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s once more: %v", name, err)
		}
	}
}

// TestBareView looks at a terminal without tmux's keys and mouse: what is pressed
// goes to its program, who only watches presses nothing, and the terminal's end
// ends them both and leaves no trace.
func TestBareView(t *testing.T) {
	needTmux(t)
	m, l := plain(t)
	ctx := within(t, 30*time.Second)
	gone, err := l.AttachCommand(ctx, "gone", guest.Viewing{Bare: true})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := l.Run(ctx, guest.Command{ID: id(), Args: gone, TTY: &guest.Size{Cols: 80, Rows: 24}}, nil); err != nil || exit.Code == 0 {
		t.Errorf("looking at nothing: %+v, %v", exit, err)
	}
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "main", Dir: m.dir, Command: "stty raw -echo; printf '\\033[?1000h\\033[?1006h\\033[38;2;1;2;3m%s' \"$COLORTERM\"; exec head -c 14 >typed"}); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "main", "truecolor")
	const keys = "\x02d\x1b[<64;5;5M" // tmux's way out, and the wheel
	views := map[bool]*strings.Builder{}
	ended := make(chan error, 2)
	for _, readOnly := range []bool{true, false} {
		argv, err := l.AttachCommand(ctx, "main", guest.Viewing{Bare: true, ReadOnly: readOnly})
		if err != nil {
			t.Fatal(err)
		}
		c := guest.Command{ID: id(), Args: argv, TTY: &guest.Size{Cols: 80, Rows: 24}, Env: []string{"TERM=xterm-256color"}}
		shown, there := &strings.Builder{}, make(chan struct{})
		views[readOnly] = shown
		if err := l.Start(ctx, c); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := l.Rejoin(ctx, c.ID, 0, func(o guest.Output) {
				was := strings.Contains(shown.String(), "truecolor")
				shown.Write(o.Data)
				if !was && strings.Contains(shown.String(), "truecolor") {
					close(there)
				}
			})
			ended <- err
		}()
		select {
		case <-there:
		case <-ctx.Done():
			t.Fatal("the view shows nothing")
		}
		if err := l.Write(ctx, c.ID, 0, []byte(keys+"!!")); err != nil {
			t.Fatal(err)
		}
	}
	for read(t, filepath.Join(m.dir, "typed")) != keys+"!!" {
		if ctx.Err() != nil {
			t.Fatalf("the program heard %q", read(t, filepath.Join(m.dir, "typed")))
		}
	}
	if all, err := l.Terminals(ctx); err != nil || len(all) != 1 {
		t.Errorf("while two look there are %+v, %v", all, err)
	}
	if err := l.CloseTerminal(ctx, "main"); err != nil {
		t.Fatal(err)
	}
	for range views {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for readOnly, shown := range views {
		if s := shown.String(); !strings.Contains(s, "38;2;1;2;3m") || !strings.Contains(s, "\x1b[?1000h") {
			t.Errorf("read-only %t: it saw %q", readOnly, s)
		}
	}
	if all, err := l.Terminals(ctx); err != nil || len(all) != 0 {
		t.Errorf("after the end there are %+v, %v", all, err)
	}
}

// TestHistory reads what has left the screen, with its colours, long lines whole,
// and fewer lines where they are too many bytes.
func TestHistory(t *testing.T) {
	needTmux(t)
	_, l := plain(t)
	ctx := within(t, time.Minute)
	if _, err := l.History(ctx, "none", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the history of nothing: %v", err)
	}
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "t", Command: "printf '\\033[31mred\\033[m\\n'; head -c 300 /dev/zero | tr '\\0' x; echo; seq 100; echo last; exec cat"}); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "t", "last")
	h, err := l.History(ctx, "t", 1000)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(h.Text, "\x1b[31mred\n") || !strings.Contains(h.Text, strings.Repeat("x", 300)+"\n1\n2\n") || h.Alternate {
		t.Errorf("got %+v", h)
	}
	if h, err := l.History(ctx, "t", 5); err != nil || strings.Contains(h.Text, "red") || !strings.HasSuffix(h.Text, "last") {
		t.Errorf("5 lines are %q, %v", h.Text, err)
	}
	line := strings.Repeat("é", 119)
	if err := l.OpenTerminal(ctx, guest.Terminal{Name: "wide", Command: "yes " + line + " | head -n 49000; echo last; read go; printf '\\033[?1049h'; echo editor; exec cat"}); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "wide", "last")
	if h, err = l.History(ctx, "wide", 50000); err != nil || len(h.Text) < 1<<20 || len(h.Text) > 8<<20 {
		t.Errorf("of many wide lines: %d bytes, %v", len(h.Text), err)
	}
	if err := l.Type(ctx, id(), "wide", "", true); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, l, "wide", "editor")
	if h, err = l.History(ctx, "wide", 50000); err != nil || !h.Alternate {
		t.Errorf("of a program with a screen of its own: %d bytes, %t, %v", len(h.Text), h.Alternate, err)
	}
}
