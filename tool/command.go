package tool

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/errand-dev/errand/guest"
)

// CommandResult is a command's end, for screens.
type CommandResult struct {
	Command    string `json:"command"`
	Dir        string `json:"dir,omitempty"`
	Terminal   string `json:"terminal,omitempty"` // where it was typed; ExitCode then says nothing
	ExitCode   int    `json:"exitCode"`
	Signal     string `json:"signal,omitempty"`
	TimedOut   bool   `json:"timedOut,omitempty"`
	DurationMs int64  `json:"durationMs"`
	// Coloured is the output with its colours (ECMA-48 SGR), shortened as the
	// model's; "" where there are none.
	Coloured string `json:"coloured,omitempty"`
}

// maxSpill bounds the output of one command that is looked at, in bytes. Of
// more the first and the last half are kept.
const maxSpill = 8 << 20

// quiet keeps programs from asking, paging and drawing.
var quiet = [...]string{
	"PAGER=cat", "GIT_PAGER=cat", "GIT_TERMINAL_PROMPT=0", "GIT_EDITOR=true",
	"DEBIAN_FRONTEND=noninteractive", "TERM=dumb", "NO_COLOR=1",
}

func (s *Set) runCommand(ctx context.Context, c Call) (Result, error) {
	var args struct {
		Command    string `json:"command"`
		Dir        string `json:"dir"`
		Timeout    int    `json:"timeout_seconds"`
		Background bool   `json:"background"`
		Terminal   string `json:"terminal"`
	}
	if err := decodeCall(c, &args, "command"); err != nil {
		return Result{}, err
	}
	if strings.TrimSpace(args.Command) == "" {
		return Result{}, misusef("the command is empty.")
	}
	if args.Background || args.Terminal != "" {
		return s.typeCommand(ctx, c, args.Terminal, args.Command, args.Dir)
	}
	limit := s.o.Limit
	if args.Timeout > 0 {
		limit = min(time.Duration(args.Timeout)*time.Second, s.o.MaxLimit)
	}
	shell, err := s.findShell(ctx)
	if err != nil {
		return Result{}, err
	}
	out := &collector{bound: maxSpill, progress: c.Progress}
	exit, err := s.o.Line.Run(ctx, guest.Command{
		ID:    c.Op,
		Args:  []string{shell, "-c", args.Command},
		Dir:   s.dir(args.Dir),
		Env:   append(quiet[:len(quiet):len(quiet)], s.o.Env...),
		User:  s.o.User,
		Limit: limit,
		Keep:  maxSpill,
	}, out.add)
	if err != nil {
		return Result{}, err
	}
	text, err := s.fit(ctx, c.Op, out.text(exit.Dropped))
	if err != nil {
		return Result{}, err
	}
	took := exit.Ended.Sub(exit.Started)
	return Result{
		Output: text + verdict(exit, text, took),
		Structured: CommandResult{
			Command: args.Command, Dir: args.Dir, ExitCode: exit.Code, Signal: exit.Signal,
			TimedOut: exit.TimedOut, DurationMs: took.Milliseconds(), Coloured: s.coloured(out, exit.Dropped),
		},
	}, nil
}

// verdict is the last line of a command's output: how it ended.
func verdict(exit guest.Exit, text string, took time.Duration) string {
	var b strings.Builder
	if text != "" && !strings.HasSuffix(text, "\n") {
		b.WriteByte('\n')
	}
	seconds := fmt.Sprintf("%.1f s", took.Seconds())
	switch {
	case exit.TimedOut:
		fmt.Fprintf(&b, "[stopped after %s because it reached its time limit. If it needs longer, raise timeout_seconds; if it does not end by itself, run it with background.]", seconds)
	case exit.Unknown:
		fmt.Fprintf(&b, "[ended after %s; how is unknown]", seconds)
	case exit.Signal != "":
		fmt.Fprintf(&b, "[killed by SIG%s after %s]", exit.Signal, seconds)
	case text == "":
		fmt.Fprintf(&b, "[exit status %d after %s, no output]", exit.Code, seconds)
	default:
		fmt.Fprintf(&b, "[exit status %d after %s]", exit.Code, seconds)
	}
	return b.String()
}

// dir gives a directory as the model writes it in absolute form.
func (s *Set) dir(d string) string {
	if path.IsAbs(d) {
		return path.Clean(d)
	}
	return path.Join(s.o.Root, d)
}

// findShell gives bash where the machine has one.
func (s *Set) findShell(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shell != "" {
		return s.shell, nil
	}
	for _, p := range []string{"usr/bin/bash", "bin/bash", "usr/local/bin/bash"} {
		_, err := s.o.Line.Stat(ctx, "/", p)
		if err == nil {
			s.shell = "bash"
			return s.shell, nil
		}
		if !isRefusal(err) {
			return "", err
		}
	}
	s.shell = "sh"
	return s.shell, nil
}

// collector keeps a command's output, the first and the last half of bound.
type collector struct {
	bound    int
	progress func(string)
	head     []byte
	tail     []byte
	cut      int64
}

func (c *collector) add(o guest.Output) {
	if c.progress != nil {
		c.progress(string(o.Data))
	}
	data := o.Data
	if room := c.bound/2 - len(c.head); room > 0 {
		n := min(room, len(data))
		c.head = append(c.head, data[:n]...)
		data = data[n:]
	}
	c.tail = append(c.tail, data...)
	// Cut only now and then, so that a piece is not copied for each one added.
	if len(c.tail) > c.bound {
		c.trim()
	}
}

func (c *collector) trim() {
	if over := len(c.tail) - c.bound/2; over > 0 {
		c.cut += int64(over)
		c.tail = append(c.tail[:0], c.tail[over:]...)
	}
}

// text gives what is kept as plain text. dropped is how much the machine itself
// did not keep.
func (c *collector) text(dropped int64) string {
	c.trim()
	if lost := c.cut + dropped; lost > 0 {
		gap := fmt.Sprintf("\n[… %d bytes were too much to keep; write such output to a file]\n", lost)
		return Plain(string(c.head)) + gap + Plain(string(c.tail))
	}
	return Plain(string(c.head) + string(c.tail))
}

// coloured gives what is kept with its colours, for screens, "" where there are
// none. Where something is missing in the middle, screens show the plain text.
func (s *Set) coloured(c *collector, dropped int64) string {
	if c.cut+dropped > 0 {
		return ""
	}
	whole := s.o.Redactor.String(coloured(string(c.head) + string(c.tail))) // before it is cut
	short, _ := cutMiddle(whole, s.o.OutputBound, func(cut int) string {
		return fmt.Sprintf("\x1b[m[… %d bytes …]", cut)
	})
	return short
}
