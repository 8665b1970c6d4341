package snapshot

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// days is a time that many days ago.
func days(n int) time.Time { return now.AddDate(0, 0, -n) }

// layers writes down layers of ten bytes each: "image:i disk:d".
func layers(text string) []machine.Layer {
	var all []machine.Layer
	for each := range strings.FieldsSeq(text) {
		kind, id, _ := strings.Cut(each, ":")
		l := machine.Layer{ID: id, Kind: machine.LayerKind(kind), Size: 10}
		if l.Kind == machine.LayerHost {
			l.Size = 0
		}
		all = append(all, l)
	}
	return all
}

func snap(key, of string, made int) machine.Snapshot {
	return machine.Snapshot{Key: machine.SnapshotKey(key), Created: days(made), Layers: layers(of)}
}

func TestPlan(t *testing.T) {
	rows := func(all ...store.Snapshot) map[machine.SnapshotKey]store.Snapshot {
		m := map[machine.SnapshotKey]store.Snapshot{}
		for _, row := range all {
			m[machine.SnapshotKey(row.Key)] = row
		}
		return m
	}
	three := []machine.Snapshot{snap("a", "image:i disk:1", 9), snap("b", "image:i disk:2", 8), snap("c", "image:i disk:3", 7)}
	for _, test := range []struct {
		name   string
		around around
		excess int64
		want   string // what goes, in order
		short  int64
	}{
		{"nothing is over", around{Stored: machine.Stored{Snapshots: three}}, 0, "", 0},
		{"the oldest first, and no more than needed", around{Stored: machine.Stored{Snapshots: three}}, 15, "a b", 0},
		{"use makes young", around{Stored: machine.Stored{Snapshots: three}, rows: rows(store.Snapshot{Key: "a", UsedAt: days(1)})}, 15, "b c", 0},
		{"names are kept", around{Stored: machine.Stored{Snapshots: three}, rows: rows(store.Snapshot{Key: "a", Name: "mine"})}, 25, "b c", 5},
		{"the active build is kept, an earlier one is not",
			around{Stored: machine.Stored{Snapshots: three}, builds: map[string][]errand.SnapshotUse{"a": {{Build: "x", Active: true}}, "b": {{Build: "y"}}}},
			5, "b", 0},
		{"a running machine keeps what it runs on",
			around{Stored: machine.Stored{Snapshots: three, Machines: []machine.StoredMachine{{ID: "m", From: "a", Running: true, Layers: layers("image:i disk:1 disk:own")}}}},
			35, "b c", 15},
		{"a stopped machine's snapshot would free nothing, and stays",
			around{Stored: machine.Stored{Snapshots: three, Machines: []machine.StoredMachine{{ID: "m", From: "a", Layers: layers("image:i disk:1 disk:own")}}}},
			35, "b c", 15},
		{"a lower disk goes after what stands on it",
			around{Stored: machine.Stored{Snapshots: []machine.Snapshot{snap("low", "image:i disk:1", 9), snap("high", "image:i disk:1 disk:2", 8), snap("c", "image:i disk:3", 7)}}},
			15, "high low", 0},
		{"two names of one disk go together",
			around{Stored: machine.Stored{Snapshots: []machine.Snapshot{snap("one", "disk:1", 9), snap("two", "disk:1", 8), snap("c", "disk:3", 1)}}},
			15, "c one two", 0},
		{"the last snapshot takes its image with it", around{Stored: machine.Stored{Snapshots: three}}, 35, "a b c", 0},
		{"an image nobody stands on goes in its turn",
			around{Stored: machine.Stored{Snapshots: three, Images: []machine.StoredImage{{Reference: "old", Used: days(8).Add(-time.Hour), Layers: layers("image:o")}}}},
			15, "a old", 0},
		{"an image in use frees nothing",
			around{Stored: machine.Stored{Images: []machine.StoredImage{{Reference: "used", Used: days(30), Layers: layers("image:i")}},
				Machines: []machine.StoredMachine{{ID: "m", Layers: layers("image:i disk:own")}}}},
			5, "", 5},
		{"an image that is just being pulled is left alone",
			around{Stored: machine.Stored{Images: []machine.StoredImage{{Reference: "new", Used: now.Add(-time.Minute), Layers: layers("image:i")}}}},
			5, "", 5},
		{"of the cache goes what is needed, in its turn",
			around{Stored: machine.Stored{Snapshots: three}, cache: machine.StoredCache{Size: 100, Used: days(8).Add(-time.Hour)}}, 25, "a " + cacheName, 0},
		{"the cache goes when all else has",
			around{Stored: machine.Stored{Snapshots: three}, cache: machine.StoredCache{Size: 15, Used: days(1)}}, 60, "a b c " + cacheName, 5},
		{"a cache in use stays",
			around{cache: machine.StoredCache{Size: 100, Used: days(1), Busy: true}}, 25, "", 25},
		{"the host's own directories are nobody's room",
			around{Stored: machine.Stored{Snapshots: []machine.Snapshot{snap("h", "host:/usr", 9)}}}, 5, "", 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			removals, short := test.around.plan(test.excess, now)
			var got []string
			var bytes int64
			for _, r := range removals {
				got = append(got, r.Name)
				bytes += r.Freed
			}
			if strings.Join(got, " ") != test.want || short != test.short {
				t.Errorf("what goes: %q, %d bytes short; want %q, %d", strings.Join(got, " "), short, test.want, test.short)
			}
			if short == 0 && bytes < test.excess {
				t.Errorf("%d bytes were counted on, %d were asked for", bytes, test.excess)
			}
		})
	}
}

func TestExcess(t *testing.T) {
	for _, test := range []struct{ free, reserve, used, quota, want int64 }{
		{100, 50, 1000, 0, 0},
		{40, 50, 0, 0, 10},
		{100, 50, 70, 60, 10},
		{45, 50, 70, 60, 10},
		{30, 50, 70, 60, 20},
		{100, 50, 60, 60, 0},
	} {
		a := around{Stored: machine.Stored{Free: test.free, Reserve: test.reserve}}
		if got := a.excess(test.used, test.quota); got != test.want {
			t.Errorf("%+v: %d bytes over", test, got)
		}
	}
}

func TestFind(t *testing.T) {
	a := around{Stored: machine.Stored{Snapshots: []machine.Snapshot{snap("abcd1", "", 1), snap("abcd2", "", 1), snap("ef00", "", 1)}},
		rows: map[machine.SnapshotKey]store.Snapshot{"ef00": {Key: "ef00", Name: "abcd"}}}
	got := map[string]string{}
	for _, ref := range []string{"abcd", "abcd1", "ef00", "ef0", "abc", "", "zzzz"} {
		snap, err := a.find(ref)
		got[ref] = string(snap.Key) + string(errand.KindOf(err))
	}
	want := map[string]string{"abcd": "ef00", "abcd1": "abcd1", "ef00": "ef00", "ef0": "not_found", "abc": "not_found", "": "not_found", "zzzz": "not_found"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}
