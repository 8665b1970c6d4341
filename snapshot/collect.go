package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
)

// Collect makes room: it sweeps what no name leads to, and then, if the quota
// or the space left to the host is passed, removes snapshots and images until
// it is not. why is a sentence for the record. A dry run removes nothing and
// says which names would go. One collection runs at a time; others wait.
func (s *Snapshots) Collect(ctx context.Context, why string, dryRun bool) (errand.Collection, error) {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	return s.collect(ctx, why, dryRun)
}

func (s *Snapshots) collect(ctx context.Context, why string, dryRun bool) (errand.Collection, error) {
	c := errand.Collection{At: time.Now().UTC(), Why: why, Quota: s.Quota, DryRun: dryRun, Removed: []errand.Removal{}}
	storage, ok := s.Driver.(machine.Storage)
	if !ok {
		return c, nil
	}
	if err := s.settleOpen(ctx, storage); err != nil {
		return c, err
	}
	var strays []machine.Layer
	var err error
	if !dryRun {
		if strays, err = storage.Sweep(ctx); err != nil {
			return c, fmt.Errorf("sweeping: %w", err)
		}
	}
	// Before the disks are looked at: one that is made meanwhile has no row here.
	rows, err := s.Store.Snapshots(ctx)
	if err != nil {
		return c, fmt.Errorf("reading snapshots: %w", err)
	}
	a, _, err := s.look(ctx)
	if err != nil {
		return c, err
	}
	if err := s.forgetGone(ctx, rows, a); err != nil {
		return c, err
	}
	c.Free, c.Used = a.Free, a.counted().total()
	planned, short := a.plan(a.excess(c.Used, s.Quota), c.At)
	c.Short = short
	if dryRun {
		c.Removed = append(c.Removed, planned...)
		c.Freed = freed(c.Removed)
		return c, nil
	}
	return c, s.carryOut(ctx, storage, &c, strayRemovals(strays), planned)
}

