package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/store"
)

// Run makes the builds that are asked for, and asks for those of the schedule,
// until ctx ends. It returns when everything it started has stopped; builds
// that were under way go on at the next start. Call it once.
func (b *Builds) Run(ctx context.Context) {
	b.work.Go(func() { b.schedule(ctx) })
	defer b.work.Wait()
	for {
		if b.slots.Acquire(ctx, 1) != nil {
			return
		}
		build, ok, err := b.take(ctx)
		if err != nil && ctx.Err() == nil {
			b.Log.Error("cannot take up builds", "error", err)
		}
		if ok {
			making, cancel := b.hold(ctx, build.ID)
			b.work.Go(func() {
				defer b.nudge()
				defer b.slots.Release(1)
				defer b.letGo(build.ID)
				b.carry(making, cancel, ctx.Done(), build)
			})
			continue
		}
		b.slots.Release(1)
		select {
		case <-b.wakeup:
		case <-time.After(retry):
		case <-ctx.Done():
			return
		}
	}
}

// retry is how long Run rests when there was nothing to do, or an error.
const retry = 10 * time.Second

// take gives a build that nobody makes: one of an earlier process, or the
// oldest that waits. The builds of one environment are made one after another.
// Only the holder of the data directory may call it.
func (b *Builds) take(ctx context.Context) (errand.Build, bool, error) {
	var taken errand.Build
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		taken = errand.Build{}
		open, err := t.OpenBuilds(ctx)
		if err != nil {
			return err
		}
		build, ok := b.choose(open)
		if !ok {
			return nil
		}
		if build.Status == errand.BuildRunning {
			taken = build
			return nil
		}
		e, err := t.Environment(ctx, build.Environment)
		if err != nil {
			return err
		}
		if build.Status, build.StartedAt = errand.BuildRunning, t.Now(); build.Trigger != errand.TriggerAgent {
			build.Version = e.Version
		}
		if err := t.UpdateBuild(build); err != nil {
			return err
		}
		taken = build
		return t.Tell(build.ID, "", errand.Fact{Kind: errand.EventBuildStatus, Data: errand.BuildStatusData{Build: build.ID, Status: build.Status}})
	})
	return taken, err == nil && taken.ID != "", err
}

// choose gives the build to make next of those that are open, oldest first.
func (b *Builds) choose(open []errand.Build) (errand.Build, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	busy := map[errand.EnvironmentID]bool{}
	for _, build := range open {
		if _, ours := b.active[build.ID]; ours {
			busy[build.Environment] = true
		}
	}
	slices.SortStableFunc(open, func(x, y errand.Build) int {
		if (x.Status == errand.BuildRunning) == (y.Status == errand.BuildRunning) {
			return 0
		} else if x.Status == errand.BuildRunning {
			return -1
		}
		return 1
	})
	for _, build := range open {
		if !build.WithinRun() && !busy[build.Environment] {
			return build, true
		}
	}
	return errand.Build{}, false
}

// hold notes that this process makes a build and gives the context for it.
func (b *Builds) hold(ctx context.Context, id errand.BuildID) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active[id] = cancel
	return ctx, cancel
}

func (b *Builds) letGo(id errand.BuildID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active[id](nil)
	delete(b.active, id)
}

// carry takes a build from wherever it stands to its end, or to the end of ctx.
// Once ended is closed it waits for nothing more.
func (b *Builds) carry(ctx context.Context, cancel context.CancelCauseFunc, ended <-chan struct{}, build errand.Build) {
	log := b.Log.With("build", build.ID)
	// Asked as of now: a cancel may have come when nobody could be stopped yet.
	if now, err := b.Store.Build(ctx, build.ID); err == nil && now.CancelAsked {
		cancel(errCancelled)
	}
	var hidden []string
	defer func() { b.Redactor.Remove(hidden...) }() // the build's end is told without them too
	hide := func(values []string) {
		b.Redactor.Add(values...)
		hidden = append(hidden, values...)
	}
	made, err := b.make(ctx, &build, hide)
	for pause := (store.Pause{}); errors.Is(err, store.ErrFull); made, err = b.make(ctx, &build, hide) {
		log.Warn("a build waits for room on the disk", "in", pause.Next(), "error", err)
		if !pause.Wait(ctx.Done()) {
			break
		}
	}
	cause := context.Cause(ctx)
	if err != nil && cause != nil && !errors.Is(cause, errCancelled) {
		log.Info("the build goes on at the next start")
		return
	}
	ctx = context.WithoutCancel(ctx)
	if err := b.destroy(ctx, build.ID); err != nil {
		log.Warn("cannot remove a build's machine; the next start tries again", "error", err)
	}
	for pause := (store.Pause{}); ; {
		written := b.finish(ctx, build, made, err, cause)
		if written == nil {
			return
		}
		log.Error("cannot write the end of a build; trying again", "in", pause.Next(), "error", written)
		if !pause.Wait(ended) {
			return // it is taken up again at the next start
		}
	}
}

