//go:build !linux

package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func onlyLinux() error {
	return errand.Errorf(errand.Unavailable, "needs_linux",
		"This runs on Linux only. Run the server there and point ERRAND_URL and ERRAND_API_KEY at it: every other command works here.")
}

func (a *app) serve(context.Context, ServeOptions) error { return onlyLinux() }

func (a *app) inspectHost(context.Context) ([]api.Finding, error) { return nil, onlyLinux() }

func (a *app) keyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "Make and revoke API keys (on the server's machine)",
		DisableFlagParsing: true,
		RunE:               func(*cobra.Command, []string) error { return onlyLinux() },
	}
}

func (a *app) addHostCommands(*cobra.Command, string) {}
