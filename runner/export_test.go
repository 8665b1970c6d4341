package runner

import (
	"context"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// ModelOf is the model that a run works with.
var ModelOf = modelOf

// Stand gives an agent a machine that is up, and to which there is no line.
func (r *Runner) Stand(agent errand.AgentID, m machine.Machine) { r.placeOf(agent).machine = m }

// StopIdle is what Run does now and then.
func (r *Runner) StopIdle(ctx context.Context) { r.stopIdle(ctx) }

// Wait returns when what was begun in the background has ended.
func (r *Runner) Wait() { r.work.Wait() }

// Drive is what Run does with a run that it has claimed.
func (r *Runner) Drive(ctx context.Context, run errand.Run) { r.drive(ctx, run) }

// ClipTail is what an error carries of a command's output.
func (r *Runner) ClipTail(s string) string { return r.clipTail(s) }
