package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) buildShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ENVIRONMENT [BUILD]", Short: "Show one build, who asked for it, and what an agent proposes with it", Args: usage(cobra.RangeArgs(1, 2)),
		Long: "Show a build: the latest, or the one named by its id or as \"active\".",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, environment, id, err := a.buildArg(ctx, args)
			if err != nil {
				return err
			}
			b, err := c.Build(ctx, environment, id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(b)
			}
			if err := a.showBuild(b); err != nil || b.Trigger != errand.TriggerAgent {
				return err
			}
			return a.showProposal(ctx, c, b)
		},
	}
}

func (a *app) showBuild(b api.Build) error {
	rows := [][]string{{"build", b.ID}, {"environment", b.EnvironmentID}, {"version", b.VersionID}, {"state", string(b.State) + marked(b)}, {"why", strings.ToLower(string(b.Trigger))}}
	for _, row := range [][]string{{"by", clip(b.By, 60)}, {"agent", b.AgentID}, {"run", b.RunID}, {"ref", clip(b.Ref, 120)}, {"snapshot", b.SnapshotID}} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	for _, commit := range b.Commits {
		rows = append(rows, []string{"commit", clip(commit.Commit, 13) + " of " + clip(commit.URL, 100)})
	}
	rows = append(rows, []string{"asked", b.CreatedAt.Local().Format(time.DateTime)})
	if b.StartedAt != nil && b.CompletedAt != nil {
		rows = append(rows, []string{"took", duration(b.CompletedAt.Sub(*b.StartedAt))})
	}
	if err := table(a.out, rows); err != nil {
		return err
	}
	if f := b.Failure; f != nil {
		st := styleFor(a.out, a.getenv)
		fmt.Fprintf(a.out, "\n%s\n", st.red(printable(f.Message)))
		writeOutput(a.out, st, &errand.Error{Output: f.Output, ExitCode: f.ExitCode})
	}
	return nil
}

// marked says what else there is to say of a build's state.
func marked(b api.Build) string {
	text := ""
	if b.Active {
		text += ", active"
	}
	if b.Draft {
		text += ", draft"
	}
	return text
}

// showProposal shows what an agent said of the build that it asked for, and how
// its text differs from the environment's.
func (a *app) showProposal(ctx context.Context, c *client.Client, b api.Build) error {
	environment := errand.EnvironmentID(b.EnvironmentID)
	v, err := findVersion(ctx, c, environment, func(v api.EnvironmentVersion) bool { return v.ID == b.VersionID })
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "\n%s\n", strings.TrimRight(printable(v.Description), "\n"))
	d, err := c.EnvironmentDiff(ctx, environment, errand.VersionID(v.ID), "")
	if err != nil {
		return err
	}
	if d.Patch != "" {
		fmt.Fprintln(a.out)
		a.colourDiff(d.Patch)
	}
	return nil
}

// findVersion gives the newest version of an environment that fits.
func findVersion(ctx context.Context, c *client.Client, id errand.EnvironmentID, fits func(api.EnvironmentVersion) bool) (api.EnvironmentVersion, error) {
	for cursor := ""; ; {
		page, err := c.EnvironmentHistory(ctx, id, 100, cursor)
		if err != nil {
			return api.EnvironmentVersion{}, err
		}
		for _, v := range page.Items {
			if fits(v) {
				return v, nil
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			return api.EnvironmentVersion{}, errand.Errorf(errand.NotFound, "environment_version_not_found", "The environment has no such version. `errand env history` shows which there are.")
		}
	}
}
