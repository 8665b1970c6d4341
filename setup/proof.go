package setup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment/file"
)

// againLimit is how long the second install may take.
const againLimit = 30 * time.Minute

// prove shows a draft in clean machines, when it is its turn: it loads the host
// as a build does, so it takes one of the builds' places. Entered again it begins
// anew, on new machines: what an interrupted proof left goes first.
func (s *Setups) prove(ctx context.Context, setup *errand.Setup) error {
	e, _, err := file.Parse(pathOf(*setup), []byte(setup.Draft))
	if err != nil {
		return err
	}
	if p := setup.Proof; p != nil {
		for _, agent := range []errand.AgentID{p.Installing, p.Agent} {
			if err := s.remove(ctx, *setup, agent); err != nil {
				return err
			}
		}
	}
	leave, err := s.Runner.Builds.Slot(ctx, func() error {
		_, err := s.Journal.Append(ctx, setup.ID, "", errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{
			Level: "info", Text: "As many builds and proofs are under way as this server makes at once; the proof waits for its turn."}})
		return err
	})
	if err != nil {
		return err
	}
	defer leave()
	p := &errand.Proof{Draft: setup.Draft, Verify: setup.Verify, StartedAt: time.Now().UTC().Truncate(time.Millisecond), Agent: errand.NewAgentID()}
	if e.Install != "" {
		p.Installing = errand.NewAgentID()
	}
	setup.Proof = p
	if err := s.keep(ctx, setup); err != nil {
		return err
	}
	failed, err := s.show(ctx, setup, e)
	if err != nil && ctx.Err() == nil {
		failed = s.redacted(errand.AsError(err))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if removed := s.remove(ctx, *setup, p.Installing); removed != nil {
		return removed
	}
	p.Installing = ""
	p.EndedAt, p.OK = time.Now().UTC().Truncate(time.Millisecond), failed == nil
	setup.Error = failed
	if failed == nil {
		return s.put(ctx, setup, errand.SetupProved, "the draft works")
	}
	if setup.Mode == errand.SetupAgent && setup.Tries < setup.LastTry {
		try(setup, false)
		return s.put(ctx, setup, errand.SetupWorking, "the model is told what the proof showed")
	}
	return s.put(ctx, setup, errand.SetupProposed, "the proof failed")
}

// show goes through a proof and notes its steps. failed says what of the draft
// does not work; err is another fault.
func (s *Setups) show(ctx context.Context, setup *errand.Setup, e *file.Environment) (failed *errand.Error, err error) {
	steps := []func(context.Context, *errand.Setup, *file.Environment) (*errand.Error, error){s.showInstall, s.showStart, s.showPorts, s.showVerify, s.showTerminals}
	for _, step := range steps {
		if failed, err = step(ctx, setup, e); failed != nil || err != nil {
			return failed, err
		}
	}
	return nil, nil
}

// noted keeps steps in the row, and gives the failure of the first that failed.
func (s *Setups) noted(ctx context.Context, setup *errand.Setup, steps ...errand.ProofStep) (*errand.Error, error) {
	setup.Proof.Steps = append(setup.Proof.Steps, steps...)
	if err := s.keep(ctx, setup); err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(steps, func(step errand.ProofStep) bool { return step.Failed }); i >= 0 {
		return failure(steps[i]), nil
	}
	return nil, nil
}

// failure says what a failed step means for the draft.
func failure(step errand.ProofStep) *errand.Error {
	code, advice := "proof_failed", "Correct the draft and prove it again."
	what := string(step.Phase)
	switch step.Phase {
	case errand.PhaseAgain:
		code, what = "install_not_repeatable", "install, run a second time on the disk that it had left,"
		advice = "Builds run it on top of earlier disks, so it has to succeed there too: make it take what is there (mkdir -p, ln -sf, rm -f before it makes a thing)."
	case errand.PhaseVerify:
		code, what = "verify_failed", "The verify command"
		advice = "Look into the machine, correct the draft or the command, and prove it again."
	case errand.PhaseStart:
		code = "start_failed"
	case errand.PhaseTerminals:
		code = "terminal_failed"
	}
	e := errand.Errorf(errand.Invalid, code, "%s %s: %s. %s", what, step.Note, first(step.Command), advice)
	e.Output, e.ExitCode = step.Output, step.ExitCode
	return e
}

// first gives a command's first line.
func first(command string) string {
	line, more, _ := strings.Cut(command, "\n")
	if r := []rune(line); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	if more != "" {
		return line + "…"
	}
	return line
}

