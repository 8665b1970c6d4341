package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
)

func (a *app) logsCommand() *cobra.Command {
	var follow, whole bool
	var run string
	cmd := &cobra.Command{
		Use:   "logs [AGENT]",
		Short: "Show what an agent did, and does",
		Long: `Show an agent's journal: the phases with their times, what the model said, each
tool call with the ends of its output, errors with what to do. With --json, one
event a line. With --follow until the agent has no run left to wait for.`,
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, id, err := a.agentArg(ctx, args)
			if err != nil {
				return err
			}
			var one errand.RunID
			if run != "" {
				if one, err = errand.ParseRunID(run); err != nil {
					return err
				}
				if _, err := c.Run(ctx, id, one); err != nil {
					return err
				}
			}
			each, done := a.logWriter(whole, follow)
			defer done()
			events := c.AllEvents(ctx, id, 0)
			if follow {
				events = c.Follow(ctx, id, 0)
			}
			left := waiting{}
			for e, err := range events {
				if err != nil {
					return err
				}
				if left.see(e); one == "" || e.Run == one {
					each(e)
				}
				if follow && left.none(one) {
					// Others may be queued behind: ask only when all that is known ended.
					agent, err := c.Agent(ctx, id)
					if err != nil || agent.LatestRunID == "" || one != "" || left.ended(errand.RunID(agent.LatestRunID)) {
						return err
					}
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the agent is done")
	cmd.Flags().BoolVarP(&whole, "verbose", "v", false, "cut nothing: whole output, every connection")
	cmd.Flags().StringVar(&run, "run", "", "only this run")
	return cmd
}

// logWriter gives what writes each event, and what ends the writing.
func (a *app) logWriter(whole, follow bool) (each func(errand.Event), done func()) {
	if a.json {
		enc := json.NewEncoder(a.out)
		enc.SetEscapeHTML(false)
		return func(e errand.Event) { _ = enc.Encode(e) }, func() {}
	}
	s := styleFor(a.out, a.getenv)
	if follow && isTerminal(a.out) {
		st := newStatus(a.out, s)
		return newTranscript(st, s, st, whole).Event, st.Close
	}
	t := newTranscript(a.out, s, nil, whole)
	return t.Event, t.endText
}

// waiting knows which runs of a journal have not ended.
type waiting map[errand.RunID]bool

func (w waiting) see(e errand.Event) {
	if e.Run != "" && !w.ended(e.Run) {
		w[e.Run] = !hasEnded(e)
	}
}

func (w waiting) ended(run errand.RunID) bool {
	open, known := w[run]
	return known && !open
}

// none says whether nothing is left to wait for: of one run, or of all.
func (w waiting) none(one errand.RunID) bool {
	if one != "" {
		return w.ended(one)
	}
	for _, open := range w {
		if open {
			return false
		}
	}
	return len(w) > 0
}

func (a *app) diffCommand() *cobra.Command {
	var stat bool
	cmd := &cobra.Command{
		Use: "diff [AGENT]", Short: "Show what an agent changed", Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, id, err := a.agentArg(cmd.Context(), args)
			if err != nil {
				return err
			}
			d, err := c.Diff(cmd.Context(), id)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(d)
			}
			if stat {
				var rows [][]string
				for _, f := range d.Files {
					rows = append(rows, []string{f.Status, fmt.Sprintf("+%d", f.Added), fmt.Sprintf("-%d", f.Deleted), printable(f.Path)})
				}
				return table(a.out, rows)
			}
			if isTerminal(a.out) {
				a.colourDiff(d.Patch)
			} else {
				fmt.Fprint(a.out, d.Patch)
			}
			if isTerminal(a.err) {
				fmt.Fprintln(a.err, diffSummary(len(d.Files), d.Added, d.Deleted, d.Uncommitted))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&stat, "stat", false, "only the files, with lines added and deleted")
	return cmd
}

func diffSummary(files, added, deleted int, uncommitted bool) string {
	text := fmt.Sprintf("%s changed, %d added, %d deleted", plural(files, "file"), added, deleted)
	if uncommitted {
		text += " (as it is in the machine now)"
	}
	return text
}

func (a *app) colourDiff(patch string) {
	s := styleFor(a.out, a.getenv)
	for _, line := range splitLines(printable(patch)) {
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"), strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "index "):
			line = s.bold(line)
		case strings.HasPrefix(line, "@@"):
			line = s.cyan(line)
		case strings.HasPrefix(line, "+"):
			line = s.green(line)
		case strings.HasPrefix(line, "-"):
			line = s.red(line)
		}
		fmt.Fprintln(a.out, line)
	}
}

func splitLines(text string) []string {
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}
