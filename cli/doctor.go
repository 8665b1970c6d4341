package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/api"
)

// diagnosis is what `errand doctor --json` prints.
type diagnosis struct {
	Server *api.Health   `json:"server,omitempty"` // of the server that answers
	Why    string        `json:"why,omitempty"`    // why none did
	Host   []api.Finding `json:"host,omitempty"`   // of this machine, where no server told
	OK     bool          `json:"ok"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Say what works here and what is missing", Args: usage(cobra.NoArgs),
		Long: `Say what works and what is missing: of the server, where one answers, and
otherwise of this machine. Fails where something is missing without which nothing
runs.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var d diagnosis
			health, err := a.health(cmd)
			if e := (*errand.Error)(nil); errors.As(err, &e) && e.Kind == errand.Unauthorized && a.getenv("ERRAND_API_KEY") != "" {
				return err
			}
			if err == nil {
				d.Server = &health
			} else {
				d.Why = err.Error()
				if d.Host, err = a.inspectHost(cmd.Context()); err != nil {
					return err
				}
			}
			d.OK = allNeeded(d.Host) && (d.Server == nil || allNeeded(d.Server.Findings))
			if a.json {
				if err := a.printJSON(d); err != nil {
					return err
				}
			} else {
				a.tellDiagnosis(d)
			}
			if !d.OK {
				return &exitError{code: ExitFailed}
			}
			return nil
		},
	}
}

func (a *app) health(cmd *cobra.Command) (api.Health, error) {
	c, err := a.connect()
	if err != nil {
		return api.Health{}, err
	}
	return c.Health(cmd.Context())
}

func allNeeded(findings []api.Finding) bool {
	for _, f := range findings {
		if f.Needed && !f.OK {
			return false
		}
	}
	return true
}

func (a *app) tellDiagnosis(d diagnosis) {
	s := styleFor(a.out, a.getenv)
	if h := d.Server; h != nil {
		fmt.Fprintf(a.out, "%s server %s, up since %s\n", s.green("✓"), h.Version, h.Started.Local().Format("2006-01-02 15:04"))
		fmt.Fprintf(a.out, "  %d of %d runs under way, %d waiting\n", h.Runs[errand.RunRunning]+h.Runs[errand.RunPreparing], h.RunsMost, h.Runs[errand.RunQueued])
		var machines []string
		for _, state := range sortedKeys(h.Machines) {
			machines = append(machines, fmt.Sprintf("%d %s", h.Machines[state], state))
		}
		if len(machines) > 0 {
			fmt.Fprintf(a.out, "  machines: %s\n", strings.Join(machines, ", "))
		}
		a.tellModels(s, *h)
		a.tellFindings(s, h.Findings)
		return
	}
	fmt.Fprintf(a.out, "%s no server: %s\n", s.yellow("!"), printable(d.Why))
	a.tellFindings(s, d.Host)
}

func (a *app) tellModels(s style, h api.Health) {
	switch {
	case h.Models == 0:
		fmt.Fprintf(a.out, "%s no model can be used: set %s for the server and start it again\n", s.yellow("!"), h.Missing)
	case h.Missing != "":
		fmt.Fprintf(a.out, "%s %s; for more set %s\n", s.green("✓"), plural(h.Models, "model"), h.Missing)
	default:
		fmt.Fprintf(a.out, "%s %s\n", s.green("✓"), plural(h.Models, "model"))
	}
}

func (a *app) tellFindings(s style, findings []api.Finding) {
	for _, f := range findings {
		mark := s.green("✓")
		switch {
		case !f.OK && f.Needed:
			mark = s.red("✗")
		case !f.OK:
			mark = s.yellow("!")
		}
		fmt.Fprintf(a.out, "%s %s: %s\n", mark, printable(f.Name), printable(f.Detail))
	}
}
