package tool

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/errand-dev/errand/guest"
)

const (
	// screenLines is how many lines of a terminal are shown if nothing is said.
	screenLines = 100
	// promptTries and promptPause bound the wait for a new shell to 3 seconds.
	promptTries = 60
	promptPause = 50 * time.Millisecond
)

var terminalName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// typeCommand types a command into the shell of a terminal, which is made if
// there is none of that name or its shell has ended.
func (s *Set) typeCommand(ctx context.Context, c Call, name, command, dir string) (Result, error) {
	fresh := name == ""
	name = cmp.Or(name, nameFor(c.Op, command))
	if !terminalName.MatchString(name) {
		return Result{}, misusef("%q cannot be a terminal's name; use letters, digits, - and _, at most 40.", name)
	}
	open, err := s.openTerminal(ctx, name, dir)
	if err != nil {
		return Result{}, err
	}
	text, enter := command, true
	if interrupts(command) {
		text, enter = "\x03", false
	} else if dir != "" && open {
		text = "cd " + quote(s.dir(dir)) + " && " + command
	}
	if err := s.o.Line.Type(ctx, c.Op, name, text, enter); err != nil {
		return Result{}, err
	}
	if err := pause(ctx, s.o.Settle); err != nil {
		return Result{}, err
	}
	screen, err := s.o.Line.Capture(ctx, name, screenLines)
	if err != nil {
		return Result{}, err
	}
	what := "Typed into"
	if fresh {
		what = "Running in"
	}
	shown, err := s.fit(ctx, c.Op, strings.TrimRight(Plain(screen), "\n "))
	if err != nil {
		return Result{}, err
	}
	return Result{
		Output:     fmt.Sprintf("%s terminal %q. After %s it shows:\n%s", what, name, s.o.Settle, shown),
		Structured: CommandResult{Command: command, Dir: dir, Terminal: name},
	}, nil
}

// openTerminal makes sure that a shell runs in the terminal, and says whether
// there was one already.
func (s *Set) openTerminal(ctx context.Context, name, dir string) (open bool, err error) {
	states, err := s.o.Line.Terminals(ctx)
	if err != nil {
		return false, err
	}
	for _, t := range states {
		if t.Name == name && t.Running {
			return true, nil
		}
		if t.Name == name {
			if err := s.o.Line.CloseTerminal(ctx, name); err != nil {
				return false, err
			}
		}
	}
	if err := s.o.Line.OpenTerminal(ctx, guest.Terminal{Name: name, Dir: s.dir(dir), User: s.o.User, Env: s.o.Env}); err != nil {
		return false, err
	}
	return false, s.awaitPrompt(ctx, name)
}

// awaitPrompt waits until a new shell shows something, but not for long: what
// is typed before that is shown twice.
func (s *Set) awaitPrompt(ctx context.Context, name string) error {
	for range promptTries {
		screen, err := s.o.Line.Capture(ctx, name, 1)
		if err != nil || strings.TrimSpace(screen) != "" {
			return err
		}
		if err := pause(ctx, promptPause); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// interrupts says whether what is to be typed is meant as control-C.
func interrupts(command string) bool {
	switch strings.TrimSpace(command) {
	case "^C", "^c", "C-c", "\x03":
		return true
	}
	return false
}

// nameFor makes a terminal's name of the program that a command runs. The call's
// id makes it its own.
func nameFor(op, command string) string {
	h := fnv.New32a()
	h.Write([]byte(op))
	word := "cmd"
	if f := strings.Fields(command); len(f) > 0 {
		if base := path.Base(f[0]); terminalName.MatchString(base) && len(base) <= 20 {
			word = base
		}
	}
	return fmt.Sprintf("%s-%04x", word, h.Sum32()&0xffff)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (s *Set) readTerminal(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Name  string `json:"name"`
		Lines int    `json:"lines"`
	}
	if err := decodeCall(c, &args); err != nil {
		return Result{}, err
	}
	states, err := s.o.Line.Terminals(ctx)
	if err != nil {
		return Result{}, err
	}
	if args.Name == "" {
		return Result{Output: listTerminals(states)}, nil
	}
	for _, t := range states {
		if t.Name != args.Name {
			continue
		}
		screen, err := s.o.Line.Capture(ctx, t.Name, cmp.Or(args.Lines, screenLines))
		if err != nil {
			return Result{}, err
		}
		text, err := s.fit(ctx, c.Op, strings.TrimRight(Plain(screen), "\n "))
		if err != nil {
			return Result{}, err
		}
		if !t.Running {
			text += fmt.Sprintf("\n[the terminal's program has %s]", howEnded(t))
		}
		return Result{Output: cmp.Or(text, "(The terminal shows nothing.)")}, nil
	}
	return Result{}, misusef("there is no terminal %q. %s", args.Name, listTerminals(states))
}

func listTerminals(states []guest.TerminalState) string {
	if len(states) == 0 {
		return "There are no terminals."
	}
	var b strings.Builder
	b.WriteString("The terminals are:\n")
	for _, t := range states {
		state := "running"
		if !t.Running {
			state = howEnded(t)
		} else if t.Tended != nil && t.Tended.Restarts > 0 {
			state = fmt.Sprintf("running, started again %d times after it crashed (exit status %d)", t.Tended.Restarts, t.ExitCode)
		}
		fmt.Fprintf(&b, "- %s: %s, %s\n", t.Name, cmp.Or(t.Command, "shell"), state)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// howEnded tells how a terminal's program ended, and what comes next.
func howEnded(t guest.TerminalState) string {
	text := fmt.Sprintf("ended, exit status %d", t.ExitCode)
	switch {
	case t.Tended == nil:
	case t.Tended.Status == guest.TendedWaiting:
		text += ", and is started again by itself"
	case t.Tended.Status == guest.TendedStopped:
		text += ", stopped by Ctrl-C"
	}
	return text
}
