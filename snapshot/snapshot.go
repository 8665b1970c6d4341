// Package snapshot keeps order among the disks that machines start on: people's
// names for them, what they take and who stands on them, their way out of a
// host and in, and the collecting of what is not needed when room is short.
//
// Three ideas carry it. The disks are the driver's and it never lets go of one
// that a machine or another disk stands on; here it is only decided which names
// go, so a wrong decision costs an install and breaks nothing. What goes is
// planned by a pure function over what there is (plan): the least recently used
// first, never what has a name, is an active build's or carries a running
// machine, and nothing whose going would free no room. And each removal is
// written down before it is done and closed after, so that the record of it is
// true whenever the process is killed.
//
// It makes no snapshots (package environment does, through the driver) and
// touches no files itself.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
)

// Options are what Snapshots work with.
type Options struct {
	// Driver keeps the disks. One that is no machine.Storage has no snapshots to
	// speak of: lists are empty, and nothing is ever short of room.
	Driver machine.Driver
	Store  *store.Store
	// Quota bounds what machines, snapshots, images and the driver's cache of
	// builds take together, in bytes; 0 is no bound but the free space that the
	// driver leaves to the host.
	Quota int64
	Log   *slog.Logger // nil is silent
}

// Snapshots are those of one server. They may be used from many goroutines.
type Snapshots struct {
	Options
	collecting sync.Mutex // held by the one that collects
	roomy      time.Time  // when Room found some; under collecting
}

// New gives the snapshots of a driver. It touches nothing.
func New(o Options) *Snapshots {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Snapshots{Options: o}
}

// around is what there is, and what is known of it.
type around struct {
	machine.Stored
	cache  machine.StoredCache // of builds
	rows   map[machine.SnapshotKey]store.Snapshot
	builds map[string][]errand.SnapshotUse
	agents map[machine.ID]errand.AgentID
}

// look reads what there is. The bool is false where the driver keeps nothing.
func (s *Snapshots) look(ctx context.Context) (around, bool, error) {
	a := around{rows: map[machine.SnapshotKey]store.Snapshot{}, agents: map[machine.ID]errand.AgentID{}}
	storage, ok := s.Driver.(machine.Storage)
	if !ok {
		return a, false, nil
	}
	// The disks first: who came to stand on one since is the driver's to know.
	var err error
	if a.Stored, err = storage.Stored(ctx); err != nil {
		return a, true, fmt.Errorf("looking at what is stored: %w", err)
	}
	if keeper, ok := s.Driver.(machine.Cache); ok {
		if a.cache, err = keeper.StoredCache(ctx); err != nil {
			return a, true, fmt.Errorf("looking at what is stored: %w", err)
		}
	}
	rows, err := s.Store.Snapshots(ctx)
	if err != nil {
		return a, true, fmt.Errorf("reading snapshots: %w", err)
	}
	for _, row := range rows {
		a.rows[machine.SnapshotKey(row.Key)] = row
	}
	if a.builds, err = s.Store.SnapshotBuilds(ctx, ""); err != nil {
		return a, true, fmt.Errorf("reading what builds kept: %w", err)
	}
	machines, err := s.Store.Machines(ctx)
	if err != nil {
		return a, true, fmt.Errorf("reading machines: %w", err)
	}
	for _, m := range machines {
		a.agents[machine.ID(m.ID)] = m.Agent
	}
	return a, true, nil
}

// usedAt is when a machine last started on a snapshot.
func (a around) usedAt(snap machine.Snapshot) time.Time {
	if at := a.rows[snap.Key].UsedAt; at.After(snap.Created) {
		return at
	}
	return snap.Created
}

// pinned says why a snapshot is not collected; "" if it may be.
func (a around) pinned(key machine.SnapshotKey) string {
	var why []string
	if name := a.rows[key].Name; name != "" {
		why = append(why, fmt.Sprintf("it is named %q", name))
	}
	for _, use := range a.builds[string(key)] {
		if use.Active {
			why = append(why, fmt.Sprintf("the environment %s starts agents on its build %s", use.Environment, use.Build))
		}
	}
	for _, m := range a.Machines {
		if m.Running && m.From == key {
			why = append(why, fmt.Sprintf("machine %s runs on it", m.ID))
		}
	}
	return strings.Join(why, ", ")
}

