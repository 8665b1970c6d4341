// Package runner takes an agent's runs from prompt to pushed branch.
//
// A request becomes rows and events in one transaction and is answered before
// any machine is touched. From then on a run is driven by one function, drive,
// from top to bottom: claim, machine, checkout, work, settle, end. Each part
// asks what is already done and can be entered again, so after kill -9 the next
// process claims the runs whose lease is over and enters drive from the top.
//
// A place is what this process holds of an agent's machine: its line, its
// network and who uses it. Places are gone with the process; machines are not.
// They are found again by handle, put to sleep when nobody has used them for a
// while, and woken on their own disk when a run or a person needs them.
//
// What happens inside a machine is package environment's and package loop's;
// who may ask is package auth's; the runner holds no protocol.
package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/build"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/presence"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/snapshot"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

// Options are what a Runner works with. All of it is the caller's and must
// outlive the Runner.
type Options struct {
	Dir      string // the data directory
	Store    *store.Store
	Journal  *journal.Journal
	Redactor *secret.Redactor
	Vault    *vault.Vault
	Driver   machine.Driver
	Images   *image.Store // those that Driver stands on
	Mirrors  *git.Mirrors
	Gate     *egress.Gate
	Models   *Models
	Log      *slog.Logger
	Defaults Defaults
}

// Defaults are the server's settings for runs.
type Defaults struct {
	Engine       string        // of machines; "" is the driver's own
	Image        string        // where neither agent nor environment name one; "" is "host"
	Runs         int           // runs at once; 0 is 4
	Idle         time.Duration // a machine nobody uses is stopped after this; 0 is 10 minutes
	RunLimit     time.Duration // a run expires after this; 0 is 24 hours
	InstallLimit time.Duration // for the environment's install; 0 is 30 minutes
	BranchPrefix string        // of agents' branches; "" is "errand/"
	Egress       egress.Policy // unless the environment narrows it
	MaxTurns     int           // model requests in a run; 0 is the loop's own bound
	Builds       int           // builds of environments at once; 0 is 2
	DiskQuota    int64         // bytes for machines, snapshots, images and the cache of builds together; 0 is no bound
	BuildEvery   time.Duration // of the schedule for builds; 0 is an hour, below 0 is never
	Takeover     time.Duration // a take-over ends by itself after this; 0 is 4 hours
}

func (d Defaults) withDefaults() Defaults {
	d.Image = cmp.Or(d.Image, "host")
	d.Runs = cmp.Or(d.Runs, 4)
	d.Idle = cmp.Or(d.Idle, 10*time.Minute)
	d.RunLimit = cmp.Or(d.RunLimit, 24*time.Hour)
	d.InstallLimit = cmp.Or(d.InstallLimit, 30*time.Minute)
	d.BranchPrefix = cmp.Or(d.BranchPrefix, "errand/")
	d.Takeover = cmp.Or(d.Takeover, 4*time.Hour)
	return d
}

// lease is how long a claim holds without being renewed.
const lease = 30 * time.Second

// Runner takes up runs. Its methods may be called from many goroutines.
type Runner struct {
	Options
	owner string // this process, in leases
	// digestKey makes digests of variables useless to who has not got it.
	digestKey []byte

	wakeup  chan struct{} // a run was queued, or a slot became free
	ending  chan struct{} // closed when Run is to return
	builds  *environment.Builds
	keepers *keepers // of agents that people have in hand
	// Builds are the environments and their builds, in the same directory.
	Builds *build.Builds
	// Rooms are those of people who are at agents just now.
	Rooms presence.Rooms
	// Snapshots are the kept disks of the driver's machines.
	Snapshots *snapshot.Snapshots

	mu     sync.Mutex
	active map[errand.RunID]*attempt
	places map[errand.AgentID]*place
	work   sync.WaitGroup // drives and background destroys
}

// attempt is a run that this process drives.
type attempt struct {
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when drive has returned
}

// Why a drive's context may end, besides the server's own end.
var (
	errCancelled = errors.New("the run was cancelled")
	errExpired   = errors.New("the run reached its time limit")
	errShutdown  = errors.New("the server is shutting down")
)

