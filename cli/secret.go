package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "secret", Short: "Keep secrets and say which machines are given them",
		Long: `Keep secrets and say which machines are given them. A secret belongs to you (user),
to everybody (team), to a repository or to a stored environment; of several with
one name the narrower one is taken: environment, repository, user, team. Values
are never shown again.`,
	}
	return group(cmd, a.secretSetCommand(), a.secretListCommand(), a.secretRemoveCommand(), a.secretUsesCommand(),
		a.secretKeyCommand(), a.secretRotateCommand(), a.secretRewrapCommand())
}

// ownerFlags say whose secret is meant.
type ownerFlags struct{ scope, environment, repo string }

func (f *ownerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.scope, "scope", "", "whose it is: user, team, repo or environment (default: user, or what --environment or --repo says)")
	cmd.Flags().StringVar(&f.environment, "environment", "", "the environment's id")
	cmd.Flags().StringVar(&f.repo, "repo", "", "the repository's URL")
}

// owner reads the flags.
func (f *ownerFlags) owner() (client.SecretOwner, error) {
	o := client.SecretOwner{Environment: f.environment, Repository: f.repo}
	scope := f.scope
	switch {
	case scope != "":
	case f.environment != "" && f.repo != "":
		return o, usageError("--environment and --repo: a secret has one owner; say which with --scope")
	case f.environment != "":
		scope = "environment"
	case f.repo != "":
		scope = "repo"
	}
	switch scope {
	case "", "user":
		o.Scope = errand.ScopeUser
	case "team":
		o.Scope = errand.ScopeTeam
	case "repo", "repository":
		o.Scope = errand.ScopeRepository
		if f.repo == "" {
			return o, usageError("--scope repo needs --repo: which repository's secret is it?")
		}
	case "environment":
		o.Scope = errand.ScopeEnvironment
		if f.environment == "" {
			return o, usageError("--scope environment needs --environment: which environment's secret is it?")
		}
	default:
		return o, usageError("--scope %s: it must be user, team, repo or environment", scope)
	}
	return o, nil
}

var kindNames = map[string]errand.SecretKind{
	"runtime": errand.SecretRuntime, "runtime_secret": errand.SecretRuntime,
	"variable": errand.SecretVariable, "environment_variable": errand.SecretVariable,
	"build": errand.SecretBuild, "build_secret": errand.SecretBuild,
}

// elsewhere is err, or says who has a secret of that name where nobody was named
// and the caller has none.
func (f *ownerFlags) elsewhere(ctx context.Context, c *client.Client, name string, err error) error {
	if *f != (ownerFlags{}) || errand.KindOf(err) != errand.NotFound {
		return err
	}
	var ways []string
	for s, err := range c.Secrets(ctx, client.SecretQuery{}) {
		switch {
		case err != nil:
			return err
		case !strings.EqualFold(s.Name, name):
		case s.EnvironmentID != "":
			ways = append(ways, "--environment "+s.EnvironmentID)
		case s.Repository != "":
			ways = append(ways, "--repo "+s.Repository)
		default:
			ways = append(ways, "--scope "+s.Scope)
		}
	}
	if len(ways) == 0 {
		return err
	}
	return errand.Errorf(errand.NotFound, "secret_not_found", "You have no secret %q of your own. Say which one you mean: %s.", name, strings.Join(ways, ", "))
}

