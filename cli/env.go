package cli

import "github.com/spf13/cobra"

func (a *app) envCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "env", Short: "Environments: how machines become ready for repositories",
	}
	return group(cmd, a.envCheckCommand(), a.envSchemaCommand(), a.envListCommand(), a.envShowCommand(), a.envCreateCommand(), a.envEditCommand(),
		a.envRemoveCommand(), a.envHistoryCommand(), a.envDiffCommand(), a.envRestoreCommand(), a.envWhyCommand())
}
