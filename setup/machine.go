package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/runner"
	"github.com/errand-dev/errand/secret"
)

// part gives the text of an environment that asks for some of a draft: its base,
// and install where that is wanted; never start, terminals or ports.
func part(setup errand.Setup, install bool) (string, error) {
	e, _, err := file.Parse(pathOf(setup), []byte(setup.Draft))
	if err != nil {
		return "", err
	}
	less := file.Environment{
		User: e.User, Image: e.Image, Snapshot: e.Snapshot, Build: e.Build, Env: e.Env,
		RepositoryDependencies: e.RepositoryDependencies, EgressAllowlist: e.EgressAllowlist, EgressMode: e.EgressMode,
	}
	if install {
		less.Install = e.Install
	}
	text, err := json.Marshal(less)
	return string(text), err
}

// request is what a setup's agents have in common.
func request(setup errand.Setup, id errand.AgentID, what, text string) runner.StartRequest {
	name := strings.TrimSuffix(path.Base(setup.Repository.URL), ".git")
	return runner.StartRequest{
		ID: id, Name: fmt.Sprintf("Setup of %s: %s", name, what),
		Repositories: []errand.Repository{{URL: setup.Repository.URL, Ref: setup.Commit}},
		Settings:     errand.Settings{Engine: setup.Engine, EnvironmentJSON: text, Unpublished: true},
	}
}

// open makes the machine in which a person works on the draft.
func (s *Setups) open(ctx context.Context, setup *errand.Setup) error {
	text, err := part(*setup, false)
	if err != nil {
		return err
	}
	if setup.Machine == "" {
		setup.Machine = errand.NewAgentID()
		if err := s.keep(ctx, setup); err != nil {
			return err
		}
	}
	if _, err := s.Runner.Make(ctx, setup.Caller, request(*setup, setup.Machine, "draft", text)); err != nil {
		return err
	}
	relay := &relay{setups: s, setup: setup.ID, phases: []errand.Phase{errand.PhaseImage, errand.PhaseMachine, errand.PhaseCheckout}}
	if err := relay.during(ctx, setup.Machine, func() error { return s.Runner.Wake(ctx, setup.Caller, setup.Machine) }); err != nil {
		return err
	}
	if err := s.Runner.WriteFile(ctx, setup.Caller, setup.Machine, pathOf(*setup), []byte(setup.Draft)); err != nil {
		return err
	}
	return s.put(ctx, setup, errand.SetupProposed, "the machine is open")
}

// relay carries the phases of an agent's machine into a setup's journal, so that
// people follow one journal.
type relay struct {
	setups *Setups
	setup  errand.SetupID
	phases []errand.Phase // which; others are not for people who set up
	after  errand.Seq
	steps  []errand.ProofStep // of the phases that ended
	output map[errand.Phase]string
	cmd    map[errand.Phase]string
}

