package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

// environmentArg connects and finds the environment that a person named: by its
// id, the beginning of one, or its name.
func (a *app) environmentArg(ctx context.Context, name string) (*client.Client, errand.EnvironmentID, error) {
	c, err := a.connect()
	if err != nil {
		return nil, "", err
	}
	id, err := findEnvironment(ctx, c, name)
	if err != nil {
		return nil, "", err
	}
	return c, id, nil
}

func findEnvironment(ctx context.Context, c *client.Client, name string) (errand.EnvironmentID, error) {
	if id, err := errand.ParseEnvironmentID(name); err == nil {
		return id, nil
	}
	var found []api.EnvironmentSummary
	for e, err := range c.AllEnvironments(ctx) {
		if err != nil {
			return "", err
		}
		if e.Name == name || len(name) >= 4 && strings.HasPrefix(e.ID, strings.ToLower(name)) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return "", errand.Errorf(errand.NotFound, "environment_not_found", "There is no environment %q. `errand env ls` shows which there are.", name)
	case 1:
		return errand.EnvironmentID(found[0].ID), nil
	}
	return "", usageError("%q means more than one environment (%s and %s). Give its id", name, found[0].ID, found[1].ID)
}

func (a *app) envListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List environments, newest first", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			all, err := gather(c.AllEnvironments(cmd.Context()), 0)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			rows := [][]string{{"ENVIRONMENT", "OWNER", "ACTIVE BUILD", "USED", "NAME", "REPOSITORY"}}
			now := time.Now()
			for _, e := range all {
				repo := "-"
				if len(e.Repos) > 0 {
					repo = clip(e.Repos[0].URL, 60)
				}
				rows = append(rows, []string{shortID(e.ID), string(e.Owner), cmp.Or(shortID(e.ActiveBuildID), "-"), ago(e.UsedAt, now), clip(e.Name, 40), repo})
			}
			if len(all) == 0 {
				return nil
			}
			return table(a.out, rows)
		},
	}
}

func (a *app) envShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ENVIRONMENT", Short: "Show an environment and its latest builds", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, id, err := a.environmentArg(ctx, args[0])
			if err != nil {
				return err
			}
			e, err := c.Environment(ctx, id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			builds, err := c.Builds(ctx, id, 5, "")
			if err != nil {
				return err
			}
			return a.showEnvironment(e, builds.Items)
		},
	}
}

func (a *app) showEnvironment(e api.Environment, builds []api.Build) error {
	st := styleFor(a.out, a.getenv)
	fmt.Fprintln(a.out, st.bold(clip(e.Name, 100)))
	rows := [][]string{{"environment", e.ID}, {"owner", string(e.Owner)}}
	for _, r := range e.Repos {
		rows = append(rows, []string{"repository", clip(r.URL, 120)})
	}
	if e.RepoFile != nil {
		rows = append(rows, []string{"stands in", clip(e.RepoFile.Path, 120)})
	}
	rows = append(rows, []string{"version", e.VersionID}, []string{"active", cmp.Or(e.ActiveBuildID, "none")}, []string{"changed", e.UpdatedAt.Local().Format(time.DateTime)})
	if err := table(a.out, rows); err != nil {
		return err
	}
	if text := strings.TrimRight(printable(e.EnvironmentJSON), "\n"); text != "" {
		fmt.Fprintf(a.out, "\n%s\n", text)
	}
	if len(builds) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	return a.buildTable(builds)
}

func (a *app) envCreateCommand() *cobra.Command {
	var req api.CreateEnvironment
	var repos []string
	var path string
	var personal bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Store an environment and build it", Args: usage(cobra.ExactArgs(1)),
		Long: `Store an environment on the server and queue its first build. Its text is that of
an environment file: --file names one, "-" is standard input.`,
		Example: `errand env create web --repo https://github.com/you/app --file .cursor/environment.json`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			req.Name = args[0]
			if path == "" {
				return usageError("say what to store: --file .cursor/environment.json, or --file - for standard input. A repository's own file holds without being stored, and `errand setup` finds one that works")
			}
			if req.EnvironmentJSON, err = a.environmentText(path); err != nil {
				return err
			}
			for _, repo := range repos {
				req.Repos = append(req.Repos, api.RepoURL{URL: localPath(repo)})
			}
			if req.Owner = errand.OwnerTeam; personal {
				req.Owner = errand.OwnerPersonal
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			e, err := c.CreateEnvironment(cmd.Context(), req)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(e)
			}
			fmt.Fprintln(a.out, e.ID)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&repos, "repo", "r", nil, "a repository that it is for: a URL, or a path on the server's machine; may be repeated")
	f.StringVarP(&path, "file", "f", "", `the environment file; "-" is standard input`)
	f.BoolVar(&personal, "personal", false, "for yourself alone, rather than for all who have a key")
	f.StringVar(&req.Title, "title", "", "what to say of it in the history")
	return cmd
}

// environmentText reads an environment file; "" is none.
func (a *app) environmentText(path string) (string, error) {
	switch path {
	case "":
		return "", nil
	case "-":
		text, err := io.ReadAll(io.LimitReader(a.in, 1<<20))
		return string(text), err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usageError("--file: %w", err)
	}
	return string(text), nil
}

