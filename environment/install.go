package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
)

// shell runs $1 in bash where there is one and in sh elsewhere: what people
// write is meant for bash. It is no login shell, whose profile would undo the
// PATH of the image.
const shell = `if command -v bash >/dev/null 2>&1; then exec bash -c "$1"; fi; exec sh -c "$1"`

// Shell gives the arguments by which install, start and other commands of people
// are run in a machine.
func Shell(command string) []string { return []string{"/bin/sh", "-c", shell, "sh", command} }

// install runs the install command unless the disk has it already.
func (w *work) install(ctx context.Context) error {
	if w.ready() {
		return nil
	}
	switch {
	case w.env.Install == "":
		return w.skip(ctx, "there is no install command", errand.PhaseInstall)
	case (w.disk.Installed || w.installedHere()) && !w.progress.open(errand.PhaseInstall):
		return w.skip(ctx, w.whyNot(), errand.PhaseInstall)
	}
	return w.phase(ctx, errand.PhaseInstall, w.env.Install, w.runInstall)
}

func (w *work) runInstall(ctx context.Context) (outcome, error) {
	known, err := latest(ctx, w.line, "install")
	if err != nil {
		return outcome{}, err
	}
	// One that has failed counts only for the run that saw it begin: a later
	// run is there to try again.
	begun := w.progress.open(errand.PhaseInstall) && !w.progress.phases[errand.PhaseInstall].fresh
	joins := known != nil && (known.Exit == nil || known.Exit.Code == 0 || begun)
	switch {
	case (w.disk.Installed || w.installedHere()) && !(joins && begun):
		return outcome{cached: true, note: w.whyNot()}, nil
	case joins:
		return w.follow(ctx, known.ID, w.progress.phases[errand.PhaseInstall].end)
	case known != nil:
		if err := w.line.Forget(ctx, known.ID); err != nil {
			return outcome{}, err
		}
	}
	if w.progress.done(errand.PhaseInstall) || w.progress.phases[errand.PhaseInstall].end > 0 {
		// What the journal has is of an install whose machine was started anew,
		// or lost.
		if err := w.begin(ctx, errand.PhaseInstall, w.env.Install); err != nil {
			return outcome{}, err
		}
	}
	if err := w.checkoutBase(ctx); err != nil {
		return outcome{}, err
	}
	return w.follow(ctx, newID("install"), 0)
}

// follow runs or joins the install under id, records its output past from, and
// notes its success on the disk.
func (w *work) follow(ctx context.Context, id string, from int64) (outcome, error) {
	t := &transcript{phase: errand.PhaseInstall, record: w.Record, redactor: w.Redactor, from: from}
	exit, err := w.transcribe(ctx, t, guest.Command{
		ID: id, Args: Shell(w.env.Install),
		Dir: Root, User: w.env.User, Env: w.Env, Limit: w.InstallLimit,
	})
	if err != nil {
		return outcome{}, err
	}
	facts, err := t.rest()
	if err != nil {
		return outcome{}, err
	}
	o := outcome{facts: facts, note: w.whyRan()}
	if exit.TimedOut || exit.Code != 0 {
		return o, w.installError(exit, t.lastWords())
	}
	w.installed = true
	w.state = state{Stage: stageInstalled, Key: w.key}
	return o, w.state.write(ctx, w.line)
}

// transcribe runs a command, or joins it, while its output is recorded.
func (w *work) transcribe(ctx context.Context, t *transcript, c guest.Command) (guest.Exit, error) {
	running, cancel := context.WithCancel(ctx)
	var recording sync.WaitGroup
	recording.Go(func() { t.follow(ctx, running.Done(), cancel) })
	exit, err := w.line.Run(running, c, t.take)
	cancel()
	recording.Wait()
	if t.err != nil {
		return exit, t.err
	}
	if errors.Is(err, guest.ErrNotStarted) {
		return exit, errand.Errorf(errand.Invalid, "install_failed", "The install command could not be started: %w. Check the environment's user and image.", err)
	}
	return exit, err
}

