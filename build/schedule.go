package build

import (
	"context"
	"time"
)

// schedule asks for the builds that are due, until ctx ends.
func (b *Builds) schedule(ctx context.Context) {
	if b.Every < 0 {
		return
	}
	tick := time.NewTicker(b.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
