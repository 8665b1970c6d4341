package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand/api"
	"github.com/errand-dev/errand/client"
)

func (a *app) usageCommand() *cobra.Command {
	var q client.UsageQuery
	var weeks bool
	cmd := &cobra.Command{
		Use: "usage", Short: "Say what models and machines were used for, day by day", Args: usage(cobra.NoArgs),
		Long: "Say what models and machines were used for, day by day: tokens, what they cost,\nand how long machines ran. Days are UTC's; deleted agents count too. What one agent\nused, errand show says.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.By != "" && !slices.Contains([]string{"model", "repository", "person"}, q.By) {
				return usageError("--by %s: it must be model, repository or person", q.By)
			}
			if q.Unit = "day"; weeks {
				q.Unit = "week"
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			u, err := c.UsageOver(cmd.Context(), q)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(u)
			}
			return table(a.out, usageRows(u))
		},
	}
	cmd.Flags().StringVar(&q.By, "by", "", "part it by model, repository or person")
	cmd.Flags().StringVar(&q.From, "from", "", "the first day, such as 2026-11-01 (default: 30 days, or 26 weeks, before the last)")
	cmd.Flags().StringVar(&q.To, "to", "", "the last day (default: today)")
	cmd.Flags().BoolVar(&weeks, "weeks", false, "by week, from Monday on")
	return cmd
}

func usageRows(u api.UsageOver) [][]string {
	part := func(p api.UsagePart) []string {
		price := "-"
		if p.UnpricedTokens < p.Usage.TotalTokens {
			price = fmt.Sprintf("$%.4f", p.CostCents/100)
		}
		return []string{count(p.Usage.TotalTokens), price, duration(time.Duration(p.MachineMs) * time.Millisecond)}
	}
	rows := [][]string{{"FROM", "TOKENS", "COST", "MACHINES"}}
	if u.By != "" {
		rows[0] = slices.Insert(rows[0], 1, map[string]string{"model": "MODEL", "repository": "REPOSITORY", "person": "PERSON"}[u.By])
	}
	add := func(start, name string, p api.UsagePart) {
		row := append([]string{start}, part(p)...)
		if u.By != "" {
			row = slices.Insert(row, 1, name)
		}
		rows = append(rows, row)
	}
	for _, i := range u.Items {
		name := dash(clip(i.Name, 60))
		if i.Others {
			name = "others"
		}
		add(i.Start, name, i.UsagePart)
	}
	add("all", "", u.Total)
	return rows
}

// testModelCommand is errand models test.
func (a *app) testModelCommand() *cobra.Command {
	return &cobra.Command{
		Use: "test [MODEL]", Short: "Ask a model for one word and say what came back", Args: usage(cobra.MaximumNArgs(1)),
		Long: "Ask a model, or the server's default, for one word, through all that an agent's\nrequests go through, and say what came back. Fails where it did not answer.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			model := ""
			if len(args) > 0 {
				model = args[0]
			}
			t, err := c.TryModel(cmd.Context(), model)
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(t)
			} else {
				a.tellTrial(t)
			}
			if err == nil && !t.OK {
				return &exitError{code: ExitFailed}
			}
			return err
		},
	}
}

func (a *app) tellTrial(t api.ModelTrial) {
	s := styleFor(a.out, a.getenv)
	took := duration(time.Duration(t.Ms) * time.Millisecond)
	if t.OK {
		fmt.Fprintf(a.out, "%s %s answers in %s: %s\n", s.green("✓"), t.Model, took, printable(t.Text))
		return
	}
	status := ""
	if t.Error.Status != 0 {
		status = fmt.Sprintf(" answered %d", t.Error.Status)
	}
	fmt.Fprintf(a.out, "%s %s: %s%s: %s\n  %s\n", s.red("✗"), t.Model, t.Error.Provider, status, printable(t.Error.Message), t.Error.Advice)
}
