package cli

import "github.com/spf13/cobra"

func (a *app) envCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "env", Short: "Environments: how machines become ready for repositories", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %q for \"errand env\"", args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.envCheckCommand(), a.envSchemaCommand(), a.envListCommand(), a.envShowCommand(), a.envCreateCommand(), a.envEditCommand(),
		a.envRemoveCommand(), a.envHistoryCommand(), a.envDiffCommand(), a.envRestoreCommand(), a.envWhyCommand())
	return cmd
}
