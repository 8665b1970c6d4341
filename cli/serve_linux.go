package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

func (a *app) serve(context.Context, ServeOptions) error {
	return errand.Errorf(errand.Internal, "not_built", "not built yet")
}

func (a *app) inspectHost(context.Context) ([]api.Finding, error) { return nil, nil }

func (a *app) keyCommand() *cobra.Command { return &cobra.Command{Use: "key"} }

func (a *app) addHostCommands(*cobra.Command, string) {}
