package guest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/errand-dev/errand/guest/wire"
)

// Terminal is a named terminal to open, in tmux.
type Terminal struct {
	Name    string   // 1 to 64 bytes of printable text
	Command string   // for the user's shell, at most 8 KiB; "" is the shell itself
	Dir     string   // absolute; "" is the user's home
	User    string   // as in Command; "" is root
	Env     []string // added to the machine's environment, at most 4 KiB
	// Tend starts Command again when it crashes, also while nobody is connected
	// with the machine. A shell is not tended.
	Tend bool
}

// TerminalState is a terminal as it stands.
type TerminalState struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Running  bool   `json:"running"`
	ExitCode int    `json:"exitCode"` // of the last time that it ended; 128 + the signal's number
	Command  string `json:"command"`  // as it was opened; "" is a shell
	Cols     int    `json:"cols"`
	Rows     int    `json:"rows"`
	// Row is the line that its cursor stands in, counted from the first that the
	// terminal keeps.
	Row int `json:"-"`
	// Tended tells more of a terminal that is tended. It is what a program in the
	// machine said. Nil for others.
	Tended *Tended `json:"tended,omitempty"`
}

// Bounds, in bytes. What tmux is told in one go must stay below 16 KiB.
const (
	maxTerminalName    = 64
	maxTerminalCommand = 8 << 10
	maxTerminalEnv     = 4 << 10
	maxTerminalLast    = 4 << 10
	maxTyped           = 1 << 20
	maxSent            = 4 << 10 // as keys; more goes through a buffer of tmux's
	maxPrinted         = 32 << 20
)

// tmuxLimit is how long one tmux command may take.
const tmuxLimit = time.Minute

// endedFormat is what a terminal says below its screen when its program has ended.
// Whoever is in it by tmux would else not know how to get out.
const endedFormat = "Ended#{?#{!=:#{pane_dead_status},}, with status #{pane_dead_status},}" +
	"#{?#{!=:#{pane_dead_signal},}, by signal #{pane_dead_signal},}. At a command line, Ctrl-B D leaves."

// sharedPrefix begins the names of the tmux sessions that hold several
// terminals. It is not what tmuxName makes of any.
const sharedPrefix = "_window-"

// OpenTerminal makes a terminal, or finds the one of this name, running or not,
// and leaves it as it is. It stays when its command has ended, with the exit
// shown, until CloseTerminal or the machine's end.
func (l *Line) OpenTerminal(ctx context.Context, t Terminal) error {
	return found(l.NewTerminal(ctx, t))
}

// NewTerminal is OpenTerminal where none of the name may be there: then the error
// is fs.ErrExist.
func (l *Line) NewTerminal(ctx context.Context, t Terminal) error {
	shared, err := l.sharedPane(ctx, t.Name)
	if err != nil {
		return err
	}
	if shared != "" {
		return terminalError(wire.CodeExist, "there is a terminal %q", t.Name)
	}
	return l.newWindow(ctx, t)
}

