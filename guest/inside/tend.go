package inside

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/errand-dev/errand/guest/wire"
)

const (
	firstWait = time.Second // before the first start after a crash; it doubles
	longWait  = time.Minute // the longest, and how long a run must last to begin anew with firstWait
	stopGrace = 5 * time.Second
	// sweepGrace is how long what a crashed command left has to end in order.
	sweepGrace = 2 * time.Second
	// interruptGrace is how long before its end a command may have been told to
	// stop by Ctrl-C for that to be its reason.
	interruptGrace = 5 * time.Second
	lastLines      = 10
	maxLast        = 1 << 10 // bytes
)

// Tend runs the command of a terminal, as Exec does, and starts it again when it
// crashes: after a second, then after twice as long each time, up to a minute.
//
//	tend [-once] [-user U] [-dir D] [-env K=V]... COMMAND
//
// With -once it starts it once, and says nothing of its own.
//
// It stands between tmux and the command and shares its process group, so that
// keys and signals of the terminal reach the command as if it were alone. One
// that ends with 0 is not started again, nor one that a person stops with
// Ctrl-C; then Enter starts it. Tend ends with its pane, and gives the command's
// exit code. What it knows is in the pane's TendedOption.
func Tend(args []string) (int, error) {
	flags := flag.NewFlagSet("tend", flag.ContinueOnError)
	once := flags.Bool("once", false, "do not start it again")
	var rest []string // of our arguments, for exec
	for _, name := range []string{"user", "dir", "env"} {
		flags.Func(name, "as for exec", func(v string) error {
			rest = append(rest, "-"+name, v)
			return nil
		})
	}
	if err := flags.Parse(args); err != nil {
		return 0, err
	}
	if flags.NArg() == 0 {
		return 0, errors.New("tend needs a command")
	}
	program, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("finding errand-guest: %w", err)
	}
	t := &tender{
		argv:    append(append([]string{program, "exec"}, rest...), append([]string{"--"}, flags.Args()...)...),
		signals: make(chan os.Signal, 16), wait: firstWait,
	}
	if !*once {
		t.tmux = newPane(os.Getenv("TMUX"), os.Getenv("TMUX_PANE"))
	}
	// To notify, and not to ignore: a child would inherit that.
	signal.Notify(t.signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(t.signals)
	t.mode, t.hasMode = terminalMode()
	defer t.drain()
	if *once {
		return t.once(), nil
	}
	return t.run(), nil
}

// tender is one terminal that is tended.
type tender struct {
	argv    []string
	tmux    paneOf
	signals chan os.Signal
	mode    unix.Termios // of the terminal before the first start
	hasMode bool

	state       wire.Tended
	said        string // the line that we wrote last
	wait        time.Duration
	interrupted time.Time // when Ctrl-C was last pressed
	ended       bool      // the pane is closed
}

func (t *tender) run() int {
	for {
		began := time.Now()
		code := t.once()
		switch {
		case t.ended:
			return code
		case code == 0:
			t.become(wire.TendedEnded, "the command has ended")
			return 0
		case time.Since(t.interrupted) < interruptGrace:
			t.become(wire.TendedStopped, fmt.Sprintf("stopped by Ctrl-C, exit code %d; press Enter to start it again", code))
			t.pause(0)
			t.wait = firstWait
		default:
			if time.Since(began) >= longWait {
				t.wait = firstWait
			}
			t.state.Next = time.Now().Add(t.wait)
			t.become(wire.TendedWaiting, fmt.Sprintf("exit code %d; starting again in %s; Enter starts it now, Ctrl-C leaves it", code, t.wait))
			t.pause(t.wait)
			t.wait = min(2*t.wait, longWait)
		}
		if t.ended {
			return code
		}
		t.sweep()
		t.state.Restarts++
	}
}