func (a *app) secretSetCommand() *cobra.Command {
	var f ownerFlags
	var kind string
	var only []string
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Set a secret; its value is asked for, or read from standard input", Args: usage(cobra.ExactArgs(1)),
		Long: `Set a secret, new or in place of the one of that name. The value comes from standard
input, or is asked for without echo; it is never an argument, which others could
read. One line break at its end is left out.

  printf %s "$TOKEN" | errand secret set NPM_TOKEN --scope team
  errand secret set DEPLOY_KEY --repo https://github.com/you/app < key.pem`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.owner()
			if err != nil {
				return err
			}
			k, ok := kindNames[kind]
			if !ok {
				return usageError("--kind %s: it must be runtime, variable or build", kind)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			value, err := a.secretValue(args[0])
			if err != nil {
				return err
			}
			kept, err := c.PutSecret(cmd.Context(), o, args[0], api.PutSecret{Value: value, Type: string(k), Repos: only})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(kept)
			}
			if isTerminal(a.err) {
				fmt.Fprintf(a.err, "%s is set (%s, %s). Agents that start from now on have it.\n", kept.Name, ownerOf(kept), kept.Type)
			}
			if k != errand.SecretVariable && len(strings.Join(strings.Fields(value), "")) < 6 {
				fmt.Fprintf(a.err, "%s is so short that it is not redacted: a value of less than six characters would be found everywhere.\n", kept.Name)
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&kind, "kind", "runtime", "runtime (redacted everywhere), variable (not redacted) or build (for Dockerfiles only)")
	cmd.Flags().StringArrayVar(&only, "only", nil, "restrict it to this repository's URL (may be repeated)")
	return cmd
}

// secretValue asks for a value, or reads it from a pipe.
func (a *app) secretValue(name string) (string, error) {
	if !isTerminal(a.in) {
		b, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
		if err != nil {
			return "", fmt.Errorf("reading the value: %w", err)
		}
		return string(bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))), nil
	}
	fmt.Fprintf(a.err, "Value of %s (it is not shown): ", name)
	b, err := term.ReadPassword(int(a.in.Fd()))
	fmt.Fprintln(a.err)
	if err != nil {
		return "", fmt.Errorf("reading the value: %w", err)
	}
	return string(b), nil
}

// ownerOf names a secret's owner in a word or two.
func ownerOf(s api.Secret) string {
	return strings.TrimSpace(s.Scope + " " + cmp.Or(s.EnvironmentID, s.Repository))
}

func (a *app) secretListCommand() *cobra.Command {
	var f ownerFlags
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List secrets, without their values", Args: usage(cobra.NoArgs),
		Long: "List the secrets that you see: yours, the team's, and those of repositories and\nenvironments. --repo alone shows what holds for a repository.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := client.SecretQuery{Environment: f.environment, Repository: f.repo}
			switch f.scope {
			case "":
			case "repo":
				q.Scope = errand.ScopeRepository
			default:
				q.Scope = errand.Scope(f.scope)
			}
			if f.environment != "" && f.scope == "" {
				q.Scope = errand.ScopeEnvironment
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			all := []api.Secret{}
			for s, err := range c.Secrets(cmd.Context(), q) {
				if err != nil {
					return err
				}
				all = append(all, s)
			}
			if a.json {
				return a.printJSON(all)
			}
			if len(all) == 0 {
				if isTerminal(a.err) {
					fmt.Fprintln(a.err, "No secrets. Set one: errand secret set NAME")
				}
				return nil
			}
			rows, now := [][]string{{"NAME", "KIND", "OWNER", "ONLY", "CHANGED", "ID"}}, time.Now()
			for _, s := range all {
				rows = append(rows, []string{s.Name, s.Type, printable(ownerOf(s)), dash(printable(strings.Join(s.Repos, " "))), ago(s.UpdatedAt, now), s.ID})
			}
			return table(a.out, rows)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) secretRemoveCommand() *cobra.Command {
	var f ownerFlags
	cmd := &cobra.Command{
		Use: "rm NAME", Short: "Remove a secret; machines that have it keep it, and it stays hidden there", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.owner()
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.changed(args[0], "removed", f.elsewhere(cmd.Context(), c, args[0], c.DeleteSecret(cmd.Context(), o, args[0])))
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) secretUsesCommand() *cobra.Command {
	var f ownerFlags
	var limit int
	cmd := &cobra.Command{
		Use: "uses NAME", Short: "Say what a secret was given to, newest first", Args: usage(cobra.ExactArgs(1)),
		Long: "Say which agents' machines and which builds were given a secret, newest first. NAME\nmay be an id (secv_…), also of a secret that is gone.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			id := args[0]
			if !strings.HasPrefix(id, "secv_") {
				o, err := f.owner()
				if err != nil {
					return err
				}
				s, err := c.Secret(cmd.Context(), o, id)
				if err != nil {
					return f.elsewhere(cmd.Context(), c, id, err)
				}
				id = s.ID
			}
			uses, err := allUses(cmd.Context(), c, id, limit)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(uses)
			}
			rows, now := [][]string{{"USED", "AGENT", "RUN", "BUILD", "REVISION"}}, time.Now()
			for _, u := range uses {
				rows = append(rows, []string{ago(u.UsedAt, now), dash(u.AgentID), dash(u.RunID), dash(u.BuildID), fmt.Sprint(u.Revision)})
			}
			return table(a.out, rows)
		},
	}
	f.add(cmd)
	cmd.Flags().IntVarP(&limit, "limit", "n", 50, "how many")
	return cmd
}

