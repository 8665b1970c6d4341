package api

import (
	"encoding/json"
	"time"

	"github.com/errand-dev/errand"
)

// Boot is how an agent's machine became ready for a run: what it was made from,
// and each phase with its time and why it was, or was not, saved.
type Boot struct {
	AgentID       string        `json:"agentId"`
	RunID         string        `json:"runId"`
	EnvironmentID string        `json:"environmentId,omitempty"`
	Environment   string        `json:"environment,omitempty" doc:"The environment's name."`
	VersionID     string        `json:"versionId,omitempty"`
	Why           string        `json:"why,omitempty" doc:"How the environment was found."`
	BuildID       string        `json:"buildId,omitempty" doc:"The build on whose disk the machine stands."`
	Commits       []BuildCommit `json:"commits,omitempty"`
	MachineID     string        `json:"machineId,omitempty"`
	Image         string        `json:"image,omitempty"`
	SnapshotID    string        `json:"snapshotId,omitempty" doc:"As much of its key as tells it from others."`
	DurationMs    int64         `json:"durationMs" doc:"From the first phase to the end of the last one."`
	Phases        []BootPhase   `json:"phases"`
	Notices       []string      `json:"notices,omitempty" doc:"What was odd on the way."`
}

// BootPhase is one phase of a Boot.
type BootPhase struct {
	Phase      errand.Phase `json:"phase"`
	StartedAt  time.Time    `json:"startedAt"`
	DurationMs int64        `json:"durationMs"`
	Ended      bool         `json:"ended"`
	Cached     bool         `json:"cached" doc:"Nothing had to be done."`
	Note       string       `json:"note,omitempty" doc:"What was found or done; why it was not saved."`
	Command    string       `json:"command,omitempty"`
	Error      *Error       `json:"error,omitempty"`
}

// BootOf folds an agent's events into how its machine became ready for run; ""
// is the latest run that has got so far. It is false where there is none.
func BootOf(events []errand.Event, run errand.RunID) (Boot, bool) {
	if run == "" {
		for _, e := range events {
			if e.Run != "" && e.Kind == errand.EventPhaseStarted {
				run = e.Run
			}
		}
	}
	b := Boot{RunID: string(run), Phases: []BootPhase{}}
	for _, e := range events {
		if b.AgentID == "" {
			b.AgentID = string(e.Agent)
		}
		if e.Kind == errand.EventEnvironment || run != "" && e.Run == run {
			b.add(e)
		}
	}
	if n := len(b.Phases); n > 0 {
		last := b.Phases[n-1]
		b.DurationMs = last.StartedAt.Sub(b.Phases[0].StartedAt).Milliseconds() + last.DurationMs
	}
	return b, len(b.Phases) > 0
}

// add folds one event of the run, or one that tells of the agent's environment.
func (b *Boot) add(e errand.Event) {
	switch e.Kind {
	case errand.EventEnvironment:
		var d errand.EnvironmentUsed
		if json.Unmarshal(e.Data, &d) == nil {
			b.EnvironmentID, b.Environment, b.VersionID, b.BuildID, b.Commits = string(d.Environment), d.Name, string(d.Version), string(d.Build), nil
			if d.Why != "" {
				b.Why = d.Why
			}
			for _, c := range d.Commits {
				b.Commits = append(b.Commits, BuildCommit(c))
			}
		}
	case errand.EventMachine:
		var d errand.MachineData
		if json.Unmarshal(e.Data, &d) == nil {
			b.MachineID, b.Image = d.ID, d.Image
		}
	case errand.EventNotice:
		var d errand.Notice
		if json.Unmarshal(e.Data, &d) == nil && !b.over() {
			b.Notices = append(b.Notices, d.Text)
		}
	case errand.EventPhaseStarted:
		var d errand.PhaseStarted
		if json.Unmarshal(e.Data, &d) == nil && preparing(d.Phase) {
			b.Phases = append(b.Phases, BootPhase{Phase: d.Phase, StartedAt: e.Time, Command: d.Command})
		}
	case errand.EventPhaseEnded:
		var d errand.PhaseEnded
		if json.Unmarshal(e.Data, &d) == nil {
			b.end(d)
		}
	}
}

// end closes the newest phase of its name.
func (b *Boot) end(d errand.PhaseEnded) {
	for i := len(b.Phases) - 1; i >= 0; i-- {
		p := &b.Phases[i]
		if p.Phase != d.Phase {
			continue
		}
		p.DurationMs, p.Ended, p.Cached, p.Note = d.DurationMs, true, d.Cached, d.Note
		if d.Error != nil {
			wire := fromError(d.Error)
			p.Error = &wire
		}
		if d.Phase == errand.PhaseSnapshot && d.Error == nil {
			b.SnapshotID = d.Note
		}
		return
	}
}

// over says whether the machine is ready: what follows is work.
func (b *Boot) over() bool {
	n := len(b.Phases)
	return n > 0 && b.Phases[n-1].Phase == errand.PhaseTerminals && b.Phases[n-1].Ended
}

// preparing says whether a phase makes a machine ready.
func preparing(p errand.Phase) bool {
	switch p {
	case errand.PhaseMirror, errand.PhaseImage, errand.PhaseMachine, errand.PhaseInstall, errand.PhaseSnapshot, errand.PhaseCheckout, errand.PhaseStart, errand.PhaseTerminals:
		return true
	}
	return false
}
