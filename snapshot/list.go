package snapshot

import (
	"context"
	"slices"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// List gives a page of snapshots, newest first, and the cursor of the next one
// ("" on the last).
func (s *Snapshots) List(ctx context.Context, limit int, cursor string) ([]errand.Snapshot, string, error) {
	a, _, err := s.look(ctx)
	if err != nil {
		return nil, "", err
	}
	all := slices.Clone(a.Snapshots)
	slices.Reverse(all)
	if cursor != "" {
		at := slices.IndexFunc(all, func(snap machine.Snapshot) bool { return string(snap.Key) == cursor })
		if at < 0 {
			return nil, "", errand.Errorf(errand.Invalid, "validation_error", "The cursor %.90q leads nowhere: its snapshot was removed, or it is none that this server gave. List from the beginning.", cursor)
		}
		all = all[at+1:]
	}
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = string(all[limit-1].Key)
	}
	shares := a.shares()
	list := []errand.Snapshot{}
	for _, snap := range all {
		list = append(list, a.describe(snap, shares))
	}
	return list, next, nil
}

// Snapshot gives one snapshot with its layers and who stands on it, by its name,
// its key or the unique beginning of that.
func (s *Snapshots) Snapshot(ctx context.Context, ref string) (errand.Snapshot, error) {
	a, _, err := s.look(ctx)
	if err != nil {
		return errand.Snapshot{}, err
	}
	snap, err := a.find(ref)
	if err != nil {
		return errand.Snapshot{}, err
	}
	shares := a.shares()
	d := a.describe(snap, shares)
	for _, l := range snap.Layers {
		d.Layers = append(d.Layers, errand.SnapshotLayer{ID: l.ID, Kind: string(l.Kind), Size: l.Size, Shared: shares[l.ID] > 1})
	}
	for _, m := range a.Machines {
		if m.From == snap.Key {
			d.Uses = append(d.Uses, errand.SnapshotUse{Machine: string(m.ID), Running: m.Running, Agent: a.agents[m.ID]})
		}
	}
	d.Uses = append(d.Uses, a.builds[string(snap.Key)]...)
	return d, nil
}

// shares counts by how many snapshots and images each layer is named.
func (a around) shares() map[string]int {
	count := map[string]int{}
	for _, snap := range a.Snapshots {
		for _, l := range snap.Layers {
			count[l.ID]++
		}
	}
	for _, img := range a.Images {
		for _, l := range img.Layers {
			count[l.ID]++
		}
	}
	return count
}

func (a around) describe(snap machine.Snapshot, shares map[string]int) errand.Snapshot {
	d := errand.Snapshot{
		Key: string(snap.Key), Name: a.rows[snap.Key].Name, Image: snap.Image,
		CreatedAt: snap.Created, UsedAt: a.usedAt(snap), Pinned: a.pinned(snap.Key),
	}
	for _, l := range snap.Layers {
		if shares[l.ID] > 1 {
			d.Shared += l.Size
		} else {
			d.Size += l.Size
		}
	}
	return d
}
