package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/loop"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/tool"
)

// maxLives is how many lives of a machine one run may use up before it fails: a
// machine that dies again and again is not the agent's doing to mend.
const maxLives = 4

// drive takes a claimed run from wherever it stands to its end. It returns when
// the run has ended, or when ctx has: then the run goes on at the next start.
func (r *Runner) drive(ctx context.Context, run errand.Run) {
	log := r.Log.With("agent", run.Agent, "run", run.ID)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &attempt{cancel: cancel, done: make(chan struct{})}
	r.mu.Lock()
	r.active[run.ID] = a
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.active, run.ID)
		r.mu.Unlock()
		close(a.done)
	}()

	result, err := r.attempt(ctx, cancel, run)
	for pause := (store.Pause{}); errors.Is(err, store.ErrFull) || errors.Is(err, errHeld); result, err = r.attempt(ctx, cancel, run) {
		if errors.Is(err, errHeld) {
			if r.setAside(ctx, log, run) {
				return
			}
			continue
		}
		log.Warn("a run waits for room on the disk", "in", pause.Next(), "error", err)
		if !pause.Wait(ctx.Done()) {
			break
		}
	}
	cause := context.Cause(ctx)
	if err != nil && cause != nil && !called(cause) {
		log.Info("the run goes on at the next start")
		return
	}
	status, failure := outcome(err, cause)
	if err != nil && status == errand.RunFailed {
		log.Warn("run failed", "error", err)
	}
	failure, result = r.redacted(failure), r.Redactor.String(result)
	r.writeEnd(ctx, log, func(ctx context.Context) error { return r.finish(ctx, run, status, result, failure) })
}

// called says whether the run itself was to end, rather than the server.
func called(cause error) bool {
	return errors.Is(cause, errCancelled) || errors.Is(cause, errExpired)
}

// redacted gives an error as it may stand in the run's row, which like the result
// does not pass the journal.
func (r *Runner) redacted(e *errand.Error) *errand.Error {
	if e == nil {
		return nil
	}
	clean := *e
	clean.Message, clean.Output = r.Redactor.String(e.Message), r.Redactor.String(e.Output)
	return &clean
}

// writeEnd makes sure that a run's end is written, whoever cancels meanwhile:
// with a full disk it waits for room, until the server ends.
func (r *Runner) writeEnd(ctx context.Context, log *slog.Logger, write func(context.Context) error) {
	for pause := (store.Pause{}); ; {
		err := write(context.WithoutCancel(ctx))
		if err == nil || errand.KindOf(err) == errand.NotFound {
			return
		}
		log.Error("cannot write the end of the run; trying again", "in", pause.Next(), "error", err)
		if !pause.Wait(r.ending) {
			return // the run is taken up again at the next start
		}
	}
}

// outcome gives the status that a drive ends in.
func outcome(err, cause error) (errand.RunStatus, *errand.Error) {
	switch {
	case err == nil:
		return errand.RunFinished, nil
	case errors.Is(cause, errCancelled):
		return errand.RunCancelled, nil
	case errors.Is(cause, errExpired):
		return errand.RunExpired, errand.Errorf(errand.Limited, "run_expired", "The run reached its time limit and was stopped. What the agent did is still in its machine; a follow-up goes on from there.")
	}
	return errand.RunFailed, errand.AsError(err)
}

// attempt is drive's way from top to bottom.
func (r *Runner) attempt(ctx context.Context, cancel context.CancelCauseFunc, run errand.Run) (string, error) {
	started, err := r.advance(ctx, run, errand.RunPreparing)
	if err != nil {
		return "", err
	}
	// Asked as of now: a cancel may have come since the claim, when nobody could
	// be stopped yet.
	if started.CancelAsked || started.Status.Ended() {
		cancel(errCancelled)
		r.quiet(context.WithoutCancel(ctx), run)
		return "", errCancelled
	}
	held, err := r.heldSince(ctx, started)
	if err != nil {
		return "", err
	}
	expiry := time.AfterFunc(time.Until(started.StartedAt.Add(r.Defaults.RunLimit+held)), func() { cancel(errExpired) })
	defer expiry.Stop()

	result, err := r.inMachine(ctx, run)
	if err != nil && called(context.Cause(ctx)) {
		r.quiet(context.WithoutCancel(ctx), run)
	}
	return result, err
}