// during carries while do runs, and what is left afterwards. It gives do's error.
func (r *relay) during(ctx context.Context, agent errand.AgentID, do func() error) error {
	r.output, r.cmd = map[errand.Phase]string{}, map[errand.Phase]string{}
	events, err := r.setups.Journal.All(ctx, agent)
	if err != nil {
		return err
	}
	if n := len(events); n > 0 {
		r.after = events[n-1].Seq
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	var carrying sync.WaitGroup
	var lost error
	carrying.Go(func() {
		for e, err := range r.setups.Journal.Follow(following, agent, r.after) {
			if err != nil || following.Err() != nil {
				return
			}
			if lost = r.carry(following, e); lost != nil {
				return
			}
		}
	})
	err = do()
	stop()
	carrying.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	rest, readErr := r.setups.Store.Events(ctx, agent, r.after, 10_000)
	for _, e := range rest {
		if readErr == nil {
			readErr = r.carry(ctx, e)
		}
	}
	if err != nil {
		return err
	}
	return readErr
}

// carry writes one event into the setup's journal, if it is for there.
func (r *relay) carry(ctx context.Context, e errand.Event) error {
	switch e.Kind {
	case errand.EventPhaseStarted, errand.EventPhaseOutput, errand.EventPhaseEnded, errand.EventNotice:
	default:
		r.after = e.Seq
		return nil
	}
	var d struct {
		Phase      errand.Phase
		Command    string
		Text       string
		DurationMs int64
		Cached     bool
		Note       string
		Level      string
		Error      *errand.Error
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return fmt.Errorf("reading event %d of %s: %w", e.Seq, e.Agent, err)
	}
	wanted := false
	for _, p := range r.phases {
		wanted = wanted || p == d.Phase
	}
	switch e.Kind {
	case errand.EventPhaseStarted:
		r.cmd[d.Phase] = d.Command
	case errand.EventPhaseOutput:
		r.output[d.Phase] = tail(r.output[d.Phase]+d.Text, maxOutput)
	case errand.EventPhaseEnded:
		if !wanted {
			break
		}
		step := errand.ProofStep{Phase: d.Phase, Command: r.cmd[d.Phase], DurationMs: d.DurationMs, Cached: d.Cached, Note: d.Note, Output: r.output[d.Phase], Failed: d.Error != nil}
		if d.Error != nil {
			step.ExitCode = d.Error.ExitCode
		}
		r.steps = append(r.steps, step)
	default:
		wanted = d.Level == "warning"
	}
	if wanted {
		if _, err := r.setups.Journal.Append(ctx, r.setup, "", errand.Fact{Kind: e.Kind, Data: e.Data}); err != nil {
			return err
		}
	}
	r.after = e.Seq
	return nil
}

const (
	maxOutput = 16 << 10 // bytes of a command's output that a step keeps
	maxTold   = 1 << 20  // bytes of it that the journal has
)

func tail(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return text
}

// command is one command of a proof, under an id that does not change.
type command struct {
	id    string
	phase errand.Phase
	text  string
	limit time.Duration
}

// run runs a command in an agent's machine, or joins it where an earlier process
// began it, as a phase of the setup. A command that fails gives a step that says
// so, and no error.
func (s *Setups) run(ctx context.Context, setup *errand.Setup, agent errand.AgentID, c command) (errand.ProofStep, error) {
	step := errand.ProofStep{Phase: c.phase, Command: c.text}
	if _, err := s.Journal.Append(ctx, setup.ID, "", errand.Fact{Kind: errand.EventPhaseStarted, Data: errand.PhaseStarted{Phase: c.phase, Command: c.text}}); err != nil {
		return step, err
	}
	began := time.Now()
	told := &told{setups: s, setup: setup.ID, phase: c.phase}
	exit, err := s.Runner.Exec(ctx, setup.Caller, agent, runner.ExecRequest{ID: c.id, Args: environment.Shell(c.text), Limit: c.limit}, func(o guest.Output) { told.take(ctx, o) })
	if err != nil {
		return step, fmt.Errorf("running %s: %w", c.phase, err)
	}
	if err := told.end(ctx); err != nil {
		return step, err
	}
	step.DurationMs, step.ExitCode = time.Since(began).Milliseconds(), &exit.Code
	step.Output = s.Redactor.String(tail(strings.ToValidUTF8(string(told.all), ""), maxOutput))
	end := errand.PhaseEnded{Phase: c.phase, DurationMs: step.DurationMs, Note: "ended well"}
	switch {
	case exit.TimedOut:
		step.Failed, step.Note = true, fmt.Sprintf("did not end within %s", c.limit)
	case exit.Signal != "":
		step.Failed, step.Note = true, "was ended by signal "+exit.Signal
	case exit.Code != 0:
		step.Failed, step.Note = true, fmt.Sprintf("ended with exit code %d", exit.Code)
	}
	if step.Failed {
		end.Note, end.Error = "", failure(step)
	}
	_, err = s.Journal.Append(ctx, setup.ID, "", errand.Fact{Kind: errand.EventPhaseEnded, Data: end})
	return step, err
}

// told writes a command's output into a setup's journal, in pieces.
type told struct {
	setups *Setups
	setup  errand.SetupID
	phase  errand.Phase
	all    []byte // its end
	piece  []byte
	count  int // bytes told
	wrote  time.Time
	err    error
}

func (t *told) take(ctx context.Context, o guest.Output) {
	t.all = append(t.all, o.Data...)
	t.all = t.all[max(0, len(t.all)-2*maxOutput):]
	if t.count+len(t.piece) < maxTold {
		t.piece = append(t.piece, o.Data...)
	}
	if len(t.piece) > 4<<10 || time.Since(t.wrote) > 200*time.Millisecond {
		t.flush(ctx)
	}
}

// flush writes what there is of whole characters.
func (t *told) flush(ctx context.Context) {
	n := len(t.piece)
	for n > 0 && n > len(t.piece)-utf8.UTFMax && !utf8.Valid(t.piece[:n]) {
		n--
	}
	if n == 0 || t.err != nil {
		return
	}
	text := strings.ToValidUTF8(string(t.piece[:n]), "\uFFFD")
	t.piece = append([]byte(nil), t.piece[n:]...)
	t.count += n
	t.wrote = time.Now()
	_, t.err = t.setups.Journal.Append(ctx, t.setup, "", errand.Fact{Kind: errand.EventPhaseOutput, Data: errand.PhaseOutput{Phase: t.phase, Text: text}})
}

func (t *told) end(ctx context.Context) error {
	t.flush(ctx)
	return t.err
}

// fromMachine takes the draft from the file in the opened machine, and a verify
// command if one was left there.
func (s *Setups) fromMachine(ctx context.Context, setup *errand.Setup) error {
	text, ok, err := s.cat(ctx, *setup, pathOf(*setup))
	if err != nil {
		return err
	}
	if !ok {
		return errand.Errorf(errand.Conflict, "no_environment_file", "There is no %s in the machine. Write it there, or edit the draft: errand setup edit %s", pathOf(*setup), setup.ID)
	}
	if _, _, err := file.Parse(pathOf(*setup), []byte(text)); err != nil {
		return err
	}
	verify, ok, err := s.cat(ctx, *setup, verifyFile)
	if err != nil {
		return err
	}
	setup.Draft = text
	if verify = strings.TrimSpace(verify); ok && verify != "" && len(verify) <= maxCommand {
		setup.Verify = verify
	}
	return nil
}

// verifyFile is where a model leaves another verify command, in its machine.
const verifyFile = "/tmp/errand-verify"

// maxDraft bounds a draft, in bytes: what package file reads.
const maxDraft = 256 << 10

// cat gives a file of the opened machine. One that holds a secret is refused: it
// comes without the value, and would not be what was tried there.
func (s *Setups) cat(ctx context.Context, setup errand.Setup, name string) (text string, found bool, err error) {
	const script = `[ -f "$1" ] || exit 44; exec head -c "$2" -- "$1"`
	var out []byte
	exit, err := s.Runner.Exec(ctx, setup.Caller, setup.Machine, runner.ExecRequest{
		Args: []string{"/bin/sh", "-c", script, "sh", name, fmt.Sprint(maxDraft + 1)}, Limit: time.Minute,
	}, func(o guest.Output) {
		if !o.Stderr && len(out) <= maxDraft {
			out = append(out, o.Data...)
		}
	})
	switch {
	case err != nil:
		return "", false, err
	case exit.Code == 44:
		return "", false, nil
	case exit.Code != 0 || len(out) > maxDraft:
		return "", false, errand.Errorf(errand.Conflict, "no_environment_file", "%s in the machine cannot be read, or has more than %d bytes.", name, maxDraft)
	}
	if before, _, hidden := bytes.Cut(out, []byte(secret.Redacted)); hidden {
		return "", false, errand.Errorf(errand.Invalid, "secret_in_file", "%s in the machine has the value of a secret in line %d (%s here), so it was not taken. Write the variable's name there instead: what runs in the machine finds the value in it.", name, 1+bytes.Count(before, []byte("\n")), secret.Redacted)
	}
	return strings.ToValidUTF8(string(out), "\uFFFD"), true, nil
}
