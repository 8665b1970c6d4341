package environment

import (
	"encoding/json"
	"time"

	"github.com/errand-dev/errand"
)

// Progress is what a run's journal holds of its preparing: which phases have
// begun and ended, and how much of install's output is there. Prepare records
// none of it again. The zero Progress is that of a run that has just begun.
type Progress struct {
	phases map[errand.Phase]step
	boot   string // the machine's last life that the journal tells of
}

// step is one phase as far as the journal tells.
type step struct {
	started time.Time
	fresh   bool  // begun by this call of Prepare
	end     int64 // of the command's output that is recorded, in bytes
	ended   bool
	failed  *errand.Error
}

// ProgressOf folds the events of one run.
func ProgressOf(events []errand.Event, run errand.RunID) Progress {
	p := Progress{phases: map[errand.Phase]step{}}
	for _, e := range events {
		if e.Run == run {
			p.add(e)
		}
	}
	return p
}

// add folds one event. One that cannot be read counts for nothing: the worst
// that follows is a phase told twice.
func (p *Progress) add(e errand.Event) {
	switch e.Kind {
	case errand.EventPhaseStarted:
		var d errand.PhaseStarted
		if json.Unmarshal(e.Data, &d) == nil {
			p.phases[d.Phase] = step{started: e.Time}
		}
	case errand.EventPhaseOutput:
		var d errand.PhaseOutput
		if json.Unmarshal(e.Data, &d) == nil {
			s := p.phases[d.Phase]
			s.end = max(s.end, d.End)
			p.phases[d.Phase] = s
		}
	case errand.EventPhaseEnded:
		var d errand.PhaseEnded
		if json.Unmarshal(e.Data, &d) == nil {
			s := p.phases[d.Phase]
			s.ended, s.failed = true, d.Error
			p.phases[d.Phase] = s
		}
	case errand.EventMachine:
		var d errand.MachineData
		if json.Unmarshal(e.Data, &d) == nil && d.Boot != "" {
			p.boot = d.Boot
		}
	}
}

// open says whether a phase has begun and not ended.
func (p *Progress) open(phase errand.Phase) bool {
	s, ok := p.phases[phase]
	return ok && !s.ended
}

// done says whether a phase has ended well.
func (p *Progress) done(phase errand.Phase) bool {
	s := p.phases[phase]
	return s.ended && s.failed == nil
}

// failed gives the error with which a phase ended, or nil.
func (p *Progress) failed(phase errand.Phase) *errand.Error { return p.phases[phase].failed }

// put notes what was recorded just now.
func (p *Progress) put(phase errand.Phase, s step) { p.phases[phase] = s }

// forget makes phases ones that have not begun.
func (p *Progress) forget(phases ...errand.Phase) {
	for _, phase := range phases {
		delete(p.phases, phase)
	}
}