// inMachine does the run's work in the agent's machine. A machine that dies
// meanwhile is woken on its own disk, and the work goes on.
func (r *Runner) inMachine(ctx context.Context, run errand.Run) (string, error) {
	for life := 1; ; life++ {
		result, err := r.oneLife(ctx, run)
		if err == nil || ctx.Err() != nil || !died(err) {
			return result, err
		}
		if life == maxLives {
			return "", errand.Errorf(errand.Unavailable, "machine_lost",
				"The agent's machine ended %d times while the run was under way, most likely for want of memory. Give it more with --memory, or look with: errand exec %s -- dmesg (%w)", life, run.Agent, err)
		}
		r.lose(ctx, run.Agent, run.ID, err)
	}
}

// died says whether err means that the machine's processes are gone.
func died(err error) bool {
	return errors.Is(err, machine.ErrStopped) || errors.Is(err, machine.ErrNotFound) || errors.Is(err, guest.ErrRebooted)
}

func (r *Runner) oneLife(ctx context.Context, run errand.Run) (string, error) {
	p, err := r.wake(ctx, run.Agent, run.ID)
	if err != nil {
		return "", err
	}
	defer p.release()
	if _, err := r.advance(ctx, run, errand.RunRunning); err != nil {
		return "", err
	}
	result, err := r.workPhase(ctx, run, p)
	if err != nil {
		return "", err
	}
	return result, r.settle(ctx, run, p)
}

// workPhase lets the model work.
func (r *Runner) workPhase(ctx context.Context, run errand.Run, p *place) (string, error) {
	agent, err := r.Store.Agent(ctx, run.Agent)
	if err != nil {
		return "", err
	}
	events, err := r.Journal.All(ctx, run.Agent)
	if err != nil {
		return "", err
	}
	chosen, err := modelOf(events, run.ID)
	if err != nil {
		return "", err
	}
	model, entry, err := r.Models.Model(ctx, chosen.ID)
	if err != nil {
		return "", err
	}
	if result, done := workDone(events, run.ID); done {
		return result, nil
	}
	s := p.now()
	if s.line == nil {
		return "", guest.ErrRebooted
	}
	rules, err := loop.Rules(ctx, s.line, root)
	if err != nil {
		return "", fmt.Errorf("reading the repository's rules: %w", err)
	}
	tools := tool.New(tool.Options{
		Line: s.line, Root: root, User: s.environment.User, Env: s.env, Redactor: r.Redactor,
		ReadOnly: run.Mode == loop.ModePlan, Builder: r.builder(agent, run.ID), Log: r.Log,
	})
	of := usageOf(agent)
	of.Person = askedBy(events, run.ID, agent.Caller).Person()
	var result string
	err = r.phase(ctx, run, errand.PhaseWork, "", func() (string, error) {
		out, err := loop.Run(ctx, loop.Options{
			Run: run.ID, Model: model, ModelName: entry.ID, Entry: entry, Params: chosen.Params,
			Tools: tools, Boot: s.boot, Key: string(agent.ID),
			System: loop.System(systemInput(agent, run, s, rules)),
			Events: events, MaxTurns: r.Defaults.MaxTurns, Log: r.Log,
			Ready: func(ctx context.Context) error { return r.unheldNow(ctx, agent) },
			Record: func(ctx context.Context, facts ...errand.Fact) ([]errand.Event, error) {
				return r.Journal.Decide(ctx, func(t *journal.Tx) error {
					if err := unheld(t, run.Agent, agent.Takeovers, facts); err != nil {
						return err
					}
					if err := tellRun(t, run.Agent, run.ID, facts); err != nil {
						return err
					}
					return spend(t.Tx, of, entry, facts)
				})
			},
		})
		result = out.Result
		if err == nil {
			err = r.unheldNow(ctx, agent)
		}
		return result, err
	})
	return result, err
}

func systemInput(agent errand.Agent, run errand.Run, s standing, rules []loop.RuleFile) loop.SystemInput {
	in := loop.SystemInput{Root: root, Branch: agent.Branch, Rules: rules, Environment: s.notes, Mode: run.Mode, Artifacts: guest.Artifacts}
	if len(agent.Repositories) > 0 {
		in.Repository, in.Base = agent.Repositories[0].URL, orDefault(agent.Repositories[0].Ref, agent.Base)
	}
	for _, t := range s.environment.Terminals {
		in.Terminals = append(in.Terminals, t.Name+": "+t.Command)
	}
	return in
}