// found takes what is there already for done.
func found(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// OpenWindow makes terminals that share a window, as its panes, or finds that
// this was done. It does not look for single ones of their names in the panes of
// other windows, as OpenTerminal does.
func (l *Line) OpenWindow(ctx context.Context, terminals ...Terminal) error {
	return found(l.newWindow(ctx, terminals...))
}

func (l *Line) newWindow(ctx context.Context, terminals ...Terminal) error {
	steps := [][]string{
		{"start-server"},
		// They must be there before the session is: its command may end at once.
		{"set-option", "-g", "remain-on-exit", "on"},
		{"set-option", "-gq", "remain-on-exit-format", endedFormat}, // a tmux before 3.3 has words of its own
		{"set-option", "-g", "history-limit", "50000"},
		{"set-option", "-g", "default-terminal", "screen-256color"},
		{"set-option", "-g", "mouse", "on"},
		{"set-option", "-sg", "escape-time", "10"},
		// Those that look have all colours. A tmux before 3.2 knows no features, and
		// shows the nearest of 256.
		{"set-option", "-sq", "terminal-features[40]", "xterm-256color:RGB:hyperlinks"},
	}
	before := len(steps)
	for i, t := range terminals {
		name, err := tmuxName(t.Name)
		if err != nil {
			return err
		}
		if err := t.check(); err != nil {
			return err
		}
		session := name
		if len(terminals) > 1 {
			first, _ := tmuxName(terminals[0].Name)
			session = sharedPrefix + first
		}
		if i == 0 {
			steps = append(steps, append([]string{"new-session", "-d", "-s", session, "-x", "120", "-y", "32", "--"}, l.pane(t)...))
		} else {
			steps = append(steps, append([]string{"split-window", "-t", target(session), "--"}, l.pane(t)...),
				[]string{"select-layout", "-t", target(session), "tiled"})
		}
		steps = append(steps, []string{"set-option", "-p", "-t", target(session), wire.CommandOption, encode(t.Command)})
		if len(terminals) > 1 {
			steps = append(steps,
				[]string{"set-option", "-p", "-t", target(session), wire.NameOption, encode(t.Name)},
				[]string{"set-option", "-p", "-t", target(session), wire.TitleOption, t.Name},
				[]string{"set-option", "-w", "-t", target(session), "pane-border-status", "top"},
				[]string{"set-option", "-w", "-t", target(session), "pane-border-format", " #{" + wire.TitleOption + "} "})
		}
	}
	if len(terminals) > 1 {
		l.forgetShared()
	}
	var there error // fs.ErrExist; the others' status may have been told over meanwhile all the same
	err := l.keepStatus(ctx, func(status string) error {
		all := append(append(steps[:before:before], statusSteps(status)...), steps[before:]...)
		_, err := l.tmux(ctx, all...)
		for range endings {
			if !errors.Is(err, errTmuxEnded) {
				break
			}
			_, err = l.tmux(ctx, all...)
		}
		if errors.Is(err, fs.ErrExist) {
			there, err = err, nil
		}
		return err
	})
	if err == nil {
		err = there
	}
	return err
}

// errTmuxEnded: tmux, which ends with its last terminal, was just ending. What it
// was told has not been done, and there is no terminal any more.
var errTmuxEnded = terminalError(wire.CodeNotExist, "tmux has ended, and the terminals with it")

// endings is how often a terminal is opened again while tmux ends, which takes it
// less time than the command that is then told of it.
const endings = 20

// pane gives the argv of a terminal's pane.
func (l *Line) pane(t Terminal) []string {
	how := []string{"tend"}
	switch {
	case t.Command == "":
		how = []string{"exec"}
	case !t.Tend:
		how = append(how, "-once")
	}
	argv := append([]string{l.Hello().Program}, append(how, "-user", t.User, "-dir", t.Dir)...)
	env := t.Env
	if t.Command == "" {
		env = append(ShellEnv(t.Name), env...)
	}
	for _, kv := range env {
		argv = append(argv, "-env", kv)
	}
	return append(argv, "--", t.Command)
}

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

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
	server  int    // process id of tmux
	session string // of tmux
	id      string // of tmux, "%7"
	shared  bool   // it has its window with others
	active  bool   // the one in use of its session
	state   TerminalState
	silent  bool // it is dead, and tmux does not know how it ended
}

func (l *Line) panes(ctx context.Context) ([]pane, error) {
	const format = "#{pid} #{session_name} #{pane_id} #{&&:#{pane_active},#{window_active}} #{pane_pid} #{pane_dead} x#{pane_dead_status} x#{pane_dead_signal} " +
		"#{pane_width} #{pane_height} x#{" + wire.CommandOption + "} x#{" + wire.NameOption + "} x#{" + wire.TendedOption + "} " +
		"#{history_size} #{cursor_y}"
	out, err := l.tmux(ctx, []string{"list-panes", "-a", "-F", format})
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
	l.noteShared(list)
	// A person may split a terminal's window: the pane in use stands for it.
	return slices.DeleteFunc(list, func(p pane) bool { return !p.shared && !p.active }), nil
}

// parsePane reads a line of list-panes. What is no such line is no terminal of
// ours.
func parsePane(line string) (pane, bool) {
	f := strings.Fields(line)
	if len(f) != 15 {
		return pane{}, false
	}
	command, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[10], "x"))
	if err != nil {
		return pane{}, false
	}
	name, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(f[11], "x"))
	if err != nil || len(name) > maxTerminalName {
		return pane{}, false
	}
	p := pane{server: number(f[0]), session: f[1], id: f[2], shared: len(name) > 0, active: f[3] == "1", state: TerminalState{
		Name: cmp.Or(strings.ToValidUTF8(string(name), ""), plainName(f[1])), PID: number(f[4]), Running: f[5] == "0",
		Command: string(command), Cols: number(f[8]), Rows: number(f[9]), Row: number(f[13]) + number(f[14]),
	}}
	if strings.HasPrefix(p.session, sharedPrefix) && !p.shared || strings.HasPrefix(p.session, viewPrefix) {
		return pane{}, false // one that a person made beside ours, or the same once more
	}
	p.tended(strings.TrimPrefix(f[12], "x"))
	if f[5] == "0" {
		return p, true
	}
	p.state.Running = false
	code, sig := strings.TrimPrefix(f[6], "x"), strings.TrimPrefix(f[7], "x")
	p.silent = code == "" && sig == ""
	p.state.ExitCode = number(code)
	if sig != "" {
		p.state.ExitCode = 128 + number(sig)
	}
	return p, true
}

// tended reads what the program that tends a terminal has to say. The machine's
// root can forge it, and deceives about that terminal alone.
func (p *pane) tended(encoded string) {
	data, err := base64.StdEncoding.DecodeString(encoded)
	var t Tended
	if err != nil || len(data) == 0 || json.Unmarshal(data, &t) != nil {
		return
	}
	t.Last = strings.ToValidUTF8(t.Last[max(0, len(t.Last)-maxTerminalLast):], "")
	p.state.Tended = &t
	p.state.ExitCode = t.ExitCode
	if p.state.Running = t.Status == TendedRunning; p.state.Running {
		p.state.PID = t.PID
	}
}

