package guest

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"unicode"

	"github.com/errand-dev/errand/guest/wire"
)

// maxStatus bounds what terminals show of ours, in characters.
const maxStatus = 200

// SetStatus has every terminal of the machine, those that are opened later on this
// line too, show text in a last line of its own; "" takes that line away.
func (l *Line) SetStatus(ctx context.Context, text string) error {
	l.PlanStatus(text)
	return l.keepStatus(ctx, func(status string) error {
		_, err := l.tmux(ctx, statusSteps(status)...)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there is no terminal yet
		}
		return err
	})
}

// keepStatus tells tmux what to show, and again where that is something else by
// then: whoever tells it last must not be the one who knew it first.
func (l *Line) keepStatus(ctx context.Context, tell func(status string) error) error {
	for status := l.Status(); ; {
		if err := tell(status); err != nil {
			return err
		}
		now := l.Status()
		if now == status {
			return nil
		}
		status = now
		tell = func(status string) error {
			_, err := l.tmux(ctx, statusSteps(status)...)
			return err
		}
	}
}

// PlanStatus is SetStatus for the terminals that are opened later alone. It does
// not block.
func (l *Line) PlanStatus(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = oneLine(text, maxStatus)
}

// Status gives what terminals show in a last line of their own, as far as this line
// was told.
func (l *Line) Status() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

// statusSteps tell tmux what to show. The text goes in as an option, which tmux
// takes as it is: in a format it would look for commands to run.
func statusSteps(text string) [][]string {
	if text == "" {
		return [][]string{{"set-option", "-g", "status", "off"}}
	}
	return [][]string{
		{"set-option", "-g", wire.StatusOption, text},
		{"set-option", "-g", "status-left", " #{" + wire.StatusOption + "} "},
		{"set-option", "-g", "status-left-length", "250"},
		{"set-option", "-g", "status-right", ""},
		{"set-option", "-g", "window-status-format", ""},
		{"set-option", "-g", "window-status-current-format", ""},
		{"set-option", "-g", "status-style", "bg=yellow,fg=black"},
		{"set-option", "-g", "status", "on"},
	}
}

// Announce shows a line for some seconds to everybody who looks at a terminal of
// the machine now.
func (l *Line) Announce(ctx context.Context, text string) error {
	out, err := l.tmux(ctx, []string{"list-clients", "-F", "#{client_name}"})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	steps := [][]string{{"set-option", "-g", wire.SaidOption, oneLine(text, maxStatus)}}
	for name := range strings.FieldsSeq(out) {
		steps = append(steps, []string{"display-message", "-c", name, "-d", "8000", "#{" + wire.SaidOption + "}"})
	}
	if len(steps) == 1 {
		return nil
	}
	_, err = l.tmux(ctx, steps...)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // they have just left
	}
	return err
}

// oneLine makes of text a line that can be shown as it is, of most characters.
func oneLine(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, ""))
	if r := []rune(text); len(r) > most {
		text = string(r[:most-1]) + "…"
	}
	return strings.TrimSpace(text)
}
