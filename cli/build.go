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

func (a *app) buildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "build", Short: "Builds: the disks that agents start on",
	}
	return group(cmd, a.buildListCommand(), a.buildShowCommand(), a.buildStartCommand(), a.buildLogCommand(),
		a.buildSteer("cancel", "latest", "End a build: the latest, or the one that is named", "cancelled", (*client.Client).CancelBuild),
		a.buildSteer("activate", "", "Make a build the one that agents start on", "activated", (*client.Client).ActivateBuild),
		a.buildSteer("deactivate", "active", "Let agents do without the active build", "deactivated", (*client.Client).DeactivateBuild))
}

func (a *app) buildListCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "ls ENVIRONMENT", Aliases: []string{"list"}, Short: "List an environment's builds, newest first", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.environmentArg(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			builds, err := gather(c.AllBuilds(cmd.Context(), id), limit)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(builds)
			}
			return a.buildTable(builds)
		},
	}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	return cmd
}

func (a *app) buildTable(builds []api.Build) error {
	rows := [][]string{{"BUILD", "STATE", "WHY", "MADE", "TOOK", "COMMIT", ""}}
	for _, b := range builds {
		commit, took := "-", "-"
		if len(b.Commits) > 0 {
			commit = clip(b.Commits[0].Commit, 13)
		}
		if b.StartedAt != nil && b.CompletedAt != nil {
			took = duration(b.CompletedAt.Sub(*b.StartedAt))
		}
		var marks []string
		if b.Active {
			marks = append(marks, "active")
		}
		if b.Draft {
			marks = append(marks, "draft")
		}
		if b.Failure != nil {
			marks = append(marks, clip(b.Failure.Message, 60))
		}
		rows = append(rows, []string{b.ID, string(b.State), strings.ToLower(string(b.Trigger)), ago(b.CreatedAt, time.Now()), took, commit, strings.Join(marks, ", ")})
	}
	return table(a.out, rows)
}

