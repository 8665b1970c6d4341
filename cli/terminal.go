package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand/tool"
)

func (a *app) terminalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "terminal", Aliases: []string{"terminals"}, Short: "Terminals of an agent's machine, shared with the agent",
		Long: `Terminals of an agent's machine: those of its environment, the agent's, and any
number of new ones. "errand attach AGENT TERMINAL" walks into one.`,
	}
	return group(cmd, a.terminalListCommand(), a.terminalNewCommand(), a.terminalShowCommand(), a.terminalRemoveCommand())
}

func (a *app) terminalListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls AGENT", Aliases: []string{"list"}, Short: "List them, and how their commands fare", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			terminals, err := c.Terminals(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.listTerminals(terminals.Items)
		},
	}
}

func (a *app) terminalNewCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new AGENT [NAME]", Short: "Open a new one: a shell of the environment's user; prints its name", Args: usage(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			t, err := c.OpenTerminal(cmd.Context(), id, strings.Join(args[1:], ""))
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(t)
			}
			fmt.Fprintln(a.out, printable(t.Name))
			return nil
		},
	}
}

func (a *app) terminalShowCommand() *cobra.Command {
	var lines int
	cmd := &cobra.Command{
		Use: "show AGENT NAME", Short: "Print what one shows, with what has left its screen", Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			h, err := c.TerminalHistory(cmd.Context(), id, args[1], lines)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(h)
			}
			fmt.Fprintln(a.out, printable(tool.Plain(h.Text)))
			return nil
		},
	}
	cmd.Flags().IntVar(&lines, "lines", 1000, "how many lines before the screen, at most 50000")
	return cmd
}

func (a *app) terminalRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm AGENT NAME", Aliases: []string{"end"}, Short: "End one, and what runs in it", Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			return a.changed(args[1], "ended", c.CloseTerminal(cmd.Context(), id, args[1]))
		},
	}
}
