package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) listCommand() *cobra.Command {
	var all bool
	var limit int
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List agents, newest first", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usageError("--limit %d: it must be 1 or more", limit)
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			agents, err := gather(c.AllAgents(cmd.Context(), client.AgentQuery{Limit: min(limit, 100), IncludeArchived: all}), limit)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(agents)
			}
			return a.listAgents(agents)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "archived agents too")
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	return cmd
}

func (a *app) listAgents(agents []api.AgentSummary) error {
	if len(agents) == 0 {
		if isTerminal(a.err) {
			fmt.Fprintln(a.err, `No agents. Start one: errand run --repo . "what it is to do"`)
		}
		return nil
	}
	now, room := time.Now(), 200
	if isTerminal(a.out) { // a row is a line: branch and name share what the rest leaves
		room = max(12, (int(terminalSize(a.out).Cols)-36)/2)
	}
	rows := [][]string{{"AGENT", "STATE", "UPDATED", "BRANCH", "NAME"}}
	for _, agent := range agents {
		id := agent.ID
		if isTerminal(a.out) {
			id = shortID(id)
		}
		rows = append(rows, []string{id, agentState(agent), ago(agent.UpdatedAt, now), clip(cmp.Or(agent.Branch, "-"), room), clip(agent.Name, room)})
	}
	return table(a.out, rows)
}

// agentState is what a person wants to know of an agent in a word.
func agentState(agent api.AgentSummary) string {
	switch {
	case agent.Status == api.AgentArchived:
		return "archived"
	case agent.Takeover != nil:
		return "taken over"
	case agent.State != "":
		return string(agent.State)
	case agent.Idle:
		return "idle"
	}
	return "active"
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return clip(text, 60)
}

// shown is what `errand show --json` prints.
type shown struct {
	Agent api.Agent      `json:"agent"`
	Runs  []api.Run      `json:"runs"`
	Usage api.AgentUsage `json:"usage"`
	// Terminals of the machine, while it runs.
	Terminals []api.Terminal `json:"terminals,omitempty"`
	Ports     []api.Port     `json:"ports,omitempty"` // that its environment names
	Presence  api.Presence   `json:"presence"`        // who is there just now
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show [AGENT]", Short: "Show an agent and its runs", Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, id, err := a.agentArg(ctx, args)
			if err != nil {
				return err
			}
			var s shown
			if s.Agent, err = c.Agent(ctx, id); err != nil {
				return err
			}
			runs, err := c.Runs(ctx, id, 50, "")
			if err != nil {
				return err
			}
			s.Runs = runs.Items
			if s.Usage, err = c.Usage(ctx, id); err != nil {
				return err
			}
			terminals, err := c.Terminals(ctx, id)
			if err != nil {
				return err
			}
			s.Terminals, s.Ports = terminals.Items, terminals.Ports
			if s.Presence, err = c.Presence(ctx, id); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			return a.showAgent(s)
		},
	}
}

func (a *app) showAgent(s shown) error {
	st := styleFor(a.out, a.getenv)
	agent := s.Agent
	fmt.Fprintln(a.out, st.bold(clip(agent.Name, 100)))
	rows := [][]string{{"agent", agent.ID}, {"state", showState(s)}}
	if agent.Takeover != nil {
		rows = append(rows, []string{"in hand", heldBy(agent.Takeover, time.Now())})
	}
	if len(s.Presence.People) > 0 {
		rows = append(rows, []string{"here", whoIsHere(s.Presence)})
	}
	for _, r := range agent.Repos {
		rows = append(rows, []string{"repository", clip(r.URL+" "+r.StartingRef, 120)})
	}
	for _, row := range [][]string{{"branch", agent.Branch}, {"base", agent.Base}, {"pushed", agent.Pushed}, {"engine", agent.Engine}, {"image", agent.Image}} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	if agent.Model != nil {
		rows = append(rows, []string{"model", agent.Model.ID})
	}
	if u := usageOf(&s.Usage.TotalUsage); u.Total() > 0 {
		rows = append(rows, []string{"used", tokens(u)[len("· "):]})
	}
	for _, p := range s.Ports {
		rows = append(rows, []string{"port", clip(strings.TrimSpace(fmt.Sprintf("%d %s", p.Port, p.Name)), 100)})
	}
	rows = append(rows, []string{"made", agent.CreatedAt.Local().Format(time.DateTime)})
	if err := table(a.out, rows); err != nil {
		return err
	}
	if err := a.showTerminals(st, s.Terminals); err != nil {
		return err
	}
	for i := len(s.Runs) - 1; i >= 0; i-- {
		a.showRun(st, s.Runs[i])
	}
	return nil
}

// showTerminals lists the terminals, and of those whose command has crashed
// what it showed last.
func (a *app) showTerminals(st style, terminals []api.Terminal) error {
	if len(terminals) == 0 {
		return nil
	}
	fmt.Fprintln(a.out)
	if err := table(a.out, terminalRows(terminals, time.Now())); err != nil {
		return err
	}
	for _, t := range terminals {
		if t.Health != nil && t.Health.Status == "waiting" && t.Health.Last != "" {
			fmt.Fprintf(a.out, "%s showed before it crashed:\n", printable(t.Name))
			writeOutput(a.out, st, &errand.Error{Output: t.Health.Last})
		}
	}
	return nil
}