// modelOf gives the model that was chosen for a run: with its own prompt, or else
// with the last one before that said so, or when the agent was made. The agent's
// settings have that of its latest run, which may still wait.
func modelOf(events []errand.Event, run errand.RunID) (model errand.Model, err error) {
	for _, e := range events {
		var created errand.AgentCreated
		var queued struct {
			Model *errand.Model `json:"model"`
		}
		switch e.Kind {
		case errand.EventAgentCreated:
			err = json.Unmarshal(e.Data, &created)
			model = created.Agent.Settings.Model
		case errand.EventRunQueued:
			if err = json.Unmarshal(e.Data, &queued); queued.Model != nil {
				model = *queued.Model
			}
		}
		if err != nil {
			return model, fmt.Errorf("reading event %d: %w", e.Seq, err)
		}
		if e.Kind == errand.EventRunQueued && e.Run == run {
			break
		}
	}
	return model, nil
}

// askedBy gives who asked for a run: not always whose agent it is.
func askedBy(events []errand.Event, run errand.RunID, owner errand.Caller) errand.Caller {
	for _, e := range events {
		var queued struct {
			Caller errand.Caller `json:"caller"`
		}
		if e.Kind == errand.EventRunQueued && e.Run == run && json.Unmarshal(e.Data, &queued) == nil && queued.Caller.Key != "" {
			return queued.Caller
		}
	}
	return owner
}

// workDone says whether the run's work phase has ended well in an earlier life
// of ours, and with which result.
func workDone(events []errand.Event, run errand.RunID) (string, bool) {
	for i := len(events) - 1; i >= 0; i-- {
		e := events[i]
		if e.Run != run || e.Kind != errand.EventPhaseEnded {
			continue
		}
		var d errand.PhaseEnded
		if json.Unmarshal(e.Data, &d) == nil && d.Phase == errand.PhaseWork && d.Error == nil {
			return d.Note, true
		}
	}
	return "", false
}

// quiet ends what the run still has going in the machine: its commands, and those
// of its preparing unless somebody else waits for that now. The terminals that
// people share go on.
func (r *Runner) quiet(ctx context.Context, run errand.Run) {
	p := r.placeOf(run.Agent)
	line := p.current()
	if line == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	unprepared := p.preparing.TryAcquire(1)
	if unprepared {
		defer p.preparing.Release(1)
	}
	processes, err := line.Processes(ctx)
	if err != nil {
		return // the machine is gone, and they with it
	}
	for _, proc := range processes {
		if proc.Exit == nil && (ofRun(proc.ID, run.ID) || unprepared && environment.Hangs(proc.ID)) {
			if err := line.Signal(ctx, proc.ID, "KILL"); err != nil {
				r.Log.Warn("cannot end a command of a cancelled run", "run", run.ID, "command", proc.ID, "error", err)
			}
		}
	}
}

func ofRun(op string, run errand.RunID) bool {
	return len(op) > len(run) && op[:len(run)] == string(run)
}

// advance moves a run to preparing or running unless it is there already, and
// gives it as it is now.
func (r *Runner) advance(ctx context.Context, run errand.Run, next errand.RunStatus) (errand.Run, error) {
	var now errand.Run
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) (err error) {
		if now, err = t.Run(ctx, run.Agent, run.ID); err != nil {
			return err
		}
		if !now.Status.MayBecome(next) {
			return nil // an earlier life of ours was further already
		}
		now.Status = next
		if now.StartedAt.IsZero() {
			now.StartedAt = t.Now()
		}
		agent, err := t.Agent(ctx, run.Agent)
		if err != nil {
			return err
		}
		if next == errand.RunRunning {
			now.Build = agent.Build
		}
		if err := t.UpdateRun(now); err != nil {
			return err
		}
		return t.Tell(run.Agent, run.ID, errand.Fact{Kind: errand.EventRunStatus, Data: errand.RunStatusData{Status: next, Build: now.Build}})
	})
	return now, err
}

