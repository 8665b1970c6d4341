// Package build keeps environments and makes their builds.
//
// An environment is stored with its history: each change is a version that
// stays, so that two can be compared and an old one restored. A build brings an
// environment through image, clone, install and snapshot in a machine of its
// own, which is gone afterwards; what stays is the disk, and agents start on
// it. Three rules carry the package. A build that failed never takes the place
// of the active one, and its disk is kept too, so that somebody can look at it.
// A build is a row with a status before anything is done for it, and every step
// of making it can be entered again after kill -9: its machine is found by the
// build's own id. And whether there is anything to do is asked of the key alone
// (package environment), never of the clock.
//
// Which environment holds for an agent, and which build's disk its machine
// stands on, is answered here as well (Resolve, Disk); the machine is made by
// package runner. What happens inside a machine is package environment's.
package build

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/image"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/secret"
	"github.com/errand-dev/errand/snapshot"
	"github.com/errand-dev/errand/store"
	"github.com/errand-dev/errand/vault"
)

// Options are what Builds work with. All of it is the caller's and must outlive
// them.
type Options struct {
	Store    *store.Store
	Journal  *journal.Journal
	Redactor *secret.Redactor
	Vault    *vault.Vault // nil: there are no secrets
	Driver   machine.Driver
	Images   *image.Store // those that Driver stands on
	// Snapshots are the kept disks of Driver's machines.
	Snapshots *snapshot.Snapshots
	Mirrors   *git.Mirrors
	Gate      *egress.Gate
	Installs  *environment.Builds // shared with the preparations of agents' machines
	Log       *slog.Logger

	Engine       string        // of machines; "" is the driver's own
	Image        string        // where an environment names none; "" is "host"
	AtOnce       int           // builds at once, with what else takes a Slot; 0 is 2
	InstallLimit time.Duration // 0 is 30 minutes
	Every        time.Duration // of the schedule; 0 is an hour, below 0 is never
	Egress       egress.Policy // unless the environment narrows it
}

// Builds are the environments of a data directory and their builds. Methods may
// be called from many goroutines.
type Builds struct {
	Options
	wakeup chan struct{}       // a build was queued, or a slot became free
	slots  *semaphore.Weighted // AtOnce of them

	mu     sync.Mutex
	active map[errand.BuildID]context.CancelCauseFunc // those that this process makes
	work   sync.WaitGroup
}

// New gives the environments and builds of a store. Nothing is made until Run.
func New(o Options) *Builds {
	o.Image = cmp.Or(o.Image, "host")
	o.AtOnce = cmp.Or(o.AtOnce, 2)
	o.InstallLimit = cmp.Or(o.InstallLimit, 30*time.Minute)
	o.Every = cmp.Or(o.Every, time.Hour)
	return &Builds{Options: o, wakeup: make(chan struct{}, 1), slots: semaphore.NewWeighted(int64(o.AtOnce)), active: map[errand.BuildID]context.CancelCauseFunc{}}
}

// nudge makes Run look for builds again.
func (b *Builds) nudge() {
	select {
	case b.wakeup <- struct{}{}:
	default:
	}
}
