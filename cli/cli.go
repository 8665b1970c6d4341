// Package cli is the errand command: a face for people and scripts.
//
// Data goes to stdout and everything else to stderr; what is long shows its
// progress when a person looks and is quiet when piped; --json gives the API's
// own forms. Errors are sentences that say what to do next, and exit codes tell
// a script what happened (ExitCode). The commands that look at or steer agents
// speak to a server through package client and build wherever Go runs; those
// that are a server run on Linux only.
//
// The package decides nothing: what a command means is the server's.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"charm.land/fang/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/client"
)

// What the process exits with.
const (
	ExitOK           = 0   // done; a followed run finished
	ExitFailed       = 1   // anything else went wrong, or a followed run did not finish
	ExitUsage        = 2   // the command line is wrong
	ExitNotFound     = 3   // no such agent, run or key
	ExitUnauthorized = 4   // no key, or one that may not do this
	ExitUnreachable  = 5   // no answer from the server
	ExitConflict     = 6   // the agent is busy, or otherwise in a state that forbids this
	ExitInterrupted  = 130 // Ctrl-C
)

// Options are for Main.
type Options struct {
	Version string   // of the program
	Args    []string // the command line without the program's name
	Wiring  Wiring   // what a server is made of
}

// Main runs a command line on the process' own streams and gives the exit code.
// It returns early when ctx ends or the process is interrupted.
func Main(ctx context.Context, o Options) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, version: o.Version, wiring: o.Wiring}
	root := a.root()
	root.SetArgs(o.Args)
	err := execute(ctx, root, o)
	code := a.exitCode(ctx, err)
	if err != nil {
		a.complain(err, code)
	}
	return code
}

// execute runs the command. Only help goes through fang, which makes it
// readable: for an error's colours it would ask the terminal for its background,
// wait seconds for an answer and eat what is typed meanwhile.
func execute(ctx context.Context, root *cobra.Command, o Options) error {
	if wantsHelp(o.Args) {
		return fang.Execute(ctx, root, fang.WithVersion(o.Version),
			fang.WithErrorHandler(func(io.Writer, fang.Styles, error) {})) // complain does it
	}
	root.Version, root.SilenceErrors, root.SilenceUsage = o.Version, true, true
	return root.ExecuteContext(ctx)
}

func wantsHelp(args []string) bool {
	if len(args) == 0 || args[0] == "help" || args[0] == "man" {
		return true
	}
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "-h", "--help":
			return true
		}
	}
	return false
}

// app is one run of the command.
type app struct {
	in, out, err *os.File
	getenv       func(string) string
	version      string
	wiring       Wiring

	json    bool   // --json
	url     string // --url
	started bool   // the command line was understood and its command began
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "errand",
		Short: "Coding agents in the background, on machines you own",
		Long: `Hand over a prompt and a repository: an agent works in an isolated Linux machine
and leaves a branch.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not authorized,
5 server not reachable, 6 busy or in conflict, 130 interrupted. "errand exec"
passes the command's own code on.

Environment: ERRAND_URL and ERRAND_API_KEY say which server to speak to; without
them the one of the data directory is found (ERRAND_DATA, else /var/lib/errand
for root, else ~/.local/share/errand).`,
		PersistentPreRun: func(*cobra.Command, []string) { a.started = true },
	}
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print data as JSON")
	flags.StringVar(&a.url, "url", "", "the server's URL (ERRAND_URL)")
	work := &cobra.Group{ID: "work", Title: "Working with agents"}
	host := &cobra.Group{ID: "host", Title: "Running a server"}
	root.AddGroup(work, host)
	add(root, work.ID, a.runCommand(), a.listCommand(), a.showCommand(), a.logsCommand(), a.sendCommand(), a.cancelCommand(),
		a.diffCommand(), a.execCommand(), a.attachCommand(), a.terminalCommand(), a.takeoverCommand(), a.handbackCommand(), a.pullCommand(), a.pushCommand(), a.filesCommand(), a.copyCommand(), a.artifactsCommand(),
		a.portsCommand(), a.portCommand(), a.ideCommand(), a.archiveCommand(), a.unarchiveCommand(), a.removeCommand(), a.modelsCommand(), a.usageCommand(), a.openCommand(),
		a.sshKeyCommand(), a.sshConfigCommand(), a.setupCommand(), a.envCommand(), a.buildCommand(), a.snapshotCommand())
	add(root, host.ID, a.serveCommand(), a.keyCommand(), a.secretCommand(), a.doctorCommand(), a.scriptedCommand())
	add(root, "", a.versionCommand(), a.bridgeCommand())
	a.addHostCommands(root, host.ID)
	a.completeNames(root)
	return root
}

func add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{"version": a.version})
			}
			fmt.Fprintln(a.out, a.version)
			return nil
		},
	}
}

// exitError ends the process with a code. Err, if set, is told first.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is a command line that cannot be meant.
func usageError(format string, args ...any) error {
	return &exitError{code: ExitUsage, err: fmt.Errorf(format, args...)}
}

func (a *app) exitCode(ctx context.Context, err error) int {
	var exit *exitError
	var unreachable *client.UnreachableError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.code
	case !a.started:
		return ExitUsage
	case ctx.Err() != nil:
		return ExitInterrupted
	case errors.As(err, &unreachable):
		return ExitUnreachable
	}
	switch errand.KindOf(err) {
	case errand.NotFound, errand.Gone:
		return ExitNotFound
	case errand.Unauthorized, errand.Forbidden:
		return ExitUnauthorized
	case errand.Conflict:
		return ExitConflict
	}
	return ExitFailed
}

// complain tells a person what went wrong.
func (a *app) complain(err error, code int) {
	var exit *exitError
	if errors.As(err, &exit) && exit.err == nil {
		return
	}
	s := styleFor(a.err, a.getenv)
	if code == ExitInterrupted {
		fmt.Fprintln(a.err, "errand: interrupted")
		return
	}
	fmt.Fprintf(a.err, "%s %s\n", s.red("errand:"), err)
	if e := (*errand.Error)(nil); errors.As(err, &e) {
		writeOutput(a.err, s, e)
	}
	if code == ExitUsage {
		fmt.Fprintln(a.err, `See "errand --help", or "errand COMMAND --help".`)
	}
}

// writeOutput shows what a failing command printed, and its exit code.
func writeOutput(w io.Writer, s style, e *errand.Error) {
	for line := range strings.Lines(strings.TrimRight(e.Output, "\n")) {
		fmt.Fprintf(w, "  %s %s\n", s.dim("│"), strings.TrimRight(printable(line), "\n"))
	}
	if e.ExitCode != nil {
		fmt.Fprintf(w, "  %s\n", s.dim(fmt.Sprintf("exit code %d", *e.ExitCode)))
	}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