// whyRan says for people why install runs.
func (w *work) whyRan() string { return cmp.Or(w.disk.Note, "no snapshot for this key yet") }

// whyNot says for people why install need not run.
func (w *work) whyNot() string {
	if w.disk.Installed && w.disk.Note != "" {
		return w.disk.Note
	}
	return "the snapshot " + Short(w.state.Key) + " has it"
}

func (w *work) installError(exit guest.Exit, output string) error {
	code := exit.Code
	e := errand.Errorf(errand.Invalid, "install_failed",
		"The install command ended with exit code %d: %s. Its output is below; the machine is kept, to look into. Correct the command or what it runs; then send a follow-up, or build again.", code, firstLine(w.env.Install))
	switch {
	case exit.TimedOut:
		e = errand.Errorf(errand.Invalid, "install_timeout",
			"The install command did not end within %s and was stopped: %s. It may wait for input or for a server that it started; put servers into start or terminals.", w.InstallLimit, firstLine(w.env.Install))
	case exit.Signal != "":
		e = errand.Errorf(errand.Invalid, "install_failed",
			"The install command was ended by the signal %s: %s. KILL often means that the machine ran out of memory.", exit.Signal, firstLine(w.env.Install))
	case exit.Unknown:
		e = errand.Errorf(errand.Unavailable, "install_failed",
			"It could not be learned how the install command ended: %s. Send a follow-up to run it again.", firstLine(w.env.Install))
	}
	e.Output, e.ExitCode = output, &code
	return e
}

// snapshot keeps the disk that install left and goes on upon it.
func (w *work) snapshot(ctx context.Context) error {
	switch {
	case w.ready():
		return nil
	case w.env.Install == "":
		return w.skip(ctx, "nothing was installed", errand.PhaseSnapshot)
	case w.disk.Installed && w.progress.open(errand.PhaseSnapshot):
		// It was kept, but that was not recorded any more.
		return w.phase(ctx, errand.PhaseSnapshot, "", func(context.Context) (outcome, error) {
			return outcome{note: Short(w.disk.From)}, nil
		})
	case w.disk.Installed:
		w.leave()
		return w.skip(ctx, Short(w.disk.From), errand.PhaseSnapshot)
	}
	if _, ok := w.machine.(machine.Snapshotter); !ok {
		w.leave()
		return w.skip(ctx, "this kind of machine has no snapshots", errand.PhaseSnapshot)
	}
	return w.phase(ctx, errand.PhaseSnapshot, "", func(ctx context.Context) (outcome, error) {
		m := w.machine.(machine.Snapshotter)
		name := w.keptAs()
		w.line = nil
		w.Closed()
		if leaks, err := search(ctx, w.machine, w.Guarded); err != nil || len(leaks) > 0 {
			w.leave()
			if w.only { // a build is its disk
				return outcome{}, errors.Join(err, secretOnDisk(leaks))
			}
			if err = errors.Join(err, w.bringUp(ctx, "")); err == nil {
				w.key, w.state.Key = "", "" // nothing is kept under it
				err = w.state.write(ctx, w.line)
			}
			return w.unkept(leaks), err
		}
		if err := m.Snapshot(ctx, name); err != nil {
			return outcome{}, fmt.Errorf("keeping the disk: %w", err)
		}
		w.leave()
		if w.only {
			return outcome{note: Short(name)}, nil
		}
		return outcome{note: Short(name)}, w.bringUp(ctx, name)
	})
}

// keptAs is the name of the disk that install leaves.
func (w *work) keptAs() machine.SnapshotKey { return cmp.Or(w.Keep, w.key) }

// latest gives the newest command of a purpose that the guest knows, or nil.
func latest(ctx context.Context, line *guest.Line, purpose string) (*guest.Process, error) {
	processes, err := line.Processes(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking what the machine runs: %w", err)
	}
	for i := len(processes) - 1; i >= 0; i-- {
		if strings.HasPrefix(processes[i].ID, idPrefix(purpose)) {
			return &processes[i], nil
		}
	}
	return nil, nil
}
