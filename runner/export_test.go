package runner

import (
	"context"

	"github.com/errand-dev/errand"
)

// ModelOf is the model that a run works with.
var ModelOf = modelOf

// Wait returns when what was begun in the background has ended.
func (r *Runner) Wait() { r.work.Wait() }

// Drive is what Run does with a run that it has claimed.
func (r *Runner) Drive(ctx context.Context, run errand.Run) { r.drive(ctx, run) }