// Open gives the Runner. It does not start working: Run does. Of one data
// directory there may be one Runner in all processes; store.Hold sees to it.
func Open(o Options) (*Runner, error) {
	o.Defaults = o.Defaults.withDefaults()
	digestKey, err := openDigestKey(digestKeyFile(o.Dir))
	if err != nil {
		return nil, err
	}
	r := &Runner{
		Options: o, owner: uuid.NewString(), digestKey: digestKey,
		wakeup:  make(chan struct{}, 1),
		ending:  make(chan struct{}),
		builds:  &environment.Builds{},
		keepers: newKeepers(),
		active:  map[errand.RunID]*attempt{},
		places:  map[errand.AgentID]*place{},
	}
	r.Snapshots = snapshot.New(snapshot.Options{Driver: o.Driver, Store: o.Store, Quota: o.Defaults.DiskQuota, Log: o.Log})
	r.Builds = build.New(build.Options{
		Store: o.Store, Journal: o.Journal, Redactor: o.Redactor, Vault: o.Vault, Driver: o.Driver, Snapshots: r.Snapshots, Images: o.Images, Mirrors: o.Mirrors, Gate: o.Gate,
		Installs: r.builds, Log: o.Log, Engine: o.Defaults.Engine, Image: o.Defaults.Image, AtOnce: o.Defaults.Builds,
		InstallLimit: o.Defaults.InstallLimit, Every: o.Defaults.BuildEvery, Egress: o.Defaults.Egress,
	})
	return r, nil
}

// Run finds the machines and runs of an earlier process, then takes up runs
// until ctx ends. It returns when everything it started has stopped; runs that
// were under way go on at the next start. Machines stay as they are. Call it
// once.
func (r *Runner) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer r.dropPlaces()
	defer r.work.Wait()
	defer cancel(nil)
	if err := r.takeUp(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was to end before it had begun
		}
		return err
	}
	var background sync.WaitGroup
	background.Go(func() { r.keepLeases(ctx) })
	background.Go(func() { r.hibernateIdle(ctx) })
	background.Go(func() { r.meterRunning(ctx) })
	background.Go(func() { r.keepTakeovers(ctx) })
	background.Go(func() { r.Snapshots.Run(ctx) })
	background.Go(func() { r.readyImage(ctx) })
	background.Go(func() { r.Builds.Run(ctx) })
	r.claimRuns(ctx)
	close(r.ending)
	cancel(errShutdown)
	background.Wait()
	return nil
}

// readyImage makes the image "host" where machines stand on it by default, so
// that the first agent does not wait for the copying of its files.
func (r *Runner) readyImage(ctx context.Context) {
	if r.Images == nil || r.Defaults.Image != image.Host {
		return
	}
	if _, err := r.Images.Get(ctx, image.Host, nil); err != nil && ctx.Err() == nil {
		r.Log.Warn("cannot make the image of machines ready; the first agent says why", "image", image.Host, "error", err)
	}
}

// takeUp makes what an earlier process left this one's.
func (r *Runner) takeUp(ctx context.Context) error {
	if err := r.Store.Write(ctx, func(t *store.Tx) error { return t.ReleaseAll() }); err != nil {
		return fmt.Errorf("releasing old leases: %w", err)
	}
	if err := r.recoverMachines(ctx); err != nil {
		return fmt.Errorf("finding machines again: %w", err)
	}
	return nil
}

// claimRuns takes up runs while there are free slots, until ctx ends.
func (r *Runner) claimRuns(ctx context.Context) {
	slots := make(chan struct{}, r.Defaults.Runs)
	retry := time.NewTicker(lease / 3) // finds leases that ran out elsewhere
	defer retry.Stop()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		run, ok, err := r.claim(ctx)
		if err != nil && ctx.Err() == nil {
			r.Log.Error("cannot claim runs", "error", err)
		}
		if ok {
			r.work.Go(func() {
				defer r.nudge()
				defer func() { <-slots }()
				r.drive(ctx, run)
			})
			continue
		}
		<-slots
		select {
		case <-r.wakeup:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
	}
}

func (r *Runner) claim(ctx context.Context) (run errand.Run, ok bool, err error) {
	err = r.Store.Write(ctx, func(t *store.Tx) error {
		run, ok, err = t.Claim(r.owner, lease)
		return err
	})
	return run, ok && err == nil, err
}

// nudge makes claimRuns look again.
func (r *Runner) nudge() {
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
}

func (r *Runner) keepLeases(ctx context.Context) {
	tick := time.NewTicker(lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := r.Store.Write(ctx, func(t *store.Tx) error { return t.Renew(r.owner, lease) }); err != nil && ctx.Err() == nil {
			r.Log.Error("cannot renew leases", "error", err)
		}
	}
}
