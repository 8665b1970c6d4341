package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) openCommand() *cobra.Command {
	var show bool
	var in string
	cmd := &cobra.Command{
		Use: "open [AGENT]", Short: "Open the panel in a browser, signed in; or an agent's machine in an editor",
		Long: `Open the server's panel, or an agent's page of it, in this machine's browser. The
address holds a word that lets one browser in, once, within two minutes; where
there is no browser it is printed.

--in opens the agent's machine in an editor on this machine instead, over ssh, at
/workspace. The editor needs its ssh extension, and ssh the entries that "errand
ssh-config --write" keeps; where that was done once, they are brought up to date.`,
		Example: "errand open\nerrand open latest --in vscode",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if in != "" {
				return a.openEditor(cmd.Context(), args, in, show)
			}
			return a.openPanel(cmd.Context(), args, show)
		},
	}
	cmd.Flags().BoolVar(&show, "print", false, "print the address only")
	cmd.Flags().StringVar(&in, "in", "", "open the agent's machine in vscode, cursor or zed")
	return cmd
}

func (a *app) openPanel(ctx context.Context, args []string, show bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	page := ""
	if len(args) > 0 {
		id, err := findAgent(ctx, c, args[0])
		if err != nil {
			return err
		}
		page = "agents/" + string(id)
	}
	code, err := c.SignInCode(ctx)
	if err != nil {
		return err
	}
	code.URL = strings.Replace(code.URL, "#", page+"#", 1)
	if a.json {
		return a.printJSON(code)
	}
	return a.browseTo(ctx, code.URL, "the panel in a browser", show)
}

// browseTo has this machine open an address, or prints it.
func (a *app) browseTo(ctx context.Context, url, what string, show bool) error {
	if !show && isTerminal(a.out) && browse(ctx, a.getenv, url) {
		fmt.Fprintf(a.out, "Opened %s.\n", what)
		return nil
	}
	fmt.Fprintln(a.out, url)
	return nil
}

// editors are the addresses under which editors open a folder of an ssh host.
var editors = map[string]string{
	"vscode": "vscode://vscode-remote/ssh-remote+%s/workspace",
	"cursor": "cursor://vscode-remote/ssh-remote+%s/workspace",
	"zed":    "zed://ssh/%s/workspace",
}

func (a *app) openEditor(ctx context.Context, args []string, editor string, show bool) error {
	form, ok := editors[editor]
	if !ok {
		return usageError("%q is no editor that is known here. Take one of: %s", editor, strings.Join(sortedKeys(editors), ", "))
	}
	if len(args) == 0 {
		return usageError("Which agent's machine? errand open AGENT --in %s", editor)
	}
	c, id, err := a.agentArg(ctx, args)
	if err != nil {
		return err
	}
	if err := a.sshKnows(ctx, c, id); err != nil {
		return err
	}
	url := fmt.Sprintf(form, hostName(id))
	if a.json {
		return a.printJSON(map[string]string{"url": url})
	}
	return a.browseTo(ctx, url, "it in "+editor, show)
}

// sshKnows sees to it that ssh finds the agent's machine. Whoever has never let us
// write their configuration is told how.
func (a *app) sshKnows(ctx context.Context, c *client.Client, id errand.AgentID) error {
	s, err := c.SSH(ctx)
	switch {
	case err != nil:
		return err
	case s.Address == "":
		return sshOff()
	case len(s.Keys) == 0:
		return errand.Errorf(errand.Conflict, "no_ssh_key", "The server has no ssh key of yours, and editors come by ssh. Add one: errand ssh-key add")
	}
	entries, err := sshHome("errand")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(entries)
	if errors.Is(err, fs.ErrNotExist) {
		return errand.Errorf(errand.Conflict, "no_ssh_config", "ssh does not know the agents' machines yet, and editors come by ssh. Tell it: errand ssh-config --write")
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", entries, plainError(err))
	}
	if strings.Contains(string(text), "Host "+hostName(id)+" ") {
		return nil
	}
	return a.keepSSHConfig(ctx, c, s, id)
}

// keepSSHConfig writes the entries of all agents, and of one that may be archived.
func (a *app) keepSSHConfig(ctx context.Context, c *client.Client, s api.SSH, id errand.AgentID) error {
	all, err := agentsFor(ctx, c, nil)
	if err != nil {
		return err
	}
	if !slices.Contains(all, id) {
		all = append(all, id)
	}
	return a.writeSSHConfig(s, c.URL(), all)
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
