package environment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/guest"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/secret"
)

// Root is where the project stands in every machine.
const Root = "/workspace"

// Preparation says what to make ready, and how Prepare reaches the conductor.
type Preparation struct {
	Driver  machine.Driver
	Machine machine.ID // always the same for one agent
	// Spec has the engine, the limits and what else the conductor decides.
	// Image, From, Progress, the variables of Environment and the mirror's mount
	// are set by Prepare.
	Spec        machine.Spec
	Environment *Environment
	// Image is the agent's own choice; it wins over the environment's. Where
	// neither names one DefaultImage is taken, and "host" without that.
	Image        string
	DefaultImage string
	// Mirror and Checkout are the repository at the agent's base commit. A nil
	// Mirror is none: Root is then a plain directory. Prepare sets Dir, Mirror
	// and User of Checkout.
	Mirror   *git.Mirror
	Checkout git.Checkout
	// Env are the agent's own variables, NAME=value, for install, start and
	// terminals. They are not kept on the disk or in the driver's records.
	Env []string
	// Keyed stand for Env in the key of the snapshot, as KeyInput.Variables.
	Keyed []KeyPart
	// Redactor takes the agent's secrets out of what is recorded; nil: none.
	Redactor *secret.Redactor
	// Guarded finds what no disk that is kept may contain; nil: nothing.
	Guarded *secret.Finder

	// Open connects with a machine that runs: it attaches the network and gives
	// the line, which stays the conductor's.
	Open func(context.Context, machine.Machine) (*guest.Line, error)
	// Closed lets the conductor drop line and network, before Prepare ends the
	// machine's processes.
	Closed func()
	// Record writes facts into the run's journal, all or none. It is called
	// from one goroutine at a time. An error ends Prepare; a phase that
	// store.ErrFull has stopped is not told as failed.
	Record func(context.Context, ...errand.Fact) error
	// Resolve gives an image's exact name: a reference with its digest, "host"
	// with its version, or for a snapshot (errand.SnapshotImage) that with its key, and
	// NotFound where there is none of that name.
	Resolve func(ctx context.Context, image string) (string, error)

	// Force runs install in a clean machine, also where a snapshot has it. The
	// snapshot that is there stays.
	Force bool

	// Disk finds the kept disk to start on; nil: the snapshot of exactly the key.
	Disk func(context.Context, Wanted) (Disk, error)
	// Keep is the name under which the disk that install leaves is kept; "" is
	// its key.
	Keep machine.SnapshotKey

	Progress Progress // what the journal has of this run
	Builds   *Builds  // shared by all preparations; nil: installs do not wait for each other
	// BuildSecrets are what a Dockerfile may mount, by id. They are in no layer
	// and decide no key.
	BuildSecrets map[string][]byte
	// AttachBuild ends the network of a Dockerfile's build, as
	// machine.ImageBuild.Attach; nil: it has none.
	AttachBuild func(context.Context, *machine.Link) (io.Closer, error)
	// InstallLimit is how long install may take; 0 is 30 minutes. StartLimit is
	// how long start is waited for; 0 is a minute.
	InstallLimit time.Duration
	StartLimit   time.Duration
	Log          *slog.Logger // nil: none
}

// Ready is a machine that is ready for work.
type Ready struct {
	Machine machine.Machine
	Line    *guest.Line // the one that Open gave last
	// Environment is as it took effect: without a user that the machine lacks.
	Environment *Environment
	// Key is that of the disk on which this call found or left the install; ""
	// without install, where that disk is not kept, and where the machine was
	// ready before: what its disk says of itself is no source.
	Key      machine.SnapshotKey
	KeyParts []KeyPart // what went into Key; nil where it was not looked at
	Cached   bool      // install did not run now
	Notes    []string  // what the agent should know, in sentences
}

