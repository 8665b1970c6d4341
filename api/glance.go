package api

import (
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/errand-dev/errand"
)

// Glance is what a list shows of an agent's work. It is Errand's own.
type Glance struct {
	Repo    string           `json:"repo,omitempty" doc:"The agent's first repository."`
	State   errand.RunStatus `json:"state,omitempty" doc:"Status of the run that the agent is at: the one under way, else the first that waits, else the last that had begun."`
	Waiting int              `json:"waiting,omitempty" doc:"Runs that wait behind that one."`
	Phase   errand.Phase     `json:"phase,omitempty" doc:"What that run is in; left out between phases."`
	Line    string           `json:"line,omitempty" doc:"In a line, what the agent said or did last."`
	Usage   Usage            `json:"usage" doc:"Of all its runs."`
	// CostCents prices Usage as if it were one model's and in one request: what
	// costs more in very long requests is told at its ordinary price.
	CostCents float64 `json:"costCents,omitempty" doc:"What that cost, in US cents; left out where the model's price is not known."`
}

// AgentChange is the data of a message of GET /v1/agents/changes.
type AgentChange struct {
	Agent   *AgentSummary `json:"agent,omitempty" doc:"The agent as it is now."`
	Removed string        `json:"removed,omitempty" doc:"The id of an agent that was deleted."`
}

// FromGlance gives an agent's wire form in lists, with its glance. base is the
// server's own URL; cost prices usage, 0 for a price that is not known.
func FromGlance(g errand.Glance, base string, cost func(model string, u errand.Usage) float64) AgentSummary {
	wire := FromAgentSummary(g.Agent, base)
	wire.Glance = &Glance{State: g.State, Waiting: g.Waiting, Phase: g.Phase, Line: lineOf(g.Last), Usage: FromUsage(g.Usage)}
	if len(g.Repositories) > 0 {
		wire.Glance.Repo = g.Repositories[0].URL
	}
	if wire.Model != nil {
		wire.Glance.CostCents = 100 * cost(wire.Model.ID, g.Usage)
	}
	return wire
}

// lineOf tells an event in a line.
func lineOf(e errand.Event) string {
	switch e.Kind {
	case errand.EventText:
		return lastLine(field[errand.TextData](e).Text)
	case errand.EventToolCalled:
		d := field[errand.ToolCalled](e)
		var args map[string]any
		_ = json.Unmarshal(d.Args, &args) // else the name alone is told
		for _, name := range []string{"command", "path", "target_file", "pattern", "query", "text", "summary"} {
			if s, ok := args[name].(string); ok && s != "" {
				return cutLine(d.Name + " " + strings.Join(strings.Fields(s), " "))
			}
		}
		return d.Name
	case errand.EventPhaseStarted:
		d := field[errand.PhaseStarted](e)
		return cutLine(strings.TrimSpace(string(d.Phase) + " " + d.Command))
	case errand.EventNotice:
		return lastLine(field[errand.Notice](e).Text)
	case errand.EventRunStatus:
		d := field[errand.RunStatusData](e)
		if d.Error != nil {
			return lastLine(d.Error.Message)
		}
		return lastLine(d.Result)
	}
	return ""
}

// field reads an event's data; what does not read is empty.
func field[T any](e errand.Event) (d T) {
	_ = json.Unmarshal(e.Data, &d)
	return d
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return cutLine(text[strings.LastIndexByte(text, '\n')+1:])
}

// cutLine bounds a line to 200 bytes of whole characters.
func cutLine(s string) string {
	if len(s) <= 200 {
		return s
	}
	n := 199
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
