package guest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/errand-dev/errand/guest/wire"
)

// Terminal is a named tmux session to open.
type Terminal struct {
	Name    string   // 1 to 64 bytes of printable text
	Command string   // for the user's shell, at most 8 KiB; "" is the shell itself
	Dir     string   // absolute; "" is the user's home
	User    string   // as in Command; "" is root
	Env     []string // added to the machine's environment, at most 4 KiB
}

// TerminalState is a terminal as it stands.
type TerminalState struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Running  bool   `json:"running"`
	ExitCode int    `json:"exitCode"` // where not Running; 128 + the signal's number
	Command  string `json:"command"`  // as it was opened; "" is a shell
	Cols     int    `json:"cols"`
	Rows     int    `json:"rows"`
}

// Bounds, in bytes. What tmux is told in one go must stay below 16 KiB.
const (
	maxTerminalName    = 64
	maxTerminalCommand = 8 << 10
	maxTerminalEnv     = 4 << 10
	maxTyped           = 1 << 20
	maxSent            = 4 << 10 // as keys; more goes through a buffer of tmux's
)

// commandOption keeps the command of a terminal with its tmux session.
const commandOption = "@errand-command"

// OpenTerminal makes a terminal, or finds the one of this name, running or not,
// and leaves it as it is. It stays when its command has ended, with the exit
// shown, until CloseTerminal or the machine's end.
func (l *Line) OpenTerminal(ctx context.Context, t Terminal) error {
	name, err := tmuxName(t.Name)
	if err != nil {
		return err
	}
	if err := t.check(); err != nil {
		return err
	}
	pane := []string{l.Hello().Program, "exec", "-user", t.User, "-dir", t.Dir}
	for _, kv := range t.Env {
		pane = append(pane, "-env", kv)
	}
	pane = append(pane, "--", t.Command)
	_, err = l.tmux(ctx,
		[]string{"start-server"},
		// They must be there before the session is: its command may end at once.
		[]string{"set-option", "-g", "remain-on-exit", "on"},
		[]string{"set-option", "-g", "history-limit", "50000"},
		[]string{"set-option", "-g", "default-terminal", "screen-256color"},
		[]string{"set-option", "-g", "status", "off"},
		[]string{"set-option", "-g", "mouse", "on"},
		[]string{"set-option", "-sg", "escape-time", "10"},
		append([]string{"new-session", "-d", "-s", name, "-x", "120", "-y", "32", "--"}, pane...),
		[]string{"set-option", "-t", target(name), commandOption, base64.StdEncoding.EncodeToString([]byte(t.Command))},
	)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (t Terminal) check() error {
	env := 0
	for _, kv := range t.Env {
		env += len(kv)
	}
	switch {
	case len(t.Command) > maxTerminalCommand:
		return terminalError(wire.CodeTooLarge, "the command of terminal %q has %d bytes, and at most %d are allowed; put it into a script", t.Name, len(t.Command), maxTerminalCommand)
	case env > maxTerminalEnv:
		return terminalError(wire.CodeTooLarge, "the environment of terminal %q has %d bytes, and at most %d are allowed", t.Name, env, maxTerminalEnv)
	}
	return nil
}

func terminalError(code, format string, args ...any) error {
	return &Error{Method: "terminal", Code: code, Message: fmt.Sprintf(format, args...)}
}

// Terminals gives all terminals of the machine, by name.
func (l *Line) Terminals(ctx context.Context) ([]TerminalState, error) {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		list, err := l.panes(ctx)
		if err != nil {
			return nil, err
		}
		server := unreaped(list)
		if server == 0 || attempt == attempts {
			return states(list), nil
		}
		// tmux 3.3 misses the exit of a pane's command now and then: the pane is
		// closed and has no status, and its process is a zombie until the next
		// SIGCHLD. So here is one.
		poke := Command{ID: "tmux-" + rand.Text(), Args: []string{"sh", "-c", "kill -CHLD " + strconv.Itoa(server)}}
		if _, err := l.Run(ctx, poke, nil); err != nil {
			return nil, err
		}
		if err := l.Forget(ctx, poke.ID); err != nil {
			return nil, err
		}
	}
}