// forgetGone drops those of rows whose disk is gone: a killed process had removed
// it, or somebody named it at the same moment. Its name is free then.
func (s *Snapshots) forgetGone(ctx context.Context, rows []store.Snapshot, a around) error {
	gone := slices.DeleteFunc(rows, func(row store.Snapshot) bool {
		return slices.ContainsFunc(a.Snapshots, func(snap machine.Snapshot) bool { return string(snap.Key) == row.Key })
	})
	if len(gone) == 0 {
		return nil
	}
	err := s.Store.Write(ctx, func(t *store.Tx) error {
		now, err := t.Snapshots(ctx)
		if err != nil {
			return err
		}
		for _, row := range gone {
			if !slices.Contains(now, row) {
				continue // used or named since: it has been made again
			}
			if err := t.DropSnapshot(row.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forgetting snapshots whose disks are gone: %w", err)
	}
	return nil
}

func freed(removed []errand.Removal) (bytes int64) {
	for _, r := range removed {
		bytes += r.Freed
	}
	return bytes
}

func strayRemovals(layers []machine.Layer) []errand.Removal {
	var all []errand.Removal
	for _, l := range layers {
		what := "disk"
		if l.Kind == machine.LayerImage {
			what = "layer"
		}
		all = append(all, errand.Removal{What: what, Name: l.ID, Freed: l.Size})
	}
	return all
}

// carryOut removes what is planned and keeps the record of it, also of the
// strays that are gone already. A collection that found nothing to do leaves
// none.
func (s *Snapshots) carryOut(ctx context.Context, storage machine.Storage, c *errand.Collection, strays, planned []errand.Removal) error {
	if len(strays)+len(planned) == 0 {
		return nil
	}
	err := s.Store.Write(ctx, func(t *store.Tx) (err error) {
		if c.ID, err = t.InsertCollection(*c); err != nil {
			return err
		}
		for i, r := range strays {
			if err := errors.Join(t.OpenRemoval(c.ID, i+1, r), t.CloseRemoval(c.ID, i+1)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping the record of a collection: %w", err)
	}
	c.Removed = append(c.Removed, strays...)
	// What cannot be removed keeps nothing else from it. Its number is not used
	// again.
	var failed []error
	for i, r := range planned {
		gone, err := s.removeOne(ctx, storage, c.ID, len(strays)+i+1, r)
		if err != nil {
			failed = append(failed, err)
		}
		if gone {
			c.Removed = append(c.Removed, r)
			s.Log.Info("removed to make room", "what", r.What, "name", r.Name, "bytes", r.Freed, "used", r.UsedAt, "why", c.Why)
		}
		if ctx.Err() != nil {
			return errors.Join(append(failed, context.Cause(ctx))...)
		}
	}
	c.Freed = freed(c.Removed)
	if _, err := storage.Sweep(ctx); err != nil {
		failed = append(failed, fmt.Errorf("sweeping: %w", err))
	}
	return errors.Join(failed...)
}

// removeOne removes one name, unless it was pinned since it was planned. Where
// that fails, the record of it is taken back.
func (s *Snapshots) removeOne(ctx context.Context, storage machine.Storage, id int64, number int, r errand.Removal) (bool, error) {
	gone := false
	err := s.Store.Write(ctx, func(t *store.Tx) error {
		pinned, err := nowPinned(ctx, t, r)
		if err != nil || pinned {
			return err
		}
		gone = true
		return t.OpenRemoval(id, number, r)
	})
	if err != nil || !gone {
		return false, err
	}
	switch r.What {
	case "cache":
		var bytes int64
		if bytes, err = s.Driver.(machine.Cache).ShrinkCache(ctx, r.Freed); bytes == 0 && err == nil {
			return false, s.Store.Write(ctx, func(t *store.Tx) error { return t.CancelRemoval(id, number) })
		}
	case "image":
		err = storage.RemoveImage(ctx, r.Name)
	default:
		err = storage.RemoveSnapshot(ctx, machine.SnapshotKey(r.Name))
	}
	if err != nil {
		cancel := s.Store.Write(context.WithoutCancel(ctx), func(t *store.Tx) error { return t.CancelRemoval(id, number) })
		return false, errors.Join(fmt.Errorf("removing %s %s: %w", r.What, r.Name, err), cancel)
	}
	return true, s.close(ctx, id, number, r)
}

// close notes that a removal was carried out.
func (s *Snapshots) close(ctx context.Context, id int64, number int, r errand.Removal) error {
	return s.Store.Write(ctx, func(t *store.Tx) error {
		if r.What == "snapshot" {
			if err := t.DropSnapshot(r.Name); err != nil {
				return err
			}
		}
		return t.CloseRemoval(id, number)
	})
}

// nowPinned looks again, in the transaction that decides.
func nowPinned(ctx context.Context, t *store.Tx, r errand.Removal) (bool, error) {
	if r.What != "snapshot" {
		return false, nil
	}
	rows, err := t.Snapshots(ctx)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if row.Key == r.Name && (row.Name != "" || row.UsedAt.After(r.UsedAt)) {
			return true, nil
		}
	}
	builds, err := t.SnapshotBuilds(ctx, r.Name)
	if err != nil {
		return false, err
	}
	for _, use := range builds[r.Name] {
		if use.Active {
			return true, nil
		}
	}
	return false, nil
}

// settleOpen looks what came of the removals that a killed process began.
func (s *Snapshots) settleOpen(ctx context.Context, storage machine.Storage) error {
	open, err := s.Store.OpenRemovals(ctx)
	if err != nil || len(open) == 0 {
		return err
	}
	stored, err := storage.Stored(ctx)
	if err != nil {
		return fmt.Errorf("looking at what is stored: %w", err)
	}
	there := map[string]bool{"cache " + cacheName: true} // whether it became smaller shows by what it takes
	for _, snap := range stored.Snapshots {
		there["snapshot "+string(snap.Key)] = true
	}
	for _, img := range stored.Images {
		there["image "+img.Reference] = true
	}
	for _, r := range open {
		if there[r.What+" "+r.Name] {
			err = s.Store.Write(ctx, func(t *store.Tx) error { return t.CancelRemoval(r.Collection, r.Number) })
		} else {
			err = s.close(ctx, r.Collection, r.Number, r.Removal)
		}
		if err != nil {
			return fmt.Errorf("settling an earlier collection: %w", err)
		}
	}
	return nil
}

// Collections gives a page of what was removed to make room, newest first, and
// the number to go on before (0 on the last).
func (s *Snapshots) Collections(ctx context.Context, limit int, before int64) ([]errand.Collection, int64, error) {
	all, err := s.Store.Collections(ctx, limit+1, before)
	if err != nil || len(all) <= limit {
		return all, 0, err
	}
	return all[:limit], all[limit-1].ID, nil
}

// Room that was found ample is taken to be there for a moment: what begins
// within it need not look again.
const (
	roomFor = 10 * time.Second
	ample   = 1 << 30 // bytes
)

// Room sees to it that a new machine or build has room, by collecting where it
// has not. Where all that is stored is in use, the error is Unavailable and
// says what to do.
func (s *Snapshots) Room(ctx context.Context) error {
	s.collecting.Lock()
	defer s.collecting.Unlock()
	if time.Since(s.roomy) < roomFor {
		return nil
	}
	a, ok, err := s.look(ctx)
	if err != nil || !ok {
		return err
	}
	used := a.counted().total()
	if a.excess(used, s.Quota) == 0 {
		if a.Free -= ample; a.excess(used+ample, s.Quota) == 0 {
			s.roomy = time.Now()
		}
		return nil
	}
	c, err := s.collect(ctx, "A machine or a build was to begin.", false)
	if err != nil || c.Short == 0 {
		return err
	}
	if s.Quota > 0 && c.Used-c.Freed > s.Quota {
		return errand.Errorf(errand.Unavailable, "disk_quota",
			"Machines, snapshots, images and the cache of builds take %d MB of the %d MB that the server may use, and all of it is in use or named. Remove agents or snapshots, or start the server with a larger --disk-quota.", (c.Used-c.Freed)>>20, s.Quota>>20)
	}
	return nil // the driver has the last word on what is free
}

// collectEvery is how often Run looks.
const collectEvery = 5 * time.Minute

// Run collects now and then until ctx ends.
func (s *Snapshots) Run(ctx context.Context) {
	tick := time.NewTicker(collectEvery)
	defer tick.Stop()
	for {
		if _, err := s.Collect(ctx, "The server looks every few minutes.", false); err != nil && ctx.Err() == nil {
			s.Log.Error("cannot make room on the disk", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