func (a *app) buildStartCommand() *cobra.Command {
	var req api.CreateBuild
	var follow bool
	cmd := &cobra.Command{
		Use: "start ENVIRONMENT", Short: "Build an environment now", Args: usage(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.environmentArg(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			b, err := c.CreateBuild(cmd.Context(), id, req)
			if err != nil {
				return err
			}
			if follow {
				if !a.json {
					fmt.Fprintln(a.out, b.ID)
				}
				return a.followBuild(cmd.Context(), c, id, errand.BuildID(b.ID))
			}
			if a.json {
				return a.printJSON(b)
			}
			fmt.Fprintln(a.out, b.ID)
			if isTerminal(a.err) {
				fmt.Fprintf(a.err, "Watch it: errand build log -f %s %s\n", args[0], b.ID)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Ref, "ref", "", "branch, tag or commit (default: the default branch); another one is a draft")
	f.BoolVar(&req.Draft, "draft", false, "it becomes active only by errand build activate")
	f.BoolVar(&req.Force, "force", false, "install also where nothing has changed")
	f.BoolVarP(&follow, "follow", "f", false, "watch until the build ends")
	return cmd
}

// findBuild gives the build of an environment that a person named: by its id,
// the beginning of one, or as latest or active.
func findBuild(ctx context.Context, c *client.Client, environment errand.EnvironmentID, name string) (errand.BuildID, error) {
	if id, err := errand.ParseBuildID(name); err == nil {
		return id, nil
	}
	if name == "active" {
		active, err := c.ActiveBuild(ctx, environment)
		if err == nil && active.BuildID == "" {
			err = errand.Errorf(errand.NotFound, "build_not_found", "The environment has no active build.")
		}
		return errand.BuildID(active.BuildID), err
	}
	for b, err := range c.AllBuilds(ctx, environment) {
		if err != nil {
			return "", err
		}
		if name == "latest" || len(name) >= 12 && strings.HasPrefix(b.ID, strings.ToLower(name)) {
			return errand.BuildID(b.ID), nil
		}
	}
	return "", errand.Errorf(errand.NotFound, "build_not_found", "The environment has no build %q. `errand build ls` shows which there are.", name)
}

// buildArg finds the environment and the build that two arguments name.
func (a *app) buildArg(ctx context.Context, args []string) (*client.Client, errand.EnvironmentID, errand.BuildID, error) {
	c, environment, err := a.environmentArg(ctx, args[0])
	if err != nil {
		return nil, "", "", err
	}
	name := "latest"
	if len(args) > 1 {
		name = args[1]
	}
	id, err := findBuild(ctx, c, environment, name)
	return c, environment, id, err
}

func (a *app) buildLogCommand() *cobra.Command {
	var follow, whole bool
	cmd := &cobra.Command{
		Use: "log ENVIRONMENT [BUILD]", Short: "Show what a build did, and does", Args: usage(cobra.RangeArgs(1, 2)),
		Long: "Show a build's log: that of the latest build, or of the one named by its id or as \"active\".",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, environment, id, err := a.buildArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			if follow {
				return a.followBuild(cmd.Context(), c, environment, id)
			}
			each, done := a.logWriter(whole, false)
			defer done()
			for e, err := range c.BuildLog(cmd.Context(), environment, id) {
				if err != nil {
					return err
				}
				each(e)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the build has ended")
	cmd.Flags().BoolVarP(&whole, "verbose", "v", false, "cut nothing: whole output, every connection")
	return cmd
}

// followBuild shows a build's log until its end, and fails where the build did.
func (a *app) followBuild(ctx context.Context, c *client.Client, environment errand.EnvironmentID, id errand.BuildID) error {
	each, done := a.logWriter(false, true)
	defer done()
	for e, err := range c.FollowBuild(ctx, environment, id, 0) {
		if err != nil {
			return err
		}
		each(e)
	}
	b, err := c.Build(ctx, environment, id)
	if err != nil {
		return err
	}
	if b.Status == api.BuildFailed || b.Status == api.BuildCancelled {
		return &exitError{code: ExitFailed}
	}
	return nil
}

// buildSteer makes a command that changes one build: the one that is named, else
// that which unnamed says, "" for none.
func (a *app) buildSteer(use, unnamed, short, done string, do func(*client.Client, context.Context, errand.EnvironmentID, errand.BuildID) error) *cobra.Command {
	form, least := " ENVIRONMENT BUILD", 2
	if unnamed != "" {
		form, least = " ENVIRONMENT [BUILD]", 1
	}
	return &cobra.Command{
		Use: use + form, Short: short, Args: usage(cobra.RangeArgs(least, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, environment, id, err := a.buildArg(cmd.Context(), append(args, unnamed)[:2])
			if err != nil {
				return err
			}
			return a.changed(string(id), done, do(c, cmd.Context(), environment, id))
		},
	}
}

// build writes the events that tell of builds and environments.
func (t *transcript) build(e errand.Event) {
	switch e.Kind {
	case errand.EventEnvironment:
		show(e, func(d errand.EnvironmentUsed) {
			t.note(t.style.dim(strings.Join(strings.Fields(fmt.Sprintf("environment %s %s %s", clip(d.Name, 60), d.Build, parenthesized(d.Why))), " ")))
		})
	case errand.EventBuildQueued:
		show(e, func(d errand.BuildQueuedData) {
			t.note(fmt.Sprintf("build %s %s", t.style.cyan(string(d.Build.ID)), t.style.dim(strings.ToLower(string(d.Build.Trigger)))))
		})
	case errand.EventBuildCancel:
		show(e, func(d errand.CancelAsked) { t.note(t.style.yellow("cancel asked") + by(d.Caller)) })
	case errand.EventBuildStatus:
		show(e, t.buildStatus)
	}
}

func (t *transcript) buildStatus(d errand.BuildStatusData) {
	if !d.Status.Ended() {
		return
	}
	text := "build " + string(d.Status)
	switch d.Status {
	case errand.BuildSucceeded:
		text = t.style.green(text)
	case errand.BuildFailed:
		text = t.style.red(text)
	default:
		text = t.style.yellow(text)
	}
	why := d.Note
	if d.Active && why == "" {
		why = "agents start on it from now on"
	}
	t.note(strings.TrimRight(text+" "+t.style.dim(clip(why, 200)), " "))
	if f := d.Failure; f != nil && f.Error != nil {
		t.note(t.style.red(printable(f.Error.Message)))
		writeOutput(t.w, t.style, f.Error)
	}
}

func parenthesized(text string) string {
	if text == "" {
		return ""
	}
	return "(" + clip(text, 120) + ")"
}
