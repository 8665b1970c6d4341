package environment

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/guest"
)

// start runs the start command in a terminal of its own and waits until it
// ends well or has shown that it stays.
func (w *work) start(ctx context.Context) error {
	if w.state.Boot == w.line.Hello().Boot {
		return nil
	}
	w.state.Notes = nil
	if w.env.Start == "" {
		return w.skip(ctx, "there is no start command", errand.PhaseStart)
	}
	return w.phase(ctx, errand.PhaseStart, w.env.Start, func(ctx context.Context) (outcome, error) {
		err := w.line.OpenTerminal(ctx, w.terminal(file.Terminal{Name: file.StartTerminal, Command: w.env.Start}))
		if errors.Is(err, guest.ErrNoTmux) || errors.Is(err, guest.ErrTooLarge) {
			return w.startUnseen(ctx, err)
		}
		if err != nil {
			return outcome{}, fmt.Errorf("opening the terminal of start: %w", err)
		}
		state, err := w.awaitStart(ctx)
		if err != nil {
			return outcome{}, err
		}
		switch {
		case state == nil:
			return outcome{note: "its terminal was closed"}, nil
		case !state.Running && state.ExitCode == 0:
			return outcome{note: "ended well"}, nil
		}
		output, err := w.line.Capture(ctx, file.StartTerminal, 200)
		if err != nil {
			w.log.Debug("reading the terminal of start", "error", err)
		}
		output = w.clean(output) // before it is cut, and before the agent is told
		if state.Running {
			return w.stays("It goes on in the terminal "+file.StartTerminal+".", output), nil
		}
		return w.startFailed(state.ExitCode, output), nil
	})
}

// awaitStart waits until the start terminal's command has ended or the limit
// is over, counted from the phase's recorded beginning. It gives nil for a
// terminal that is gone.
func (w *work) awaitStart(ctx context.Context) (*guest.TerminalState, error) {
	limit := time.NewTimer(w.startLeft())
	defer limit.Stop()
	for wait := 20 * time.Millisecond; ; wait = min(wait*3/2, 500*time.Millisecond) {
		states, err := w.line.Terminals(ctx)
		if err != nil {
			return nil, fmt.Errorf("looking at the terminal of start: %w", err)
		}
		at := slices.IndexFunc(states, func(s guest.TerminalState) bool { return s.Name == file.StartTerminal })
		if at < 0 {
			return nil, nil
		}
		if !states[at].Running {
			return &states[at], nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return &states[at], nil
		case <-time.After(wait): // tmux tells of no ends
		}
	}
}

func (w *work) startLeft() time.Duration {
	return max(0, w.StartLimit-time.Since(w.progress.phases[errand.PhaseStart].started))
}

// startUnseen runs the start command where no terminal can, which why says.
func (w *work) startUnseen(ctx context.Context, why error) (outcome, error) {
	known, err := latest(ctx, w.line, "start")
	if err != nil {
		return outcome{}, err
	}
	if known == nil {
		known = &guest.Process{ID: newID("start")}
		if err := w.line.Start(ctx, guest.Command{
			ID: known.ID, Args: Shell(w.env.Start), Dir: Root, User: w.env.User, Env: w.Env,
		}); err != nil {
			return outcome{}, fmt.Errorf("running start: %w", err)
		}
	}
	t := &transcript{phase: errand.PhaseStart, redactor: w.Redactor}
	waiting, cancel := context.WithTimeout(ctx, w.startLeft())
	defer cancel()
	exit, err := w.line.Rejoin(waiting, known.ID, 0, t.take)
	switch {
	case err != nil && waiting.Err() != nil && ctx.Err() == nil:
		return w.stays("It goes on without a terminal: "+why.Error(), t.lastWords()), nil
	case err != nil:
		return outcome{}, err
	case exit.Code == 0:
		return outcome{note: "ended well, without a terminal: " + why.Error()}, nil
	}
	return w.startFailed(exit.Code, t.lastWords()), nil
}

