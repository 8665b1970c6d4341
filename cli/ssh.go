package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) sshKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "ssh-key", Short: "Your ssh keys: by them you walk into agents' machines",
	}
	return group(cmd, a.sshKeyAddCommand(), a.sshKeyListCommand(), a.sshKeyRemoveCommand())
}

// ssh asks the server how machines are reached by ssh.
func (a *app) ssh(ctx context.Context) (*client.Client, api.SSH, error) {
	c, err := a.connect()
	if err != nil {
		return nil, api.SSH{}, err
	}
	s, err := c.SSH(ctx)
	return c, s, err
}

func (a *app) sshKeyAddCommand() *cobra.Command {
	var authority bool
	var principals []string
	cmd := &cobra.Command{
		Use: "add [FILE]", Short: "Add a public key (default: that of this machine's ssh)", Args: usage(cobra.MaximumNArgs(1)),
		Long: "Add a public key: the file named, \"-\" for standard input, or else the first of\n~/.ssh/id_ed25519.pub, id_ecdsa.pub and id_rsa.pub.\n\n--authority adds a key that signs certificates (ssh-keygen -s): who has one that is\nfor you, or for a --principal, is let in as you while it is valid.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			text, err := publicKey(args, cmd.InOrStdin())
			if err != nil {
				return err
			}
			if authority {
				text = authorityLine(text, principals)
			} else if len(principals) > 0 {
				return usageError("--principal is of --authority")
			}
			k, err := c.AddSSHKey(cmd.Context(), text)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(k)
			}
			fmt.Fprintln(a.out, k.Fingerprint)
			return nil
		},
	}
	cmd.Flags().BoolVar(&authority, "authority", false, "it signs certificates, which let in who has one")
	cmd.Flags().StringArrayVar(&principals, "principal", nil, "whom its certificates may be for; may be repeated (default: your name and address)")
	return cmd
}

// authorityLine puts the options of authorized_keys before a key.
func authorityLine(key string, principals []string) string {
	options := "cert-authority"
	if len(principals) > 0 {
		options += `,principals="` + strings.Join(principals, ",") + `"`
	}
	return options + " " + strings.TrimSpace(key)
}

// publicKey reads the key that the arguments mean.
func publicKey(args []string, stdin io.Reader) (string, error) {
	if len(args) == 1 && args[0] == "-" {
		data, err := io.ReadAll(io.LimitReader(stdin, 64<<10))
		return string(data), err
	}
	files := args
	if len(files) == 0 {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding your ssh key: %w", err)
		}
		for _, name := range []string{"id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"} {
			files = append(files, filepath.Join(home, ".ssh", name))
		}
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			return string(data), nil
		}
		if len(args) > 0 || !errors.Is(err, fs.ErrNotExist) {
			return "", errand.Errorf(errand.NotFound, "not_found", "%s cannot be read: %w.", file, plainError(err))
		}
	}
	return "", errand.Errorf(errand.NotFound, "not_found", "There is no ssh key in ~/.ssh. Make one with ssh-keygen -t ed25519, or name its .pub file.")
}

func (a *app) sshKeyListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List your ssh keys", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, s, err := a.ssh(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s.Keys)
			}
			rows := [][]string{{"KEY", "FINGERPRINT", "COMMENT", "SIGNS FOR", "USED"}}
			for _, k := range s.Keys {
				used := "never"
				if !k.UsedAt.IsZero() {
					used = ago(k.UsedAt, time.Now())
				}
				rows = append(rows, []string{k.ID, k.Fingerprint, dash(printable(k.Comment)), dash(printable(strings.Join(k.Principals, ", "))), used})
			}
			return table(a.out, rows)
		},
	}
}

func (a *app) sshKeyRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm KEY", Short: "Remove one of your ssh keys, by its id or fingerprint", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.changed(args[0], "removed", c.RemoveSSHKey(cmd.Context(), args[0]))
		},
	}
}