// noteShared keeps where the terminals are that share a window.
func (l *Line) noteShared(list []pane) {
	shared := map[string]string{}
	for _, p := range list {
		if p.shared {
			shared[p.state.Name] = p.id
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shared = shared
}

func (l *Line) forgetShared() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shared = nil
}

// sharedPane gives tmux's id of a terminal that shares its window, and "" for
// any other name.
func (l *Line) sharedPane(ctx context.Context, name string) (string, error) {
	l.mu.Lock()
	shared := l.shared
	l.mu.Unlock()
	if shared == nil {
		if _, err := l.panes(ctx); err != nil {
			return "", err
		}
		l.mu.Lock()
		shared = l.shared
		l.mu.Unlock()
	}
	return shared[name], nil
}

// find gives what names a terminal to tmux.
func (l *Line) find(ctx context.Context, name string) (string, error) {
	encoded, err := tmuxName(name)
	if err != nil {
		return "", err
	}
	shared, err := l.sharedPane(ctx, name)
	return cmp.Or(shared, target(encoded)), err
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
	at, err := l.find(ctx, name)
	if err != nil {
		return "", err
	}
	start := strconv.Itoa(-lines)
	if lines < 0 {
		start = "-"
	}
	return l.capture(ctx, at, start)
}

// CaptureFrom gives what a terminal shows as text from the line on that was
// TerminalState.Row at some moment, or all that it keeps where that line is gone.
// A name that is not there is fs.ErrNotExist.
func (l *Line) CaptureFrom(ctx context.Context, name string, row int) (string, error) {
	at, err := l.find(ctx, name)
	if err != nil {
		return "", err
	}
	out, err := l.tmux(ctx, []string{"display-message", "-p", "-t", at, "#{history_size} #{cursor_y}"})
	if err != nil {
		return "", err
	}
	f := strings.Fields(out)
	if len(f) != 2 || row > number(f[0])+number(f[1]) {
		return l.capture(ctx, at, "-") // it was cleared meanwhile
	}
	return l.capture(ctx, at, strconv.Itoa(row-number(f[0])))
}

func (l *Line) capture(ctx context.Context, at, start string) (string, error) {
	out, err := l.tmux(ctx, []string{"capture-pane", "-p", "-J", "-t", at, "-S", start})
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
	at, err := l.find(ctx, name)
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
			[]string{"paste-buffer", "-d", "-r", "-b", buffer, "-t", at})
	case text != "":
		steps = append(steps, []string{"send-keys", "-t", at, "-l", "--", text})
	default:
		steps = append(steps, []string{"has-session", "-t", at})
	}
	if enter {
		steps = append(steps, []string{"send-keys", "-t", at, "Enter"})
	}
	c := Command{ID: op, Args: l.tmuxArgs(steps...), Limit: tmuxLimit}
	if len(text) <= maxSent {
		_, err = l.runTmux(ctx, c, maxPrinted)
		return err
	}
	c.Stdin = true
	if err := l.Start(ctx, c); err != nil {
		return tmuxMissing(err)
	}
	if err := l.Feed(ctx, op, strings.NewReader(text)); err != nil {
		return err
	}
	_, err = l.runTmux(ctx, c, maxPrinted)
	return err
}

// CloseTerminal ends a terminal and hangs up on what runs in it. To close again
// is no error.
func (l *Line) CloseTerminal(ctx context.Context, name string) error {
	at, err := l.find(ctx, name)
	if err != nil {
		return err
	}
	// Not the session: those that look have others with the same windows.
	steps := [][]string{{"kill-window", "-a", "-t", at}, {"kill-window", "-t", at}}
	if strings.HasPrefix(at, "%") {
		steps = [][]string{{"kill-pane", "-t", at}}
		l.forgetShared()
	}
	_, err = l.tmux(ctx, steps...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// tmux runs tmux commands in one go and gives what they print.
func (l *Line) tmux(ctx context.Context, steps ...[]string) (string, error) {
	return l.tmuxBounded(ctx, maxPrinted, steps...)
}

// tmuxBounded is tmux for commands that print at most so many bytes. More is
// ErrTooLarge.
func (l *Line) tmuxBounded(ctx context.Context, most int64, steps ...[]string) (string, error) {
	c := Command{ID: "tmux-" + rand.Text(), Args: l.tmuxArgs(steps...), Limit: tmuxLimit, Keep: 2 * most}
	out, err := l.runTmux(ctx, c, most)
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
func (l *Line) runTmux(ctx context.Context, c Command, most int64) (string, error) {
	var stdout, stderr strings.Builder
	exit, err := l.RunBounded(ctx, c, most, func(o Output) {
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
	case strings.Contains(said, "server exited unexpectedly"):
		return "", errTmuxEnded
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
