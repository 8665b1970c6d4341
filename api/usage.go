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