// sweep ends what an earlier run has left in our process group, which may hold
// the port that the next one needs.
func (t *tender) sweep() {
	// The end of what is not our child is told to nobody, so it is looked for.
	for deadline := time.Now().Add(sweepGrace); ; time.Sleep(10 * time.Millisecond) {
		left := groupOf(unix.Getpgrp())
		if len(left) == 0 {
			return
		}
		end := unix.SIGTERM
		if time.Now().After(deadline) {
			end = unix.SIGKILL
		}
		for _, pid := range left {
			unix.Kill(pid, end)
		}
		if end == unix.SIGKILL {
			return
		}
	}
}

// groupOf gives the processes of a group that run, without us.
func groupOf(group int) []int {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil // the pattern is sound
	}
	var all []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// PID (NAME) STATE PARENT GROUP …; a name may hold anything.
		_, rest, _ := cutLast(string(data), ")")
		f := strings.Fields(rest)
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && pid != os.Getpid() && len(f) > 2 && f[0] != "Z" && f[2] == strconv.Itoa(group) {
			all = append(all, pid)
		}
	}
	return all
}

func cutLast(text, sep string) (before, after string, found bool) {
	at := strings.LastIndex(text, sep)
	if at < 0 {
		return text, "", false
	}
	return text[:at], text[at+len(sep):], true
}

// once runs the command until it ends and gives its exit code.
func (t *tender) once() int {
	cmd := exec.Command(t.argv[0], t.argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "errand-guest: starting the command: %v\r\n", err)
		t.state.ExitCode = 127
		return 127
	}
	t.state.PID, t.state.Next = cmd.Process.Pid, time.Time{}
	t.keep(wire.TendedRunning)
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	var kill <-chan time.Time
	for {
		select {
		case <-exited:
			t.state.PID = 0
			t.state.ExitCode = exitCode(cmd.ProcessState)
			t.reclaim()
			return t.state.ExitCode
		case <-kill:
			cmd.Process.Kill()
		case s := <-t.signals:
			switch s {
			case unix.SIGINT, unix.SIGQUIT:
				t.interrupted = time.Now() // the terminal has told the command as well
			case unix.SIGTSTP:
			default:
				t.ended = true
				cmd.Process.Signal(s)
				cmd.Process.Signal(unix.SIGCONT)
				kill = time.After(stopGrace)
			}
		}
	}
}

func exitCode(s *os.ProcessState) int {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return s.ExitCode()
}

// become tells people in the terminal, and the server, what the command has
// come to, with what it showed last.
func (t *tender) become(status wire.TendedStatus, line string) {
	line = time.Now().Format("[15:04:05 ") + line + "]"
	fmt.Fprintf(os.Stdout, "\r\n%s\r\n", line)
	t.state.Last = t.tmux.shown(t.said, line)
	t.said = line
	t.keep(status)
}

// keep puts the state where the server finds it.
func (t *tender) keep(status wire.TendedStatus) {
	t.state.Status, t.state.Since = status, time.Now().UTC().Truncate(time.Millisecond)
	t.state.Next = t.state.Next.UTC().Truncate(time.Millisecond)
	data, err := json.Marshal(t.state)
	if err != nil {
		return // it holds nothing that cannot be written
	}
	t.tmux.do("set-option", "-p", "-t", t.tmux.id, wire.TendedOption, base64.StdEncoding.EncodeToString(data))
}

// pause waits for d to pass, or without end for 0, for Enter, or for the pane's
// end. Ctrl-C makes it wait without end.
func (t *tender) pause(d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	typed, stop := watchInput()
	defer stop()
	for {
		select {
		case <-over:
			return
		case ok := <-typed:
			if ok {
				return
			}
			typed = nil
		case s := <-t.signals:
			if s == unix.SIGHUP || s == unix.SIGTERM {
				t.ended = true
				return
			}
			if over != nil && s != unix.SIGTSTP {
				over, t.state.Next = nil, time.Time{}
				t.become(wire.TendedStopped, "left as it is; press Enter to start it again")
			}
		}
	}
}