// Prepare makes a machine ready: image, machine, install, snapshot, checkout,
// start and terminals, in this order, each recorded as a phase. It blocks until
// all is done.
//
// It may be cancelled, or its process killed, at any point, and called again
// with the Progress of the journal: what the machine's disk or its guest still
// knows is not done twice, a running install is joined and not begun anew, and
// what the journal has is not recorded again. A machine that is ready already
// is left as it is; one that was started anew gets start and terminals.
//
// Errors are errand.Errors where somebody should act: invalid_dockerfile and
// dockerfile_failed point to the Dockerfile's line, install_failed and
// install_timeout carry install's output (and the machine stays, to look
// into), user_not_found names the users there are, image_failed and
// machine_failed tell the image's faults from the host's, and machine_lost says
// that the machine ended meanwhile.
func Prepare(ctx context.Context, p Preparation) (*Ready, error) {
	w := newWork(p)
	defer func() { w.leave() }()
	if failed := w.progress.failed(errand.PhaseInstall); failed != nil && failed.ExitCode != nil {
		return nil, failed
	}
	for _, step := range []func(context.Context) error{
		w.wake, w.choose, w.create, w.install, w.snapshot, w.checkout, w.start, w.terminals, w.finish,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &Ready{
		Machine: w.machine, Line: w.line, Environment: &w.env, Key: w.key, KeyParts: w.parts,
		Cached: !w.installed, Notes: slices.Concat(w.baseNotes, w.state.DiskNotes, w.state.Notes),
	}, nil
}

// Made is a disk that is ready for agents to start on.
type Made struct {
	Key   machine.SnapshotKey // of what decides the disk; "" without install
	Parts []KeyPart           // what went into Key; without install the image alone
	Disk  machine.SnapshotKey // the snapshot; "" where there was nothing to install
	// Cached says that the snapshot was there and install did not run.
	Cached bool
}

// Make does the part of Prepare that later machines can share: image, machine,
// install and snapshot. Where Disk finds that all is there it makes no machine.
// The machine it made stays, stopped, for the caller to destroy; after an error
// it may run. What is said of Prepare's errors and of entering it again holds
// here too. Spec, Checkout and Progress are those of a build; Checkout's branch
// is not used.
func Make(ctx context.Context, p Preparation) (*Made, error) {
	w := newWork(p)
	w.only = true
	defer func() { w.leave() }()
	if failed := w.progress.failed(errand.PhaseInstall); failed != nil && failed.ExitCode != nil {
		return nil, failed
	}
	for _, step := range []func(context.Context) error{w.wake, w.choose} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	made := &Made{Key: w.key, Parts: w.parts, Disk: w.disk.From, Cached: true}
	if w.key == "" || w.disk.Installed {
		w.leave()
		note := cmp.Or(w.disk.Note, "there is no install command")
		if err := w.skip(ctx, note, errand.PhaseMachine, errand.PhaseInstall); err != nil {
			return nil, err
		}
		return made, w.snapshot(ctx)
	}
	for _, step := range []func(context.Context) error{w.create, w.install, w.snapshot} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	made.Disk, made.Cached = w.keptAs(), !w.installed
	return made, nil
}

// work is one Prepare under way.
type work struct {
	Preparation
	progress Progress
	env      Environment // a copy that may be changed
	log      *slog.Logger

	image string // as it was named
	// baseNotes say how the machine's base differs from what the file asks for.
	baseNotes []string
	warnings  []string // what the environment file made us guess, for the journal
	key       machine.SnapshotKey
	parts     []KeyPart
	disk      Disk
	leave     func() // ends what Builds gave

	machine   machine.Machine
	line      *guest.Line
	state     state
	installed bool // by this call
	only      bool // the disk is all that is wanted
}

func newWork(p Preparation) *work {
	w := &work{Preparation: p, log: p.Log, leave: func() {}}
	w.progress = Progress{phases: map[errand.Phase]step{}, boot: p.Progress.boot}
	maps.Copy(w.progress.phases, p.Progress.phases)
	if p.Environment != nil {
		w.env = *p.Environment
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.InstallLimit = cmp.Or(p.InstallLimit, 30*time.Minute)
	w.StartLimit = cmp.Or(p.StartLimit, time.Minute)
	w.image = w.named()
	w.Resolve = w.orDefault(p.Resolve)
	w.Spec.Env = slices.Clone(p.Spec.Env)
	for name, value := range w.env.Env {
		w.Spec.Env = append(w.Spec.Env, name+"="+value)
	}
	slices.Sort(w.Spec.Env[len(p.Spec.Env):])
	if p.Mirror != nil {
		target := git.MirrorTarget(p.Mirror.URL())
		w.Spec.Mounts = append(slices.Clone(p.Spec.Mounts), machine.Mount{Source: p.Mirror.Dir(), Target: target})
		w.Checkout.Dir, w.Checkout.Mirror = Root, target
	}
	return w
}

// clean gives text without the agent's secrets.
func (w *work) clean(text string) string {
	if w.Redactor == nil {
		return text
	}
	return w.Redactor.String(text)
}

// ready says that agents have worked on the disk: it is neither installed
// again nor thrown away.
func (w *work) ready() bool { return w.state.Stage == stageReady }

// wake brings up a machine that the driver holds already, to see how far it is.
func (w *work) wake(ctx context.Context) error {
	handles, err := w.Driver.List(ctx)
	if err != nil {
		return w.explain(ctx, fmt.Errorf("looking for the machine: %w", err))
	}
	held := slices.ContainsFunc(handles, func(h machine.Handle) bool { return h.ID == w.Machine })
	switch {
	case !held && w.progress.done(errand.PhaseMachine):
		// It was lost, and all that was done in it.
		w.progress.forget(errand.PhaseMachine, errand.PhaseInstall, errand.PhaseSnapshot, errand.PhaseCheckout, errand.PhaseStart, errand.PhaseTerminals)
		return nil
	case !held, w.progress.done(errand.PhaseImage) && !w.progress.done(errand.PhaseMachine):
		return nil // create makes it, or finishes what is half made
	}
	return w.phase(ctx, errand.PhaseMachine, "", func(ctx context.Context) (outcome, error) {
		err := w.bringUp(ctx, "")
		return outcome{cached: true, note: "the machine that is there"}, err
	})
}

// choose settles which disk to start from.
func (w *work) choose(ctx context.Context) error {
	if w.ready() {
		return w.skip(ctx, "the machine's own disk", errand.PhaseImage, errand.PhaseInstall, errand.PhaseSnapshot)
	}
	if err := w.phase(ctx, errand.PhaseImage, "", w.resolve); err != nil {
		return err
	}
	if w.key == "" || w.disk.Installed || w.installedHere() {
		return nil
	}
	var err error
	w.leave, err = w.Builds.enter(ctx, w.key, func() error {
		return w.Record(ctx, errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{
			Level: "info", Text: "Another agent runs the same install now; this one waits for its snapshot."}})
	})
	if err != nil {
		return err
	}
	w.disk, err = w.find(ctx, nil)
	return err
}

// resolve settles the image and the key, and looks for a disk.
func (w *work) resolve(ctx context.Context) (outcome, error) {
	var o outcome
	if w.buildsImage() {
		image, built, err := w.buildImage(ctx)
		if o = built; err != nil {
			return w.withoutImage(ctx, o, err)
		}
		w.image = image
	}
	resolved, err := w.Resolve(ctx, w.image)
	if err != nil {
		return w.withoutImage(ctx, o, imageError(w.image, err))
	}
	if w.Spec.Image = resolved; w.image == "host" {
		w.Spec.Image = w.image
	}
	o.note = cmp.Or(o.note, resolved)
	for _, note := range slices.Concat(w.baseNotes, w.warnings) {
		o.facts = append(o.facts, warning(note))
	}
	if err := w.makeKey(ctx, resolved); err != nil {
		return o, err
	}
	w.disk, err = w.find(ctx, nil)
	return o, err
}

// withoutImage goes on without the image if there is a kept disk, or another
// image, that serves in its place, and fails with err otherwise.
func (w *work) withoutImage(ctx context.Context, o outcome, err error) (outcome, error) {
	if ctx.Err() != nil {
		return o, err
	}
	disk, findErr := w.find(ctx, err)
	if findErr != nil || disk.From == "" && disk.Image == "" || !disk.Installed {
		return o, err
	}
	if disk.From == "" {
		if w.Spec.Image, findErr = w.Resolve(ctx, disk.Image); findErr != nil {
			return o, err
		}
	}
	w.disk = disk
	o.note = disk.Note
	o.facts = append(o.facts, warning(err.Error()+" "+disk.Note))
	return o, nil
}

// makeKey sets the key, where there is something to install, and the parts.
func (w *work) makeKey(ctx context.Context, resolved string) error {
	if w.env.Install == "" {
		w.parts = []KeyPart{{Name: ImagePart, Value: resolved}}
		return nil
	}
	in := KeyInput{Image: resolved, Environment: &w.env, Variables: w.Keyed}
	if w.Mirror != nil {
		in.URL = w.Mirror.URL()
		tree, err := w.Mirror.Tree(ctx, w.Checkout.Commit)
		if err != nil {
			return err
		}
		in.Tree = tree
		in.TreeID = func(dir string) (string, error) { return w.Mirror.TreeID(ctx, w.Checkout.Commit, dir) }
		in.Read = func(file string) ([]byte, error) { return w.Mirror.ReadFile(ctx, w.Checkout.Commit, file) }
	}
	var err error
	w.key, w.parts, err = Key(ctx, in)
	return err
}

// installedHere says that the machine's own disk has the install of the key.
func (w *work) installedHere() bool {
	return w.state.Stage == stageInstalled && w.state.Key == w.key && w.key != ""
}

// create makes the machine on the chosen disk. One that wake found is kept,
// unless nothing was installed on it and a disk that has it has come about
// meanwhile.
func (w *work) create(ctx context.Context) error {
	if w.line != nil {
		if w.ready() || w.installedHere() || !w.disk.Installed {
			return nil
		}
		w.line = nil
		w.Closed()
		if err := w.machine.Destroy(ctx); err != nil {
			return w.explain(ctx, fmt.Errorf("beginning the machine again: %w", err))
		}
	}
	return w.phase(ctx, errand.PhaseMachine, "", func(ctx context.Context) (outcome, error) {
		if w.disk.From == "" {
			return outcome{note: "on the image " + w.Spec.Image}, w.bringUp(ctx, "")
		}
		err := w.bringUp(ctx, w.disk.From)
		if e := new(errand.Error); errors.As(err, &e) && e.Code == "snapshot_missing" && w.Spec.Image != "" {
			// It was removed since it was looked for.
			w.disk = Disk{}
			return outcome{note: "on the image " + w.Spec.Image}, w.bringUp(ctx, "")
		}
		return outcome{note: "on the snapshot " + Short(w.disk.From)}, err
	})
}

// Short gives as much of a key as people need to tell it from others.
func Short(key machine.SnapshotKey) string { return string(key)[:min(len(key), len(keyVersion)+1+12)] }

// bringUp creates or wakes the machine, opens it and reads its state.
func (w *work) bringUp(ctx context.Context, from machine.SnapshotKey) error {
	spec := w.Spec
	spec.Image = cmp.Or(spec.Image, w.image)
	spec = on(spec, from)
	spec.Progress = func(text string) { w.log.Debug("making a machine", "machine", w.Machine, "doing", text) }
	m, err := w.Driver.Create(ctx, w.Machine, spec)
	if err != nil {
		return w.createError(spec.Image, err)
	}
	line, err := w.Open(ctx, m)
	if err != nil {
		return fmt.Errorf("opening the machine: %w", err)
	}
	w.machine, w.line = m, line
	if w.state, err = readState(ctx, line); err != nil {
		return err
	}
	w.state = w.state.own(w.Machine, w.key)
	if boot := line.Hello().Boot; w.progress.boot != boot {
		// What ran in the life that the journal tells of is gone.
		w.progress.forget(errand.PhaseCheckout, errand.PhaseStart, errand.PhaseTerminals)
		w.progress.boot = boot
	}
	return w.checkUser(ctx)
}

// finish notes on the disk that this life of the machine is ready.
func (w *work) finish(ctx context.Context) error {
	if w.state.Boot == w.line.Hello().Boot {
		return nil
	}
	w.state.Boot = w.line.Hello().Boot
	return w.explain(ctx, w.state.write(ctx, w.line))
}

func warning(text string) errand.Fact {
	return errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Level: "warning", Text: text}}
}