// showInstall runs install in a clean machine, and again on the disk it left.
func (s *Setups) showInstall(ctx context.Context, setup *errand.Setup, e *file.Environment) (*errand.Error, error) {
	if e.Install == "" {
		return nil, nil
	}
	text, err := part(*setup, true)
	if err != nil {
		return nil, err
	}
	r := request(*setup, setup.Proof.Installing, "install", text)
	r.Settings.Force = true
	if _, err := s.Runner.Make(ctx, setup.Caller, r); err != nil {
		return nil, err
	}
	relay := &relay{setups: s, setup: setup.ID, phases: []errand.Phase{errand.PhaseImage, errand.PhaseMachine, errand.PhaseInstall, errand.PhaseSnapshot}}
	err = relay.during(ctx, setup.Proof.Installing, func() error { return s.Runner.Wake(ctx, setup.Caller, setup.Proof.Installing) })
	if _, kept := s.noted(ctx, setup, relay.steps...); kept != nil {
		return nil, kept
	}
	if err != nil {
		return notInstalled(err, e.Install)
	}
	step, err := s.run(ctx, setup, setup.Proof.Installing, command{
		id: "again." + string(setup.Proof.Installing), phase: errand.PhaseAgain, text: e.Install, limit: againLimit,
	})
	if err != nil {
		return nil, err
	}
	return s.noted(ctx, setup, step)
}

// notInstalled says of an install that failed in a clean machine what it means
// for the draft.
func notInstalled(err error, install string) (*errand.Error, error) {
	e := new(errand.Error)
	if !errors.As(err, &e) || e.Code != "install_failed" {
		return nil, err
	}
	how := "failed"
	if e.ExitCode != nil {
		how = fmt.Sprintf("ended with exit code %d", *e.ExitCode)
	}
	failed := errand.Errorf(errand.Invalid, e.Code, "install %s in a clean machine: %s. Correct the draft and prove it again.", how, first(install))
	failed.Output, failed.ExitCode = e.Output, e.ExitCode
	return failed, nil
}

// showStart makes the machine that agents would get, on the disk that install
// left, with start and terminals.
func (s *Setups) showStart(ctx context.Context, setup *errand.Setup, e *file.Environment) (*errand.Error, error) {
	agent := setup.Proof.Agent
	if _, err := s.Runner.Make(ctx, setup.Caller, request(*setup, agent, "proof", setup.Draft)); err != nil {
		return nil, err
	}
	var phases []errand.Phase
	if e.Install == "" {
		phases = append(phases, errand.PhaseImage, errand.PhaseMachine)
	}
	if e.Start != "" {
		phases = append(phases, errand.PhaseStart)
	}
	if len(e.Terminals) > 0 {
		phases = append(phases, errand.PhaseTerminals)
	}
	relay := &relay{setups: s, setup: setup.ID, phases: phases}
	err := relay.during(ctx, agent, func() error { return s.Runner.Wake(ctx, setup.Caller, agent) })
	if _, kept := s.noted(ctx, setup, relay.steps...); kept != nil || err != nil {
		if err != nil {
			return nil, err
		}
		return nil, kept
	}
	return s.ended(ctx, setup, file.StartTerminal, errand.PhaseStart, e.Start)
}

// ended gives the failure of a terminal whose command has ended badly.
func (s *Setups) ended(ctx context.Context, setup *errand.Setup, name string, phase errand.Phase, text string) (*errand.Error, error) {
	all, err := s.Runner.Terminals(ctx, setup.Caller, setup.Proof.Agent)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Name != name || t.Running || t.ExitCode == 0 {
			continue
		}
		code := t.ExitCode
		step := errand.ProofStep{
			Phase: phase, Command: text, ExitCode: &code, Failed: true,
			Note: fmt.Sprintf("(terminal %s) ended with exit code %d", name, code),
		}
		if _, err := s.Journal.Append(ctx, setup.ID, "", errand.Fact{Kind: errand.EventPhaseEnded, Data: errand.PhaseEnded{Phase: phase, Error: failure(step)}}); err != nil {
			return nil, err
		}
		return s.noted(ctx, setup, step)
	}
	return nil, nil
}

// showVerify runs the verify command.
func (s *Setups) showVerify(ctx context.Context, setup *errand.Setup, _ *file.Environment) (*errand.Error, error) {
	if setup.Verify == "" {
		return nil, nil
	}
	step, err := s.run(ctx, setup, setup.Proof.Agent, command{
		id: "verify." + string(setup.Proof.Agent), phase: errand.PhaseVerify, text: setup.Verify, limit: s.VerifyLimit,
	})
	if err != nil {
		return nil, err
	}
	return s.noted(ctx, setup, step)
}

// showTerminals looks whether the terminals' commands are still there, after
// the verify command gave them time.
func (s *Setups) showTerminals(ctx context.Context, setup *errand.Setup, e *file.Environment) (*errand.Error, error) {
	for _, t := range e.Terminals {
		if failed, err := s.ended(ctx, setup, t.Name, errand.PhaseTerminals, t.Command); failed != nil || err != nil {
			return failed, err
		}
	}
	return nil, nil
}
