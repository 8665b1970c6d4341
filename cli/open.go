package cli

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) openCommand() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use: "open", Short: "Open the panel in a browser, signed in",
		Long: "Open the server's panel in this machine's browser. The address holds a word that\nlets one browser in, once, within two minutes; where there is no browser it is\nprinted.",
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			code, err := c.SignInCode(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(code)
			}
			if !show && isTerminal(a.out) && browse(cmd.Context(), a.getenv, code.URL) {
				fmt.Fprintln(a.out, "Opened the panel in a browser.")
				return nil
			}
			fmt.Fprintln(a.out, code.URL)
			return nil
		},
	}
	cmd.Flags().BoolVar(&show, "print", false, "print the address only")
	return cmd
}

// browse has this machine's browser open a URL, and says whether there is one.
func browse(ctx context.Context, getenv func(string) string, url string) bool {
	var args []string
	switch {
	case runtime.GOOS == "darwin":
		args = []string{"open", url}
	case runtime.GOOS == "windows":
		args = []string{"rundll32", "url.dll,FileProtocolHandler", url}
	case getenv("DISPLAY") != "" || getenv("WAYLAND_DISPLAY") != "":
		args = []string{"xdg-open", url}
	default:
		return false
	}
	return exec.CommandContext(ctx, args[0], args[1:]...).Run() == nil
}