// createError tells a fault of the image from one of the host.
func (w *work) createError(image string, err error) error {
	var setup *machine.SetupError
	switch e := new(errand.Error); {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &setup):
		known := errand.Errorf(errand.Invalid, "image_failed", "The machine could not be made from the image %s: %w. Choose another image, or correct this one.", image, err)
		if errors.As(err, &e) {
			*known = *e
		}
		known.Output = w.clean(cmp.Or(known.Output, setup.Output)) // before it is cut
		known.Output = known.Output[max(0, len(known.Output)-maxError):]
		return known
	case errors.As(err, &e):
		return err
	}
	return errand.Errorf(errand.Unavailable, "machine_failed", "The host could not start a machine: %w. `errand doctor` says what it lacks.", err)
}

func imageError(image string, err error) error {
	if e := new(errand.Error); errors.As(err, &e) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return errand.Errorf(errand.Unavailable, "image_failed", "The image %s could not be found: %w. Check its name and that its registry can be reached.", image, err)
}

// explain gives an error as one that people can act on.
func (w *work) explain(ctx context.Context, err error) error {
	e := new(errand.Error)
	switch {
	case err == nil || ctx.Err() != nil || errors.As(err, &e):
		return err
	case errors.Is(err, guest.ErrRebooted), errors.Is(err, machine.ErrStopped), errors.Is(err, machine.ErrNotFound):
		return errand.Errorf(errand.Unavailable, "machine_lost", "The machine ended while it was made ready (%w). It may have run out of memory; send a follow-up to try again.", err)
	}
	return errand.Errorf(errand.Internal, "prepare_failed", "The machine could not be made ready: %w. Send a follow-up to try again.", err)
}