func (a *app) envEditCommand() *cobra.Command {
	var path, name, title string
	cmd := &cobra.Command{
		Use: "edit ENVIRONMENT", Short: "Change a stored environment", Args: usage(cobra.ExactArgs(1)),
		Long: "Change a stored environment's text (--file) or name (--name). A new text is a new version, and is built.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req := api.EditEnvironment{Title: title}
			if path == "" && name == "" {
				return usageError("What is to change? Give --file, --name or both")
			}
			if path != "" {
				text, err := a.environmentText(path)
				if err != nil {
					return err
				}
				req.EnvironmentJSON = &text
			}
			if name != "" {
				req.Name = &name
			}
			c, id, err := a.environmentArg(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.changed(string(id), "changed", c.EditEnvironment(cmd.Context(), id, req))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&path, "file", "f", "", `the environment file; "-" is standard input`)
	f.StringVar(&name, "name", "", "the new name")
	f.StringVar(&title, "title", "", "what to say of it in the history")
	return cmd
}

func (a *app) envRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm ENVIRONMENT...", Aliases: []string{"delete"}, Short: "Remove environments; restore brings them back", Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				c, id, err := a.environmentArg(cmd.Context(), name)
				if err != nil {
					return err
				}
				if err := a.changed(string(id), "removed", c.DeleteEnvironment(cmd.Context(), id)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (a *app) envHistoryCommand() *cobra.Command {
	return &cobra.Command{
		Use: "history ENVIRONMENT", Short: "List an environment's versions, newest first", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.environmentArg(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			history, err := c.EnvironmentHistory(cmd.Context(), id, 100, "")
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(history.Items)
			}
			rows := [][]string{{"VERSION", "WHEN", "KIND", "SOURCE", "BY", "TITLE"}}
			for _, v := range history.Items {
				title := clip(v.Title, 60)
				if v.Current {
					title += " (current)"
				}
				rows = append(rows, []string{v.ID, ago(v.CreatedAt, time.Now()), string(v.Kind), string(v.Source), dash(v.By), title})
			}
			return table(a.out, rows)
		},
	}
}

// versionOf gives the version that a person named, or the current one for "".
func versionOf(ctx context.Context, c *client.Client, id errand.EnvironmentID, name string) (errand.VersionID, error) {
	if name != "" {
		return errand.ParseVersionID(name)
	}
	v, err := findVersion(ctx, c, id, func(v api.EnvironmentVersion) bool { return v.Current })
	return errand.VersionID(v.ID), err
}

func (a *app) envDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff ENVIRONMENT [VERSION [AGAINST]]", Short: "Show what a version of an environment changed", Args: usage(cobra.RangeArgs(1, 3)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, id, err := a.environmentArg(ctx, args[0])
			if err != nil {
				return err
			}
			args = append(args, "", "")
			version, err := versionOf(ctx, c, id, args[1])
			if err != nil {
				return err
			}
			var against errand.VersionID
			if args[2] != "" {
				if against, err = errand.ParseVersionID(args[2]); err != nil {
					return err
				}
			}
			d, err := c.EnvironmentDiff(ctx, id, version, against)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			if d.Patch != "" {
				a.colourDiff(d.Patch)
			}
			return nil
		},
	}
}

func (a *app) envRestoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore ENVIRONMENT [VERSION]", Short: "Make an earlier version the current one again", Args: usage(cobra.RangeArgs(1, 2)),
		Long: `Make an earlier version of an environment the current one again, and build it. A
removed environment is named by its id; without a version, what was there last
comes back.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, id, err := a.environmentArg(ctx, args[0])
			if err != nil {
				return err
			}
			version, err := versionOf(ctx, c, id, append(args, "")[1])
			if err != nil {
				return err
			}
			_, err = c.RestoreEnvironment(ctx, id, version)
			return a.changed(string(id), "restored", err)
		},
	}
}

func (a *app) envWhyCommand() *cobra.Command {
	var run string
	cmd := &cobra.Command{
		Use: "why [AGENT]", Short: "Show how an agent's machine became ready, and why it took as long", Args: usage(cobra.MaximumNArgs(1)),
		Long: `Show how an agent's machine became ready: the environment and the build it stands
on, each phase with its time, whether it was saved and if not why, and what a
phase that failed printed.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			b, err := c.Boot(cmd.Context(), id, errand.RunID(run))
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(b)
			}
			return a.showBoot(b)
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "for this run rather than the latest")
	return cmd
}

func (a *app) showBoot(b api.Boot) error {
	st := styleFor(a.out, a.getenv)
	var rows [][]string
	for _, row := range [][]string{
		{"run", b.RunID}, {"environment", strings.TrimSpace(clip(b.Environment, 60) + " " + b.EnvironmentID)}, {"because", clip(b.Why, 120)},
		{"build", b.BuildID}, {"snapshot", b.SnapshotID}, {"image", b.Image}, {"machine", b.MachineID},
	} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	for _, c := range b.Commits {
		rows = append(rows, []string{"commit", clip(c.Commit, 13) + " of " + clip(c.URL, 100)})
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	rows = [][]string{{"PHASE", "TIME", "SAVED", "WHY"}}
	for _, p := range b.Phases {
		saved := "no"
		switch {
		case p.Error != nil:
			saved = "failed"
		case !p.Ended:
			saved = "under way"
		case p.Cached:
			saved = "yes"
		}
		rows = append(rows, []string{string(p.Phase), milliseconds(p.DurationMs), saved, clip(p.Note, 120)})
	}
	if err := table(a.out, append(rows, []string{"in all", milliseconds(b.DurationMs), "", ""})); err != nil {
		return err
	}
	for _, p := range b.Phases {
		if p.Error != nil {
			fmt.Fprintf(a.out, "\n%s %s\n", st.red(string(p.Phase)+":"), printable(p.Error.Message))
			writeOutput(a.out, st, &errand.Error{Output: p.Error.Output, ExitCode: p.Error.ExitCode})
		}
	}
	for _, text := range b.Notices {
		fmt.Fprintf(a.out, "\n%s\n", st.yellow(printable(text)))
	}
	return nil
}
