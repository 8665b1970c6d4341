package snapshot

import (
	"cmp"
	"slices"
	"time"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
)

// fresh is how long an image is not collected after it was used last: somebody
// is about to stand on it.
const fresh = 10 * time.Minute

// candidate is a name that may go.
type candidate struct {
	what   string // as in errand.Removal
	name   string
	used   time.Time
	layers []machine.Layer
}

// count is by how many each layer is needed, and what it takes.
type count struct {
	users map[string]int
	size  map[string]int64
}

func (c count) add(layers []machine.Layer) {
	for _, l := range layers {
		c.users[l.ID]++
		c.size[l.ID] = l.Size
	}
}

// total is what all layers take together.
func (c count) total() (bytes int64) {
	for _, size := range c.size {
		bytes += size
	}
	return bytes
}

// frees is what becomes free when layers are needed by one less.
func (c count) frees(layers []machine.Layer) (bytes int64) {
	for _, l := range layers {
		if c.users[l.ID] == 1 {
			bytes += c.size[l.ID]
		}
	}
	return bytes
}

func (c count) remove(layers []machine.Layer) {
	for _, l := range layers {
		c.users[l.ID]--
	}
}

// counted counts all that there is.
func (a around) counted() count {
	c := count{map[string]int{}, map[string]int64{}}
	for _, m := range a.Machines {
		c.add(m.Layers)
	}
	for _, snap := range a.Snapshots {
		c.add(snap.Layers)
	}
	for _, img := range a.Images {
		c.add(img.Layers)
	}
	c.add(a.cacheLayer())
	return c
}

// cacheName is what the cache of builds is called in a record.
const cacheName = "steps of Dockerfiles"

// cacheLayer is the cache of builds, which can also go in part, as a layer.
func (a around) cacheLayer() []machine.Layer {
	return []machine.Layer{{ID: cacheName, Size: a.cache.Size}}
}

// excess is how many bytes have to go: over the quota, or short of the space
// that is left to the host.
func (a around) excess(used, quota int64) int64 {
	over := a.Reserve - a.Free
	if quota > 0 {
		over = max(over, used-quota)
	}
	return max(over, 0)
}

// plan chooses what goes so that excess bytes become free, the least recently
// used first, and says how many bytes are still missing when nothing more can.
// A name whose going would free nothing stays as long as others do: it may
// again when those that share its layers are gone.
func (a around) plan(excess int64, now time.Time) (removals []errand.Removal, short int64) {
	left, c := a.candidates(now), a.counted()
	for excess > 0 && len(left) > 0 {
		i := slices.IndexFunc(left, func(each candidate) bool { return c.frees(each.layers) > 0 })
		if i < 0 {
			if i = sharedByNames(left, c); i < 0 {
				break
			}
		}
		freed := c.frees(left[i].layers)
		if left[i].what == "cache" {
			freed = min(freed, excess)
		}
		removals = append(removals, errand.Removal{What: left[i].what, Name: left[i].name, Freed: freed, UsedAt: left[i].used})
		excess -= freed
		c.remove(left[i].layers)
		left = slices.Delete(left, i, i+1)
	}
	return removals, max(excess, 0)
}

// sharedByNames gives the first candidate with a layer that candidates alone
// need: none of them frees it, and all together do. It is -1 for none.
func sharedByNames(left []candidate, c count) int {
	names := map[string]int{}
	for _, each := range left {
		for _, l := range each.layers {
			names[l.ID]++
		}
	}
	return slices.IndexFunc(left, func(each candidate) bool {
		return slices.ContainsFunc(each.layers, func(l machine.Layer) bool { return c.size[l.ID] > 0 && names[l.ID] == c.users[l.ID] })
	})
}

// candidates are what may go, the least recently used first.
func (a around) candidates(now time.Time) []candidate {
	var all []candidate
	for _, snap := range a.Snapshots {
		if a.pinned(snap.Key) == "" {
			all = append(all, candidate{"snapshot", string(snap.Key), a.usedAt(snap), snap.Layers})
		}
	}
	for _, img := range a.Images {
		if now.Sub(img.Used) >= fresh {
			all = append(all, candidate{"image", img.Reference, img.Used, img.Layers})
		}
	}
	if !a.cache.Busy {
		all = append(all, candidate{"cache", cacheName, a.cache.Used, a.cacheLayer()})
	}
	slices.SortStableFunc(all, func(x, y candidate) int {
		return cmp.Or(x.used.Compare(y.used), cmp.Compare(x.name, y.name))
	})
	return all
}
