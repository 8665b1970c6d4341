package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/auth"
	"github.com/errand-dev/errand/store"
)

func (a *app) keyCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "key", Short: "Make and revoke API keys (on the server's machine)",
		Long: "Make, list and revoke API keys. These commands work on the data directory itself,\nalso while its server runs.",
	}
	cmd.PersistentFlags().StringVar(&data, "data", "", "the data directory (ERRAND_DATA)")
	return group(cmd, a.keyCreateCommand(&data), a.keyListCommand(&data), a.keyRevokeCommand(&data))
}

// withKeys opens the keys of the data directory for f.
func (a *app) withKeys(ctx context.Context, data string, f func(*auth.Keys) error) (err error) {
	path := filepath.Join(cmp.Or(data, a.dataDir()), "errand.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return errand.Errorf(errand.NotFound, "no_data", "There is no server's data in %s. Start one with errand serve, or name its directory with --data.", filepath.Dir(path))
	}
	s, err := store.Open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return f(auth.Open(s))
}

func (a *app) keyCreateCommand(data *string) *cobra.Command {
	var n auth.New
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a key and print it, this once", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.Name = args[0]
			return a.withKeys(cmd.Context(), *data, func(keys *auth.Keys) error {
				token, key, err := keys.Create(cmd.Context(), n)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(struct {
						store.Key
						Token string `json:"token"`
					}{key, token})
				}
				fmt.Fprintln(a.out, token)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&n.Person, "person", "", "whose key it is; signs commits, with --email")
	cmd.Flags().StringVar(&n.Email, "email", "", "that person's email address")
	return cmd
}

func (a *app) keyListCommand(data *string) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List keys", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKeys(cmd.Context(), *data, func(keys *auth.Keys) error {
				all, err := keys.List(cmd.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(append([]store.Key{}, all...))
				}
				return table(a.out, keyRows(all, time.Now()))
			})
		},
	}
}

func keyRows(all []store.Key, now time.Time) [][]string {
	rows := [][]string{{"KEY", "NAME", "PERSON", "USED", "STATE"}}
	for _, k := range all {
		used, state := "never", "holds"
		if !k.UsedAt.IsZero() {
			used = ago(k.UsedAt, now)
		}
		if !k.RevokedAt.IsZero() {
			state = "revoked " + ago(k.RevokedAt, now)
		}
		rows = append(rows, []string{k.ID, k.Name, dash(k.Person), used, state})
	}
	return rows
}

func (a *app) keyRevokeCommand(data *string) *cobra.Command {
	return &cobra.Command{
		Use: "revoke KEY", Short: "End a key, by its id or name", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withKeys(cmd.Context(), *data, func(keys *auth.Keys) error {
				return a.changed(args[0], "revoked", keys.Revoke(cmd.Context(), args[0]))
			})
		},
	}
}