// stays is the outcome of a start that has not ended. It may be meant so: a
// server. It may also hang, and what should follow it does not come.
func (w *work) stays(how, output string) outcome {
	text := fmt.Sprintf("The start command has not ended after %s: %s. %s", w.StartLimit, firstLine(w.env.Start), how)
	w.state.Notes = append(w.state.Notes, withOutput(text, output))
	return outcome{
		note:  fmt.Sprintf("still running after %s", w.StartLimit),
		facts: []errand.Fact{warning(withOutput(text, output))},
	}
}

// startFailed is the outcome of a start that failed. The run goes on: an agent
// that is told can often do without, or mend it.
func (w *work) startFailed(code int, output string) outcome {
	text := withOutput(fmt.Sprintf("The start command ended with exit code %d: %s.", code, firstLine(w.env.Start)), output)
	w.state.Notes = append(w.state.Notes, text)
	return outcome{note: fmt.Sprintf("ended with exit code %d; the run goes on", code), facts: []errand.Fact{warning(text)}}
}

// withOutput puts the end of what a command printed, without secrets, behind a
// sentence about it.
func withOutput(text, output string) string {
	const most = 4 << 10
	output = strings.TrimSpace(output)
	output = strings.ToValidUTF8(output[max(0, len(output)-most):], "")
	if output == "" {
		return text
	}
	return text + " Its output ends with:\n" + output
}

// terminals opens the environment's terminals, those of one window together.
func (w *work) terminals(ctx context.Context) error {
	if w.state.Boot == w.line.Hello().Boot {
		return nil
	}
	if len(w.env.Terminals) == 0 {
		return w.skip(ctx, "there are no terminals", errand.PhaseTerminals)
	}
	return w.phase(ctx, errand.PhaseTerminals, "", func(ctx context.Context) (outcome, error) {
		var o outcome
		var names []string
		for _, window := range windows(w.env.Terminals) {
			opened, err := w.openWindow(ctx, window)
			names = append(names, opened...)
			var refused *guest.Error
			switch e := new(errand.Error); {
			case err == nil:
				continue
			case errors.As(err, &refused) || errors.As(err, &e):
				note := w.clean(fmt.Sprintf("The terminal %s could not be opened: %v", window[len(opened)].Name, err))
				w.state.Notes = append(w.state.Notes, note)
				o.facts = append(o.facts, warning(note))
			default:
				return o, fmt.Errorf("opening the terminal %s: %w", window[len(opened)].Name, err)
			}
			if errors.Is(err, guest.ErrNoTmux) {
				break
			}
		}
		o.note = strings.Join(names, ", ")
		return o, nil
	})
}

// windows groups terminals by the window that they share.
func windows(all []file.Terminal) [][]file.Terminal {
	var groups [][]file.Terminal
	for i, t := range all {
		if i == 0 || t.Window != all[i-1].Window {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], t)
	}
	return groups
}

// openWindow opens terminals as panes of one window, or, where they do not fit
// or cannot all be opened, each for itself. It gives the names of those that
// are open, up to the first that is not.
func (w *work) openWindow(ctx context.Context, window []file.Terminal) ([]string, error) {
	var panes []guest.Terminal
	var names []string
	for _, t := range window {
		pane := w.terminal(t)
		pane.Tend = true
		panes, names = append(panes, pane), append(names, t.Name)
	}
	err := w.line.OpenWindow(ctx, panes...)
	var refused *guest.Error
	if err == nil {
		return names, nil
	} else if len(panes) == 1 || !errors.As(err, &refused) {
		return nil, err
	}
	for i, pane := range panes {
		if err := w.line.OpenTerminal(ctx, pane); err != nil {
			return names[:i], err
		}
	}
	return names, nil
}

// terminal gives a terminal as the guest opens it.
func (w *work) terminal(t file.Terminal) guest.Terminal {
	return guest.Terminal{Name: t.Name, Command: t.Command, Dir: Root, User: w.env.User, Env: w.Env}
}