// finish writes the end of a run, unless it has one.
func (r *Runner) finish(ctx context.Context, run errand.Run, status errand.RunStatus, result string, failure *errand.Error) error {
	_, err := r.Journal.Decide(ctx, func(t *journal.Tx) error {
		now, err := t.Run(ctx, run.Agent, run.ID)
		if err != nil || now.Status.Ended() {
			return err
		}
		return r.endRun(t, now, status, result, failure)
	})
	return err
}

// endRun writes a run's end, and the agent's rest if nothing else waits.
func (r *Runner) endRun(t *journal.Tx, run errand.Run, status errand.RunStatus, result string, failure *errand.Error) error {
	run.Status, run.Result, run.Error, run.Phase, run.EndedAt = status, result, failure, "", t.Now()
	if err := t.UpdateRun(run); err != nil {
		return err
	}
	if err := t.Release(run.ID); err != nil {
		return err
	}
	if err := r.Builds.EndRun(t, run.ID, failure); err != nil {
		return err
	}
	from := run.StartedAt
	if from.IsZero() {
		from = run.CreatedAt
	}
	usage := run.Usage
	if err := t.Tell(run.Agent, run.ID, errand.Fact{Kind: errand.EventRunStatus, Data: errand.RunStatusData{
		Status: status, Result: result, Error: failure, DurationMs: t.Now().Sub(from).Milliseconds(), Usage: &usage,
	}}); err != nil {
		return err
	}
	return rest(t, run.Agent)
}

// rest makes an active agent idle when it has no run left to do.
func rest(t *journal.Tx, id errand.AgentID) error {
	ctx := t.Context()
	busy, err := t.BusyRuns(ctx, id)
	if err != nil || len(busy) > 0 {
		return err
	}
	agent, err := t.Agent(ctx, id)
	if err != nil || agent.Status != errand.AgentActive {
		return err
	}
	return setStatus(ctx, t, id, errand.AgentIdle)
}

// tell appends facts of a run and brings the run's row along: its phase, its
// usage.
func (r *Runner) tell(ctx context.Context, agent errand.AgentID, run errand.RunID, facts ...errand.Fact) ([]errand.Event, error) {
	return r.Journal.Decide(ctx, func(t *journal.Tx) error { return tellRun(t, agent, run, facts) })
}

func tellRun(t *journal.Tx, agent errand.AgentID, run errand.RunID, facts []errand.Fact) error {
	if err := unheld(t, agent, anyTakeovers, facts); err != nil {
		return err
	}
	if err := along(t.Context(), t.Tx, agent, run, facts); err != nil {
		return err
	}
	return t.Tell(agent, run, facts...)
}

func along(ctx context.Context, t *store.Tx, agent errand.AgentID, id errand.RunID, facts []errand.Fact) error {
	var phase *errand.Phase
	var used errand.Usage
	for _, f := range facts {
		switch d := f.Data.(type) {
		case errand.PhaseStarted:
			phase = &d.Phase
		case errand.PhaseEnded:
			phase = new(errand.Phase)
		case errand.TurnEnded:
			used = used.Add(d.Usage)
		case errand.Compacted:
			used = used.Add(d.Usage)
		}
	}
	if id == "" || phase == nil && used == (errand.Usage{}) {
		return nil
	}
	run, err := t.Run(ctx, agent, id)
	if err != nil {
		return err
	}
	if phase != nil {
		run.Phase = *phase
	}
	run.Usage = run.Usage.Add(used)
	return t.UpdateRun(run)
}

// phase runs do between the events that open and close a phase. do gives a note
// for people.
func (r *Runner) phase(ctx context.Context, run errand.Run, name errand.Phase, command string, do func() (string, error)) error {
	if _, err := r.tell(ctx, run.Agent, run.ID, errand.Fact{Kind: errand.EventPhaseStarted, Data: errand.PhaseStarted{Phase: name, Command: command}}); err != nil {
		return err
	}
	began := time.Now()
	note, err := do()
	if err != nil && (ctx.Err() != nil || died(err) || errors.Is(err, store.ErrFull) || errors.Is(err, errHeld)) {
		return err // the phase is entered again, or the run's end says why not
	}
	_, tellErr := r.tell(ctx, run.Agent, run.ID, errand.Fact{Kind: errand.EventPhaseEnded, Data: errand.PhaseEnded{
		Phase: name, DurationMs: time.Since(began).Milliseconds(), Note: note, Error: errand.AsError(err),
	}})
	return errors.Join(err, tellErr)
}