func allUses(ctx context.Context, c *client.Client, id string, limit int) ([]api.SecretUse, error) {
	uses, cursor := []api.SecretUse{}, ""
	for len(uses) < limit {
		page, err := c.SecretUses(ctx, id, min(limit-len(uses), 100), cursor)
		if err != nil {
			return nil, err
		}
		uses = append(uses, page.Items...)
		if page.NextCursor == nil {
			break
		}
		cursor = *page.NextCursor
	}
	return uses, nil
}

func (a *app) secretKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "key", Short: "Say which key-encryption key seals the secrets", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			state, err := c.SecretKey(cmd.Context())
			if err != nil {
				return err
			}
			return a.tellSecretKey(state)
		},
	}
}

func (a *app) tellSecretKey(k api.SecretKey) error {
	if a.json {
		return a.printJSON(k)
	}
	s := styleFor(a.out, a.getenv)
	fmt.Fprintf(a.out, "%s seals the secrets", s.bold(printable(k.Key)))
	if k.Version != "" {
		fmt.Fprintf(a.out, ", version %s", printable(k.Version))
	}
	fmt.Fprintln(a.out)
	if k.Error != "" {
		fmt.Fprintf(a.out, "%s %s\n", s.red("✗"), printable(k.Error))
	}
	for _, u := range k.Under {
		fmt.Fprintf(a.out, "  %s under %s\n", plural(u.Secrets, "value"), printable(strings.TrimSpace(u.Key+" "+u.Version)))
	}
	if k.Old > 0 {
		fmt.Fprintf(a.out, "  %s with variables from before there were data keys; errand secret rewrap renews them\n", plural(k.Old, "agent"))
	}
	return nil
}

func (a *app) secretRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "Make a new version of the local key", Args: usage(cobra.NoArgs),
		Long: "Make a new version of the key in the server's key file, under which everything is\nsealed from now on. The earlier ones stay in the file for reading; errand secret\nrewrap brings what they seal under the new one. Keep a backup of the new file.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			state, err := c.RotateSecretKey(cmd.Context())
			if err != nil {
				return err
			}
			return a.tellSecretKey(state)
		},
	}
}

func (a *app) secretRewrapCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rewrap", Short: "Bring everything that is sealed under the current key", Args: usage(cobra.NoArgs),
		Long: "Wrap all data keys anew under the current key: after a rotation, or when the server\nwas started with another --kek. Values stay sealed as they are. It can be stopped\nat any point and run again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			total, before := 0, time.Time{}
			for {
				out, err := c.RewrapSecrets(cmd.Context(), before)
				if err != nil {
					return err
				}
				if before = out.Before; out.Done == 0 {
					break
				}
				if total += out.Done; isTerminal(a.err) {
					fmt.Fprintf(a.err, "\r%s wrapped", plural(total, "value"))
				}
			}
			if isTerminal(a.err) {
				fmt.Fprintln(a.err)
			}
			if a.json {
				return a.printJSON(map[string]int{"wrapped": total})
			}
			fmt.Fprintf(a.out, "%s wrapped under the current key\n", plural(total, "value"))
			return nil
		},
	}
}
