package runner

import (
	"context"
	"time"

	"github.com/errand-dev/errand"
)

// Glance gives an agent as lists show it.
func (r *Runner) Glance(ctx context.Context, _ errand.Caller, id errand.AgentID) (errand.Glance, error) {
	return r.Store.Glance(ctx, id)
}

// Changed gives agents of which something was written at since or later, the
// longest ago first, at most limit.
func (r *Runner) Changed(ctx context.Context, _ errand.Caller, since time.Time, limit int) ([]errand.Glance, error) {
	return r.Store.Changed(ctx, since, limit)
}

// Cost gives what usage of a model costs at its ordinary prices in US dollars, 0
// where these are not known.
func (r *Runner) Cost(model string, u errand.Usage) float64 {
	entry, err := r.Models.Catalog.Find(model)
	if err != nil {
		return 0
	}
	entry.Prices.Long = nil // is for a single request's size
	return entry.Prices.Cost(u)
}