// find gives the snapshot that a name, a key or the unique beginning of a key
// means.
func (a around) find(ref string) (machine.Snapshot, error) {
	var found []machine.Snapshot
	const least = 4 // characters of a key
	for _, snap := range a.Snapshots {
		switch {
		case a.rows[snap.Key].Name == ref && ref != "", string(snap.Key) == ref:
			return snap, nil
		case len(ref) >= least && strings.HasPrefix(string(snap.Key), ref):
			found = append(found, snap)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return machine.Snapshot{}, errand.Errorf(errand.NotFound, "snapshot_not_found", "There is no snapshot %.90q. `errand snapshot ls` shows which there are.", ref)
	}
	return machine.Snapshot{}, errand.Errorf(errand.Conflict, "snapshot_ambiguous", "%d snapshots begin with %.90q. Write more of the key.", len(found), ref)
}

// Key gives the key of the snapshot with a name, or with just this key;
// NotFound if there is none, or if its disk is gone.
func (s *Snapshots) Key(ctx context.Context, ref string) (machine.SnapshotKey, error) {
	key := machine.SnapshotKey(ref)
	row, err := s.Store.SnapshotNamed(ctx, ref)
	if err == nil {
		key = machine.SnapshotKey(row.Key)
	} else if errand.KindOf(err) != errand.NotFound {
		return "", err
	}
	has := false
	if snapshots, ok := s.Driver.(machine.Snapshots); ok {
		if has, err = snapshots.HasSnapshot(ctx, key); err != nil {
			return "", err
		}
	}
	if !has {
		return "", errand.Errorf(errand.NotFound, "snapshot_not_found", "There is no snapshot %.90q, or its disk is gone. `errand snapshot ls` shows which there are.", ref)
	}
	return key, nil
}

// Touch notes that a machine starts on a snapshot now.
func (s *Snapshots) Touch(ctx context.Context, key machine.SnapshotKey) error {
	return s.Store.Write(ctx, func(t *store.Tx) error { return t.TouchSnapshot(string(key)) })
}

// Rename gives a snapshot a name, or takes it away with "". Named, it is kept
// until somebody removes it.
func (s *Snapshots) Rename(ctx context.Context, ref, name string) (errand.Snapshot, error) {
	if err := errand.CheckSnapshotName(name); err != nil {
		return errand.Snapshot{}, err
	}
	a, _, err := s.look(ctx)
	if err != nil {
		return errand.Snapshot{}, err
	}
	snap, err := a.find(ref)
	if err != nil {
		return errand.Snapshot{}, err
	}
	if err := s.Store.Write(ctx, func(t *store.Tx) error { return t.NameSnapshot(string(snap.Key), name) }); err != nil {
		return errand.Snapshot{}, err
	}
	return s.Snapshot(ctx, string(snap.Key))
}

// Remove forgets a snapshot. Machines that stand on it keep what they need; its
// room becomes free when the last of them is gone. One that is pinned is a
// Conflict unless force is set.
func (s *Snapshots) Remove(ctx context.Context, ref string, force bool) (key string, err error) {
	a, ok, err := s.look(ctx)
	if err != nil {
		return "", err
	}
	snap, err := a.find(ref)
	if err != nil || !ok {
		return "", err
	}
	if why := a.pinned(snap.Key); why != "" && !force {
		return "", errand.Errorf(errand.Conflict, "snapshot_in_use", "The snapshot %.90s is kept because %s. To remove it all the same, force it (--force).", ref, why)
	}
	storage := s.Driver.(machine.Storage) // look found that it is one
	if err := storage.RemoveSnapshot(ctx, snap.Key); err != nil {
		return "", err
	}
	_, sweepErr := storage.Sweep(ctx)
	err = s.Store.Write(ctx, func(t *store.Tx) error { return t.DropSnapshot(string(snap.Key)) })
	return string(snap.Key), errors.Join(err, sweepErr)
}