// watchInput tells of a line that is typed, once. It reads only what is there,
// so that nothing is taken from the command that runs next. stop waits until
// nobody reads any more.
func watchInput() (typed <-chan bool, stop func()) {
	lines, done, quit := make(chan bool, 1), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
			}
			fds := []unix.PollFd{{Fd: 0, Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 100)
			if n == 0 || errors.Is(err, unix.EINTR) {
				continue
			}
			buf := make([]byte, 4096)
			if n, err = unix.Read(0, buf); err != nil || n <= 0 {
				lines <- false
				return
			}
			lines <- true
			return
		}
	}()
	return lines, func() { close(quit); <-done }
}

// terminalMode gives the settings of our terminal, and false where it is none.
func terminalMode() (unix.Termios, bool) {
	mode, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return unix.Termios{}, false
	}
	return *mode, true
}

// reclaim takes the terminal back from a command that has ended: its settings,
// and who hears its keys.
func (t *tender) reclaim() {
	if !t.hasMode {
		return
	}
	signal.Ignore(unix.SIGTTOU) // we may be in the background
	defer signal.Reset(unix.SIGTTOU)
	unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, unix.Getpgrp())
	unix.IoctlSetTermios(0, unix.TCSETS, &t.mode)
}

// drain waits until the terminal has taken all that was written to it. tmux (3.3)
// drops what it has not read yet when it hears of the end of a pane's process. It
// answers a question (DSR, ECMA-48 8.3.35) in its turn, after all that came before.
func (t *tender) drain() {
	if !t.hasMode || t.ended {
		return
	}
	raw := t.mode
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, 0
	if unix.IoctlSetTermios(0, unix.TCSETSF, &raw) != nil {
		return
	}
	defer unix.IoctlSetTermios(0, unix.TCSETS, &t.mode)
	if _, err := unix.Write(1, []byte("\x1b[5n")); err != nil {
		return
	}
	var heard []byte
	for deadline := time.Now().Add(time.Second); !bytes.Contains(heard, []byte("\x1b[0n")); {
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		if n, err := unix.Poll([]unix.PollFd{{Fd: 0, Events: unix.POLLIN}}, int(left.Milliseconds())+1); n == 0 || errors.Is(err, unix.EINTR) {
			continue
		}
		buf := make([]byte, 256)
		n, err := unix.Read(0, buf)
		if err != nil || n == 0 {
			return // the terminal is gone
		}
		heard = append(heard, buf[:n]...)
	}
}

// paneOf is the pane of tmux in which we run.
type paneOf struct {
	socket string // "" where we run in none
	id     string
}

// newPane reads the variables that tmux sets.
func newPane(tmux, id string) paneOf {
	socket, _, _ := strings.Cut(tmux, ",")
	return paneOf{socket, id}
}

// do runs a tmux command. What goes wrong is of no consequence for the command
// that is tended.
func (p paneOf) do(args ...string) string {
	if p.socket == "" || p.id == "" {
		return ""
	}
	out, err := exec.Command("tmux", append([]string{"-u", "-f", "/dev/null", "-S", p.socket}, args...)...).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// shown gives the last lines that the pane shows between two lines of ours. The
// second was just written, and tmux may not have read it yet.
func (p paneOf) shown(from, to string) string {
	for deadline := time.Now().Add(time.Second); ; {
		out := p.do("capture-pane", "-p", "-J", "-t", p.id, "-S", "-50")
		at := strings.LastIndex(out, to)
		if at < 0 && out != "" && time.Now().Before(deadline) {
			continue
		}
		if at >= 0 {
			out = out[:at]
		}
		if at := strings.LastIndex(out, from); from != "" && at >= 0 {
			out = out[at+len(from):]
		}
		return last(out)
	}
}

// last gives the end of what was shown, without empty lines.
func last(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \r\n"); line != "" {
			lines = append(lines, line)
		}
	}
	text = strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
	return strings.ToValidUTF8(text[max(0, len(text)-maxLast):], "")
}