// make does what a build is for. What it learns it writes into build, for the
// row. hide takes what nobody may see, until the build has ended.
func (b *Builds) make(ctx context.Context, build *errand.Build, hide func(values []string)) (*environment.Made, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	e, err := b.Store.Environment(ctx, build.Environment)
	if err != nil {
		return nil, err
	}
	mirror, err := b.fetch(ctx, build, e)
	if err != nil {
		return nil, err
	}
	parsed, err := b.text(ctx, build, e, mirror)
	if err != nil {
		return nil, err
	}
	if err := b.Snapshots.Room(ctx); err != nil {
		return nil, err
	}
	opened, err := b.unlock(ctx, *build, e, parsed)
	if err != nil {
		return nil, err
	}
	hide(opened.Hidden)
	events, err := b.Journal.All(ctx, build.ID)
	if err != nil {
		return nil, err
	}
	policy, err := b.policy(*build, e, *parsed)
	if err != nil {
		return nil, err
	}
	at := &place{builds: b, id: build.ID, policy: policy}
	defer at.close()
	p := environment.Preparation{
		Driver: b.Driver, Machine: MachineID(build.ID), Spec: machine.Spec{Engine: b.Engine},
		Environment: parsed, DefaultImage: b.Image, Mirror: mirror, Env: opened.Env, Keyed: Keyed(opened), BuildSecrets: opened.Build,
		Redactor: b.Redactor, Guarded: secret.NewFinder(opened.Guarded),
		Open: at.open, Closed: at.close,
		AttachBuild: func(ctx context.Context, link *machine.Link) (io.Closer, error) {
			return b.Gate.JoinLink(ctx, link, at.policy, at.connections(ctx))
		},
		Record: func(ctx context.Context, facts ...errand.Fact) error {
			_, err := b.Journal.Append(ctx, build.ID, "", facts...)
			return err
		},
		Resolve: b.ResolveImage, Disk: b.diskFor(*build), Progress: environment.ProgressOf(events, ""), Builds: b.Installs,
		InstallLimit: b.InstallLimit, Log: b.Log,
	}
	if build.Force {
		p.Keep = ownDisk(build.ID)
	}
	if mirror != nil {
		at.url = mirror.URL()
		p.Checkout = git.Checkout{URL: mirror.URL(), Commit: build.Commits[0].Commit, BrokerURL: "http://" + git.BrokerAddress + "/"}
	}
	made, err := environment.Make(ctx, p)
	if err != nil && ctx.Err() == nil {
		return nil, errors.Join(err, b.keepFailed(ctx, build, at, p.Guarded, err))
	}
	return made, err
}

// ResolveImage gives an image's exact name, pulling it if it is not here yet. A
// snapshot stands for an image too.
func (b *Builds) ResolveImage(ctx context.Context, name string) (string, error) {
	if ref, kept := strings.CutPrefix(name, errand.SnapshotImage); kept {
		key, err := b.Snapshots.Key(ctx, ref)
		return errand.SnapshotImage + string(key), err
	}
	got, err := b.Images.Get(ctx, name, nil)
	return got.Reference, err
}

// fetch brings the mirror up to date and settles the commit, once in a build's
// life. It is nil for an environment without a repository.
func (b *Builds) fetch(ctx context.Context, build *errand.Build, e errand.Environment) (*git.Mirror, error) {
	if len(e.Repositories) == 0 {
		return nil, nil
	}
	url := e.Repositories[0].URL
	if len(build.Commits) > 0 {
		return b.Mirrors.Open(ctx, url)
	}
	var mirror *git.Mirror
	err := b.phase(ctx, build.ID, errand.PhaseMirror, func() (note string, err error) {
		if mirror, err = b.Mirrors.Fetch(ctx, url); err != nil {
			return "", err
		}
		commit, branch, err := mirror.Resolve(ctx, build.Ref)
		if err != nil {
			return "", err
		}
		err = b.note(ctx, build, func(row *errand.Build) {
			row.Commits = []errand.BuildCommit{{URL: url, Branch: branch, Commit: commit}}
		})
		return fmt.Sprintf("%.12s of %s", commit, orDefault(branch, build.Ref)), err
	})
	return mirror, err
}

