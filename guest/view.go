package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"

	"github.com/errand-dev/errand/guest/wire"
)

// viewPrefix begins the names of the tmux sessions of those who look at a bare
// terminal. It is not what tmuxName makes of any.
const viewPrefix = "_view-"

// Viewing says how one looks at a terminal. Its zero value is tmux's own way.
type Viewing struct {
	ReadOnly bool // types nothing, and does not decide on the size beside others who do
	// Bare shows the terminal without what tmux adds: every key goes to the
	// terminal's program, tmux's prefix too, and the mouse only if that asks for
	// it. Where terminals share a window the mouse chooses among them.
	Bare bool
}

// AttachCommand gives the argv with which Run on a TTY, as root, shows a
// terminal, with those that share its window. A name that is not there gives a
// command that fails.
func (l *Line) AttachCommand(ctx context.Context, name string, how Viewing) ([]string, error) {
	at, err := l.find(ctx, name)
	if err != nil {
		return nil, err
	}
	shared := strings.HasPrefix(at, "%")
	var steps [][]string
	if shared && !how.ReadOnly {
		steps = append(steps, []string{"select-pane", "-t", at})
	}
	attach := []string{"attach-session", "-t", at}
	if how.ReadOnly {
		attach = append(attach, "-r")
	}
	if !how.Bare {
		return l.viewArgs(append(steps, attach)), nil
	}
	// A session of one's own on the same windows has options of its own. Without
	// has-session one would be made of a name that is not there.
	view := viewPrefix + rand.Text()
	own := target(view)
	steps = append(steps, []string{"has-session", "-t", at}, []string{"new-session", "-d", "-t", at, "-s", view},
		[]string{"set-option", "-t", own, "prefix", "None"}, []string{"set-option", "-t", own, "prefix2", "None"})
	if !shared {
		steps = append(steps, []string{"set-option", "-t", own, "mouse", "off"})
	}
	attach[2] = own
	return l.viewArgs(append(steps, attach, []string{"set-option", "-t", own, "destroy-unattached", "on"})), nil
}

// viewArgs is tmuxArgs for a tmux that runs already, whatever its settings.
func (l *Line) viewArgs(steps [][]string) []string {
	argv := []string{"tmux", "-u", "-S", l.Hello().Tmux}
	for i, step := range steps {
		if i > 0 {
			argv = append(argv, ";")
		}
		argv = append(argv, step...)
	}
	return argv
}

// History is what a terminal has shown, as it looks now.
type History struct {
	// Text are its lines with their colours as escape sequences, each one line
	// however wide it was shown, the screen last.
	Text string
	// Alternate says that a program has the whole screen, as an editor does: then
	// Text is that screen alone.
	Alternate bool
}

// maxHistory bounds a History, in bytes.
const maxHistory = 8 << 20

// History gives a terminal's screen and at most lines lines before it, fewer where
// those are very long. A name that is not there is fs.ErrNotExist.
func (l *Line) History(ctx context.Context, name string, lines int) (History, error) {
	at, err := l.find(ctx, name)
	if err != nil {
		return History{}, err
	}
	for {
		out, err := l.tmuxBounded(ctx, maxHistory,
			[]string{"display-message", "-p", "-t", at, "#{alternate_on}"},
			[]string{"capture-pane", "-p", "-e", "-J", "-t", at, "-S", strconv.Itoa(-lines)})
		if errors.Is(err, ErrTooLarge) && lines > 0 {
			lines /= 4
			continue
		}
		if err != nil {
			return History{}, err
		}
		alternate, text, ok := strings.Cut(out, "\n")
		if !ok {
			return History{}, terminalError(wire.CodeFailed, "tmux said nothing of terminal %q", name)
		}
		return History{Text: strings.TrimRight(text, "\n"), Alternate: alternate == "1"}, nil
	}
}