// pane is a terminal as tmux tells it.
type pane struct {
	server int // process id of tmux
	state  TerminalState
	silent bool // it is dead, and tmux does not know how it ended
}

func (l *Line) panes(ctx context.Context) ([]pane, error) {
	const format = "#{pid} #{session_name} #{pane_pid} #{pane_dead} x#{pane_dead_status} x#{pane_dead_signal} " +
		"#{window_width} #{window_height} x#{" + commandOption + "}"
	out, err := l.tmux(ctx, []string{"list-sessions", "-F", format})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []pane
	for line := range strings.Lines(out) {
		if p, ok := parsePane(line); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

// parsePane reads a line of list-sessions. What is no such line is no terminal
// of ours.
func parsePane(line string) (pane, bool) {
	f := strings.Fields(line)
	if len(f) != 9 {
		return pane{}, false
	}
	command, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[8], "x"))
	if err != nil {
		return pane{}, false
	}
	p := pane{server: number(f[0]), state: TerminalState{
		Name: plainName(f[1]), PID: number(f[2]), Running: f[3] == "0",
		Command: string(command), Cols: number(f[6]), Rows: number(f[7]),
	}}
	if p.state.Running {
		return p, true
	}
	code, sig := strings.TrimPrefix(f[4], "x"), strings.TrimPrefix(f[5], "x")
	p.silent = code == "" && sig == ""
	p.state.ExitCode = number(code)
	if sig != "" {
		p.state.ExitCode = 128 + number(sig)
	}
	return p, true
}

// unreaped gives the process id of a tmux that has not collected an exit, 0
// where there is none.
func unreaped(list []pane) int {
	for _, p := range list {
		if p.silent {
			return p.server
		}
	}
	return 0
}

