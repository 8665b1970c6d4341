package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) execCommand() *cobra.Command {
	var start api.ExecStart
	var tty, noStdin bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "exec AGENT -- COMMAND [ARG...]",
		Short: "Run a command in an agent's machine",
		Long: `Run a command in an agent's machine, waking it where it sleeps, and exit with the
command's own code. On a terminal the command has a terminal too (--tty=false: it
has none). Ctrl-C ends the command. Flags come before the agent.`,
		Example: "errand exec latest -- go test ./...\nerrand exec -C web -e CI=1 latest -- npm test",
		Args:    usage(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			start.Args, start.LimitMs = args[1:], limit.Milliseconds()
			if start.Args[0] == "--" {
				start.Args = start.Args[1:]
			}
			if flag := args[1]; flag != "--" && strings.HasPrefix(flag, "-") {
				return usageError("Flags such as %s come before the agent: errand exec %s … %s -- COMMAND", flag, flag, args[0])
			}
			if len(start.Args) == 0 {
				return usageError("Which command? The form is: %s", cmd.UseLine())
			}
			if !cmd.Flags().Changed("tty") {
				tty = isTerminal(a.in) && isTerminal(a.out)
			}
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			streams := client.ExecIO{Stdin: a.in, Stdout: a.out, Stderr: a.err}
			if noStdin {
				streams.Stdin = nil
			}
			return a.onTerminal(cmd.Context(), tty, &start, streams, func(ctx context.Context, streams client.ExecIO) (api.ExecExit, error) {
				return c.Exec(ctx, id, start, streams)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&tty, "tty", "t", false, "give the command a terminal (default: if this is one)")
	f.BoolVarP(&noStdin, "no-stdin", "n", false, "give the command no input")
	f.StringVarP(&start.Dir, "dir", "C", "", "where to run it (default: the repository)")
	f.StringVarP(&start.User, "user", "u", "", "as whom (default: the environment's user)")
	f.StringArrayVarP(&start.Env, "env", "e", nil, "a variable for the command, NAME=VALUE; may be repeated")
	f.DurationVar(&limit, "limit", 0, "end it after this time")
	f.SetInterspersed(false)
	return cmd
}

func (a *app) attachCommand() *cobra.Command {
	var start api.ExecStart
	cmd := &cobra.Command{
		Use:   "attach AGENT [TERMINAL]",
		Short: "Walk into a terminal of an agent's machine",
		Long: `Walk into a terminal of an agent's machine: one that its environment or the agent
opened, or a new one with a shell where none has the name; without a name, a list
of them. The terminal goes on when you leave it with Ctrl-B D. "errand terminal"
opens, prints and ends them.`,
		Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				terminals, err := c.Terminals(cmd.Context(), id)
				if err != nil {
					return err
				}
				return a.listTerminals(terminals.Items)
			}
			if !isTerminal(a.in) || !isTerminal(a.out) {
				return usageError("attach needs a terminal. To read what one shows: errand terminal show %s %s", args[0], args[1])
			}
			streams := client.ExecIO{Stdin: a.in, Stdout: a.out, Stderr: a.err}
			return a.onTerminal(cmd.Context(), true, &start, streams, func(ctx context.Context, streams client.ExecIO) (api.ExecExit, error) {
				return c.Attach(ctx, id, args[1], start, streams)
			})
		},
	}
	cmd.Flags().BoolVar(&start.ReadOnly, "read-only", false, "look, do not type")
	return cmd
}

func (a *app) listTerminals(terminals []api.Terminal) error {
	if a.json {
		if terminals == nil {
			terminals = []api.Terminal{}
		}
		return a.printJSON(terminals)
	}
	if len(terminals) == 0 {
		fmt.Fprintln(a.err, "No terminals are open in the agent's machine. A new one: errand attach AGENT NAME")
		return nil
	}
	return table(a.out, terminalRows(terminals, time.Now()))
}

func terminalRows(terminals []api.Terminal, now time.Time) [][]string {
	rows := [][]string{{"TERMINAL", "STATE", "COMMAND"}}
	for _, t := range terminals {
		rows = append(rows, []string{printable(t.Name), terminalState(t, now), dash(t.Command)})
	}
	return rows
}

// terminalState is how a terminal's command fares, in a few words.
func terminalState(t api.Terminal, now time.Time) string {
	state := "running"
	if !t.Running {
		state = fmt.Sprintf("exited with %d", t.ExitCode)
	}
	h := t.Health
	if h == nil {
		return state
	}
	switch {
	case h.Status == "waiting" && h.Next != nil:
		state += ", again in " + duration(max(0, h.Next.Sub(now)).Round(time.Second))
	case h.Status == "stopped":
		state += ", stopped by Ctrl-C"
	case t.Running && h.Restarts > 0:
		state += fmt.Sprintf(", started again %s, before that exited with %d", ago(h.Since, now), t.ExitCode)
	}
	if h.Restarts > 0 {
		state += ", " + plural(h.Restarts, "restart")
	}
	return state
}

// What a shell ends with, and exec likewise, when a command was ended by its time
// limit, and when it is not there.
const (
	exitTimedOut   = 124
	exitNotStarted = 127
)

// onTerminal runs do, with the terminal in raw mode where tty says so, and makes
// the command's exit this process'.
func (a *app) onTerminal(ctx context.Context, tty bool, start *api.ExecStart, streams client.ExecIO, do func(context.Context, client.ExecIO) (api.ExecExit, error)) error {
	if tty {
		size := terminalSize(a.out)
		start.TTY = &size
		if isTerminal(a.in) {
			before, err := term.MakeRaw(int(a.in.Fd()))
			if err != nil {
				return fmt.Errorf("taking over the terminal: %w", err)
			}
			defer term.Restore(int(a.in.Fd()), before)
		}
		sizes, stop := watchSize(a.out)
		defer stop()
		streams.Resize = sizes
	}
	if streams.Stdin == io.Reader(a.in) && !tty && isNull(a.in) {
		streams.Stdin = nil
	}
	exit, err := do(ctx, streams)
	if e := (*errand.Error)(nil); errors.As(err, &e) && e.Code == "not_started" {
		return &exitError{code: exitNotStarted, err: err}
	}
	if err != nil {
		return err
	}
	return execVerdict(exit)
}

// isNull says whether f is the null device: no input is as good and cheaper.
func isNull(f *os.File) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(mine, null)
}

func terminalSize(f *os.File) api.Size {
	cols, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || cols <= 0 || rows <= 0 {
		return api.Size{Cols: 80, Rows: 24}
	}
	return api.Size{Cols: uint16(min(cols, 1000)), Rows: uint16(min(rows, 1000))}
}

// execVerdict passes a command's end on as a shell would.
func execVerdict(exit api.ExecExit) error {
	switch {
	case exit.Unknown:
		return fmt.Errorf("the machine was restarted while the command ran; nobody knows whether it finished")
	case exit.TimedOut:
		return &exitError{code: exitTimedOut, err: fmt.Errorf("the command reached its time limit and was ended")}
	case exit.Code != 0:
		return &exitError{code: exit.Code}
	}
	return nil
}
