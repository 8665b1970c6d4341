package cli

import "github.com/spf13/cobra"

// group makes cmd one that only has others: by itself it shows which.
func group(cmd *cobra.Command, parts ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs // else a word that is none of them would be told otherwise
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError("unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return cmd.Help()
	}
	cmd.AddCommand(parts...)
	return cmd
}