// showState is the state of the run under way, with the phase it is in, or else
// of the latest.
func showState(s shown) string {
	if s.Agent.Status == api.AgentArchived || len(s.Runs) == 0 {
		return agentState(s.Agent.AgentSummary)
	}
	run := s.Runs[0]
	for _, earlier := range s.Runs[1:] { // newest first; later ones wait
		if !earlier.Ended() {
			run = earlier
		}
	}
	if run.Phase != "" && !run.Ended() {
		return fmt.Sprintf("%s (%s)", run.State, run.Phase)
	}
	return string(run.State)
}

func (a *app) showRun(st style, run api.Run) {
	state := string(run.State)
	switch run.Status {
	case api.RunFinished:
		state = st.green(state)
	case api.RunError:
		state = st.red(state)
	default:
		state = st.yellow(state)
	}
	took := ""
	if run.DurationMs != nil {
		took = milliseconds(*run.DurationMs)
	}
	fmt.Fprintf(a.out, "\n%s %s %s\n", st.cyan(run.ID), state, st.dim(took))
	fmt.Fprintf(a.out, "  %s %s\n", st.cyan("▌"), clip(run.Prompt, 110))
	if run.Result != "" {
		for _, line := range splitLines(cutLines(printable(run.Result), 8, 0)) {
			fmt.Fprintf(a.out, "  %s\n", line)
		}
	}
	if run.Error != nil {
		fmt.Fprintf(a.out, "  %s\n", st.red(printable(run.Error.Message)))
		writeOutput(a.out, st, &errand.Error{Output: run.Error.Output, ExitCode: run.Error.ExitCode})
	}
}

func (a *app) cancelCommand() *cobra.Command {
	var run string
	cmd := &cobra.Command{
		Use: "cancel [AGENT]", Short: "End an agent's run", Args: usage(cobra.MaximumNArgs(1)),
		Long: "End the agent's run under way and those that wait behind it, or with --run one of them.",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, id, err := a.agentArg(ctx, args)
			if err != nil {
				return err
			}
			if run != "" {
				one, err := errand.ParseRunID(run)
				if err != nil {
					return err
				}
				return a.changed(string(one), "cancelled", c.Cancel(ctx, id, one))
			}
			return a.cancelAll(ctx, c, id)
		},
	}
	cmd.Flags().StringVar(&run, "run", "", "only this run")
	return cmd
}

// cancelAll ends what waits before what is under way, so that nothing takes the
// place that becomes free.
func (a *app) cancelAll(ctx context.Context, c *client.Client, id errand.AgentID) error {
	runs, err := c.Runs(ctx, id, 100, "")
	if err != nil {
		return err
	}
	cancelled := 0
	for _, run := range runs.Items { // newest first
		if run.Ended() {
			continue
		}
		err := c.Cancel(ctx, id, errand.RunID(run.ID))
		if e := (*errand.Error)(nil); errors.As(err, &e) && e.Code == "run_not_cancellable" {
			continue // it ended meanwhile
		}
		if err != nil {
			return err
		}
		cancelled++
		if err := a.changed(run.ID, "cancelled", nil); err != nil {
			return err
		}
	}
	if cancelled == 0 {
		return errand.Errorf(errand.Conflict, "run_not_cancellable", "Agent %s has no run under way.", shortID(string(id)))
	}
	return nil
}

// changed tells what was done to id.
func (a *app) changed(id, what string, err error) error {
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"id": id, "done": what})
	}
	fmt.Fprintln(a.out, id, what)
	return nil
}

// steer makes a command that changes each of the agents it names.
func (a *app) steer(use, short, done string, do func(*client.Client, context.Context, errand.AgentID) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " AGENT...", Short: short, Args: usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				c, id, err := a.agentArg(cmd.Context(), []string{name})
				if err != nil {
					return err
				}
				if err := a.changed(string(id), done, do(c, cmd.Context(), id)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (a *app) archiveCommand() *cobra.Command {
	return a.steer("archive", "Put agents away; they stay readable", "archived", (*client.Client).Archive)
}

func (a *app) unarchiveCommand() *cobra.Command {
	return a.steer("unarchive", "Take archived agents out again", "unarchived", (*client.Client).Unarchive)
}

func (a *app) removeCommand() *cobra.Command {
	cmd := a.steer("rm", "Remove agents with their journals and machines, for good", "removed", (*client.Client).Delete)
	cmd.Aliases = []string{"delete"}
	return cmd
}

func (a *app) modelsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "models", Short: "List the models that agents can have", Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			models, err := c.Models(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(models.Items)
			}
			rows := [][]string{{"MODEL", "NAME", "WINDOW"}}
			for _, m := range models.Items {
				rows = append(rows, []string{m.ID, clip(m.DisplayName, 60), count(int64(m.Window))})
			}
			return table(a.out, rows)
		},
	}
	cmd.AddCommand(a.testModelCommand())
	return cmd
}
