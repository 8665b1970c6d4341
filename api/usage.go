package api

import "github.com/errand-dev/errand"

// Usage is what was used of a model, in tokens.
type Usage struct {
	InputTokens      int64 `json:"inputTokens" minimum:"0"`
	OutputTokens     int64 `json:"outputTokens" minimum:"0"`
	CacheWriteTokens int64 `json:"cacheWriteTokens" minimum:"0"`
	CacheReadTokens  int64 `json:"cacheReadTokens" minimum:"0"`
	TotalTokens      int64 `json:"totalTokens" minimum:"0" doc:"Sum of the four counts."`
}

// FromUsage gives the wire form of u.
func FromUsage(u errand.Usage) Usage {
	return Usage{
		InputTokens: u.Input, OutputTokens: u.Output,
		CacheWriteTokens: u.CacheWrite, CacheReadTokens: u.CacheRead,
		TotalTokens: u.Total(),
	}
}

// AgentUsage is an agent's usage, run by run and in sum.
type AgentUsage struct {
	TotalUsage Usage      `json:"totalUsage"`
	Runs       []RunUsage `json:"runs"`
}

// RunUsage is one run's usage.
type RunUsage struct {
	ID    string `json:"id"`
	Usage Usage  `json:"usage"`
}

// UsageOver is what was used over time. It is Errand's own.
type UsageOver struct {
	From  string      `json:"from" format:"date" doc:"The first day, UTC."`
	To    string      `json:"to" format:"date" doc:"The last day."`
	Unit  string      `json:"unit" enum:"day,week"`
	By    string      `json:"by,omitempty" enum:"model,repository,person"`
	Total UsagePart   `json:"total"`
	Items []UsageTime `json:"items" doc:"By time and name; what was not used is left out."`
}

// UsageTime is what was used in one day or week, of all or of one name.
type UsageTime struct {
	Start  string `json:"start" format:"date" doc:"The day, or the week's Monday."`
	Name   string `json:"name,omitempty" doc:"The model, repository or person; left out where there was none."`
	Others bool   `json:"others,omitempty" doc:"All names together that have no figures of their own."`
	UsagePart
}

// UsagePart is an amount of what was used.
type UsagePart struct {
	Usage          Usage   `json:"usage"`
	CostCents      float64 `json:"costCents" doc:"Of the tokens whose price is known, in US cents."`
	UnpricedTokens int64   `json:"unpricedTokens,omitempty" doc:"Tokens whose price is not known."`
	MachineMs      int64   `json:"machineMs" doc:"How long agents' machines ran."`
}

// FromSpent gives the wire form of what was used.
func FromSpent(s errand.Spent) UsagePart {
	return UsagePart{Usage: FromUsage(s.Usage), CostCents: float64(s.Cost) / 1e7, UnpricedTokens: s.Unpriced, MachineMs: s.Machine.Milliseconds()}
}