func (a *app) sshConfigCommand() *cobra.Command {
	var write bool
	cmd := &cobra.Command{
		Use: "ssh-config [AGENT...]", Short: "Tell ssh, and editors that use it, about agents' machines",
		Long: `Print entries for ssh's configuration, of the agents named or of all that are not
archived. Then "ssh errand-1a2b3c4d" lands in that agent's machine, and so do scp,
rsync, git, VS Code, JetBrains Gateway and Zed.

--write keeps them in ~/.ssh/errand, with the server's key, and has ~/.ssh/config
include that.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, s, err := a.ssh(cmd.Context())
			if err != nil {
				return err
			}
			if s.Address == "" {
				return sshOff()
			}
			agents, err := agentsFor(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			if !write {
				known, err := sshHome("errand.known_hosts")
				if err != nil {
					return err
				}
				fmt.Fprint(a.out, sshConfig(s, c.URL(), known, agents))
				return nil
			}
			if err := a.writeSSHConfig(s, c.URL(), agents); err != nil {
				return err
			}
			for _, id := range agents {
				fmt.Fprintln(a.out, hostName(id))
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&write, "write", "w", false, "keep them where ssh looks")
	return cmd
}

// agentsFor gives the agents named, or all that are not archived.
func agentsFor(ctx context.Context, c *client.Client, names []string) ([]errand.AgentID, error) {
	var all []errand.AgentID
	for _, name := range names {
		id, err := findAgent(ctx, c, name)
		if err != nil {
			return nil, err
		}
		all = append(all, id)
	}
	if len(names) > 0 {
		return all, nil
	}
	for agent, err := range c.AllAgents(ctx, client.AgentQuery{}) {
		if err != nil {
			return nil, err
		}
		all = append(all, errand.AgentID(agent.ID))
	}
	return all, nil
}

// sshHome gives a file in the person's own ssh directory.
func sshHome(name string) (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding ~/.ssh: %w", err)
	}
	return filepath.Join(home, ".ssh", name), nil
}

// hostAlias is the name under which the server's key is known: its address may
// change, and other servers may have had it.
func hostAlias(s api.SSH) string { return "errand." + s.Address }

// hostName is what ssh calls an agent's machine.
func hostName(id errand.AgentID) string {
	return fmt.Sprintf("errand-%.8s", strings.TrimPrefix(string(id), "bc-"))
}

// sshOff is the error for a server that takes none.
func sshOff() error {
	return errand.Errorf(errand.Unavailable, "no_ssh", "The server takes no ssh. Start it without --ssh off.")
}

// sshConfig gives the entries.
func sshConfig(s api.SSH, url, known string, agents []errand.AgentID) string {
	host, port, _ := net.SplitHostPort(s.Address)
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Agents of %s, written by errand ssh-config\n", url)
	for _, id := range agents {
		fmt.Fprintf(&b, "Host %s %s\n\tHostName %s\n\tPort %s\n\tUser %s\n\tHostKeyAlias %s\n\tUserKnownHostsFile %q\n\tStrictHostKeyChecking yes\n\tForwardAgent no\n",
			hostName(id), id, host, port, id, hostAlias(s), known)
	}
	return b.String()
}

// includeLine has ssh read our entries; it must come before the first Host.
const includeLine = "Include errand"

// writeSSHConfig keeps the entries and the server's key in ~/.ssh.
func (a *app) writeSSHConfig(s api.SSH, url string, agents []errand.AgentID) error {
	entries, err := sshHome("errand")
	known := entries + ".known_hosts"
	main := filepath.Join(filepath.Dir(entries), "config")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(entries), 0o700); err != nil {
		return fmt.Errorf("writing ~/.ssh: %w", err)
	}
	before, err := os.ReadFile(main)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading %s: %w", main, plainError(err))
	}
	files := []struct{ path, text string }{
		{known, hostAlias(s) + " " + s.HostKey + "\n"},
		{entries, sshConfig(s, url, known, agents)},
	}
	if !strings.Contains("\n"+string(before), "\n"+includeLine+"\n") {
		files = append(files, struct{ path, text string }{main, includeLine + "\n" + string(before)})
	}
	for _, f := range files {
		if at, err := filepath.EvalSymlinks(f.path); err == nil {
			f.path = at // people keep their configuration elsewhere
		}
		err := os.WriteFile(f.path+".new", []byte(f.text), 0o600)
		if err == nil {
			err = os.Rename(f.path+".new", f.path)
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", f.path, plainError(err))
		}
	}
	return nil
}