// note writes what was learned of a build into its row.
func (b *Builds) note(ctx context.Context, build *errand.Build, change func(*errand.Build)) error {
	return b.Store.Write(ctx, func(t *store.Tx) error {
		row, err := t.Build(ctx, build.ID)
		if err != nil {
			return err
		}
		change(&row)
		*build = row
		return t.UpdateBuild(row)
	})
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// text gives what the environment asks for: as it is stored, or as its file is
// at the build's commit.
func (b *Builds) text(ctx context.Context, build *errand.Build, e errand.Environment, mirror *git.Mirror) (*file.Environment, error) {
	if e.RepositoryFile == nil || mirror == nil || build.Trigger == errand.TriggerAgent {
		v, err := b.Store.Version(ctx, e.ID, build.Version)
		if err != nil {
			return nil, err
		}
		found, _, err := parse(v.JSON)
		return found, err
	}
	found, _, text, err := FileOf(ctx, mirror, build.Commits[0].Commit)
	if err != nil {
		return nil, err
	}
	if found.File == "" {
		return nil, errand.Errorf(errand.Invalid, "environment_file_missing",
			"There is no environment file in %s at %.12s any more. Put one there, or delete this environment.", e.RepositoryFile.URL, build.Commits[0].Commit)
	}
	if build.Ref != "" {
		return found, nil
	}
	version, err := b.followFile(ctx, e.ID, found.File, text)
	if err != nil {
		return nil, err
	}
	return found, b.note(ctx, build, func(row *errand.Build) { row.Version = version })
}

// phase runs do between the events that open and close a phase of a build.
func (b *Builds) phase(ctx context.Context, id errand.BuildID, name errand.Phase, do func() (string, error)) error {
	if _, err := b.Journal.Append(ctx, id, "", errand.Fact{Kind: errand.EventPhaseStarted, Data: errand.PhaseStarted{Phase: name}}); err != nil {
		return err
	}
	began := time.Now()
	note, err := do()
	if err != nil && (ctx.Err() != nil || errors.Is(err, store.ErrFull)) {
		return err // it is entered again, or the build's end says why not
	}
	_, tellErr := b.Journal.Append(ctx, id, "", errand.Fact{Kind: errand.EventPhaseEnded, Data: errand.PhaseEnded{
		Phase: name, DurationMs: time.Since(began).Milliseconds(), Note: note, Error: errand.AsError(err),
	}})
	return errors.Join(err, tellErr)
}

// keepFailed keeps the disk of an install that failed, so that somebody can
// look at it, unless it holds a secret.
func (b *Builds) keepFailed(ctx context.Context, build *errand.Build, at *place, guarded *secret.Finder, failure error) error {
	e := errand.AsError(failure)
	if e.ExitCode == nil {
		return nil // no command of the environment's was at fault
	}
	name := ownDisk(build.ID)
	snapshots, ok := b.Driver.(machine.Snapshots)
	if !ok {
		return nil
	}
	has, err := snapshots.HasSnapshot(ctx, name)
	if err != nil {
		return err
	}
	if !has {
		keeper, ok := at.machine.(machine.Snapshotter)
		if !ok {
			return nil
		}
		at.close()
		if err := environment.Clean(ctx, at.machine, guarded); errand.KindOf(err) == errand.Invalid {
			_, err = b.Journal.Append(ctx, build.ID, "", errand.Fact{Kind: errand.EventNotice, Data: errand.Notice{Level: "warning", Text: err.Error()}})
			return err
		} else if err != nil {
			return err
		}
		if err := keeper.Snapshot(ctx, name); err != nil {
			return fmt.Errorf("keeping the disk of a failed build: %w", err)
		}
	}
	build.Snapshot = string(name)
	return nil
}

// finish writes how a build ended.
func (b *Builds) finish(ctx context.Context, build errand.Build, made *environment.Made, failure, cause error) error {
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		now, err := t.Build(ctx, build.ID)
		if err != nil || now.Status.Ended() {
			return err
		}
		now.Snapshot = build.Snapshot
		switch {
		case failure != nil && errors.Is(cause, errCancelled):
			return end(t, now, errand.BuildCancelled, "")
		case failure != nil:
			now.Failure = b.failureOf(failure)
			return end(t, now, errand.BuildFailed, "")
		}
		now.Key, now.Parts, now.Snapshot = string(made.Key), made.Parts, string(made.Disk)
		if !made.Cached || now.Trigger != errand.TriggerRecurring {
			return end(t, now, errand.BuildSucceeded, "")
		}
		e, err := t.Environment(ctx, now.Environment)
		if err != nil {
			return err
		}
		if active, err := t.Build(ctx, e.Active); err == nil && (active.Key != now.Key || !sameImage(active.Parts, now.Parts)) {
			return end(t, now, errand.BuildSucceeded, "")
		}
		return end(t, now, errand.BuildSkipped, "nothing that decides the disk has changed")
	})
	return err
}

// failureOf gives an error as it may stand in a build's row, which does not
// pass the journal.
func (b *Builds) failureOf(err error) *errand.BuildFailure {
	e := *errand.AsError(err)
	e.Message, e.Output, e.Err = b.Redactor.String(e.Message), b.Redactor.String(e.Output), nil
	f := &errand.BuildFailure{Type: errand.FailureTerminal, Error: &e}
	if e.ExitCode != nil {
		f.Type = errand.FailureInstall
	}
	return f
}
