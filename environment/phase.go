package environment

import (
	"context"
	"errors"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/store"
)

// outcome is how a phase went.
type outcome struct {
	cached bool          // nothing had to be done
	note   string        // what was found or done
	facts  []errand.Fact // recorded with the phase's end
}

// phase does one phase and records its beginning and end. What the journal has
// is not recorded again: a phase that is open goes on, and one that is done is
// gone through in silence, unless do finds that it must begin it anew.
func (w *work) phase(ctx context.Context, phase errand.Phase, command string, do func(context.Context) (outcome, error)) error {
	if !w.progress.done(phase) && !w.progress.open(phase) {
		if err := w.begin(ctx, phase, command); err != nil {
			return err
		}
	}
	o, err := do(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // the phase stays open, for the next call
	}
	if errors.Is(err, store.ErrFull) {
		return err // it too
	}
	if err = w.explain(ctx, err); w.progress.done(phase) {
		if err == nil {
			return nil
		}
		if begun := w.begin(ctx, phase, command); begun != nil {
			return begun
		}
	}
	if ended := w.end(ctx, phase, o, err); ended != nil {
		return ended
	}
	return err
}

// begin records that a phase begins, also one that begins anew.
func (w *work) begin(ctx context.Context, phase errand.Phase, command string) error {
	w.progress.put(phase, step{started: time.Now(), fresh: true})
	return w.Record(ctx, errand.Fact{Kind: errand.EventPhaseStarted, Data: errand.PhaseStarted{Phase: phase, Command: command}})
}

// end records that a phase has ended.
func (w *work) end(ctx context.Context, phase errand.Phase, o outcome, err error) error {
	s := w.progress.phases[phase]
	s.ended, s.failed = true, errand.AsError(err)
	took := time.Since(s.started).Round(time.Millisecond)
	w.progress.put(phase, s)
	w.log.Debug("phase ended", "machine", w.Machine, "phase", phase, "took", took, "cached", o.cached, "note", o.note, "error", err)
	return w.Record(ctx, append(o.facts, errand.Fact{Kind: errand.EventPhaseEnded, Data: errand.PhaseEnded{
		Phase: phase, DurationMs: took.Milliseconds(), Cached: o.cached, Note: o.note, Error: s.failed,
	}})...)
}

// skip records phases that have nothing to do.
func (w *work) skip(ctx context.Context, note string, phases ...errand.Phase) error {
	var facts []errand.Fact
	for _, phase := range phases {
		if w.progress.done(phase) {
			continue
		}
		s := w.progress.phases[phase]
		if !w.progress.open(phase) {
			s = step{started: time.Now()}
			facts = append(facts, errand.Fact{Kind: errand.EventPhaseStarted, Data: errand.PhaseStarted{Phase: phase}})
		}
		facts = append(facts, errand.Fact{Kind: errand.EventPhaseEnded, Data: errand.PhaseEnded{
			Phase: phase, DurationMs: time.Since(s.started).Milliseconds(), Cached: true, Note: note,
		}})
		s.ended = true
		w.progress.put(phase, s)
	}
	if len(facts) == 0 {
		return nil
	}
	return w.Record(ctx, facts...)
}