func states(list []pane) []TerminalState {
	var all []TerminalState
	for _, p := range list {
		all = append(all, p.state)
	}
	slices.SortFunc(all, func(a, b TerminalState) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// Capture gives what a terminal shows as text: its screen, and as many lines of
// scrollback before it, negative for all. A name that is not there is
// fs.ErrNotExist.
func (l *Line) Capture(ctx context.Context, name string, lines int) (string, error) {
	name, err := tmuxName(name)
	if err != nil {
		return "", err
	}
	start := strconv.Itoa(-lines)
	if lines < 0 {
		start = "-"
	}
	out, err := l.tmux(ctx, []string{"capture-pane", "-p", "-J", "-t", target(name), "-S", start})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(out) {
		b.WriteString(strings.TrimRight(line, " \r\n"))
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n"), nil
}

// Type types text into a terminal, at most 1 MiB, and Enter after it if enter is
// set. A name that is not there is fs.ErrNotExist. op is an id as for WriteFile:
// under it the text is typed once.
func (l *Line) Type(ctx context.Context, op, name, text string, enter bool) error {
	name, err := tmuxName(name)
	if err != nil {
		return err
	}
	if len(text) > maxTyped {
		return terminalError(wire.CodeTooLarge, "%d bytes cannot be typed at once; at most %d can", len(text), maxTyped)
	}
	// What a keyboard sends for a new line.
	text = strings.ReplaceAll(text, "\n", "\r")
	var steps [][]string
	switch {
	case len(text) > maxSent:
		const buffer = "errand-typed"
		steps = append(steps,
			[]string{"load-buffer", "-b", buffer, "-"},
			[]string{"paste-buffer", "-d", "-r", "-b", buffer, "-t", target(name)})
	case text != "":
		steps = append(steps, []string{"send-keys", "-t", target(name), "-l", "--", text})
	default:
		steps = append(steps, []string{"has-session", "-t", target(name)})
	}
	if enter {
		steps = append(steps, []string{"send-keys", "-t", target(name), "Enter"})
	}
	c := Command{ID: op, Args: l.tmuxArgs(steps...)}
	if len(text) <= maxSent {
		_, err = l.runTmux(ctx, c)
		return err
	}
	c.Stdin = true
	if err := l.Start(ctx, c); err != nil {
		return tmuxMissing(err)
	}
	if err := l.Feed(ctx, op, strings.NewReader(text)); err != nil {
		return err
	}
	_, err = l.runTmux(ctx, c)
	return err
}

// CloseTerminal ends a terminal and hangs up on what runs in it. To close again
// is no error.
func (l *Line) CloseTerminal(ctx context.Context, name string) error {
	name, err := tmuxName(name)
	if err != nil {
		return err
	}
	_, err = l.tmux(ctx, []string{"kill-session", "-t", target(name)})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// AttachCommand gives the argv with which Run on a TTY, as root, shows a
// terminal. A viewer that is readOnly types nothing and does not decide on the
// terminal's size. A name that cannot be gives a command that fails. The guest
// is not asked.
func (l *Line) AttachCommand(name string, readOnly bool) []string {
	encoded, _ := tmuxName(name)
	argv := []string{"tmux", "-u", "-S", l.Hello().Tmux, "attach-session", "-t", target(encoded)}
	if readOnly {
		argv = append(argv, "-r")
	}
	return argv
}

// tmux runs tmux commands in one go and gives what they print.
func (l *Line) tmux(ctx context.Context, steps ...[]string) (string, error) {
	c := Command{ID: "tmux-" + rand.Text(), Args: l.tmuxArgs(steps...), Keep: 32 << 20}
	out, err := l.runTmux(ctx, c)
	if ctx.Err() == nil {
		l.Forget(ctx, c.ID)
	}
	return out, err
}

// tmuxArgs gives the argv for several tmux commands. A person's own settings
// are not read; all clients are taken to speak UTF-8.
func (l *Line) tmuxArgs(steps ...[]string) []string {
	argv := []string{"tmux", "-u", "-f", "/dev/null", "-S", l.Hello().Tmux}
	for i, step := range steps {
		if i > 0 {
			argv = append(argv, ";")
		}
		for _, arg := range step {
			// An argument that ends with ; would end the command.
			if rest, ok := strings.CutSuffix(arg, ";"); ok {
				arg = rest + `\;`
			}
			argv = append(argv, arg)
		}
	}
	return argv
}

// runTmux runs c, or joins it, and tells tmux's own errors apart.
func (l *Line) runTmux(ctx context.Context, c Command) (string, error) {
	var stdout, stderr strings.Builder
	exit, err := l.Run(ctx, c, func(o Output) {
		if o.Stderr {
			stderr.Write(o.Data)
		} else {
			stdout.Write(o.Data)
		}
	})
	if err != nil {
		return "", tmuxMissing(err)
	}
	if exit.Code == 0 {
		return stdout.String(), nil
	}
	said := strings.TrimSpace(stderr.String())
	code := wire.CodeFailed
	switch {
	case strings.Contains(said, "duplicate session"):
		code = wire.CodeExist
	case strings.Contains(said, "no server running"), strings.Contains(said, "error connecting to"),
		strings.Contains(said, "can't find"), strings.Contains(said, "no sessions"):
		code = wire.CodeNotExist
	}
	return "", terminalError(code, "tmux: %s (exit code %d)", said, exit.Code)
}

func tmuxMissing(err error) error {
	if errors.Is(err, ErrNotStarted) {
		return ErrNoTmux
	}
	return err
}

// target names a session, and not one whose name begins so.
func target(name string) string { return "=" + name + ":" }

// tmuxName gives a terminal's name in letters that mean nothing to tmux: those
// other than ASCII letters, digits and - as _ and two hex digits for each byte.
func tmuxName(name string) (string, error) {
	if name == "" || len(name) > maxTerminalName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", terminalError(wire.CodeInvalid, "%.80q cannot be a terminal's name; take 1 to %d bytes of printable text", name, maxTerminalName)
	}
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String(), nil
}

// plainName undoes tmuxName. What is no such name stays as it is.
func plainName(encoded string) string {
	var b strings.Builder
	for i := 0; i < len(encoded); i++ {
		if encoded[i] == '_' && i+2 < len(encoded) {
			if c, err := strconv.ParseUint(encoded[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(encoded[i])
	}
	return b.String()
}
