package errand

import (
	"regexp"
	"time"
)

// Snapshot is a kept disk as people see it.
type Snapshot struct {
	Key  string `json:"key"`            // what decided it, or a random one where it was imported
	Name string `json:"name,omitempty"` // people's; unique, and keeps it from being collected
	// Image is what lies below: "host" or a reference with its digest.
	Image string `json:"image"`
	// Size is what this snapshot alone has of the host's disk, in bytes: what
	// goes with it, unless a machine stands on it. Shared is what others have too.
	Size      int64     `json:"size"`
	Shared    int64     `json:"shared"`
	CreatedAt time.Time `json:"createdAt"`
	UsedAt    time.Time `json:"usedAt"` // when a machine last started on it; CreatedAt before that
	// Pinned says, in a few words, why it is not collected; "" where it may be.
	Pinned string          `json:"pinned,omitempty"`
	Layers []SnapshotLayer `json:"layers,omitempty"` // lowest first; not in lists
	Uses   []SnapshotUse   `json:"uses,omitempty"`   // not in lists
}

// SnapshotImage begins the name of an image that is a kept disk:
// "snapshot:NAME", and resolved "snapshot:KEY". It stands wherever an image is
// named; what is installed on it is decided by the disk as by an image.
const SnapshotImage = "snapshot:"

// SnapshotLayer is one of the layers that a snapshot is made of.
type SnapshotLayer struct {
	ID   string `json:"id"`
	Kind string `json:"kind"` // "image", "host" (the host's own directories) or "disk"
	Size int64  `json:"size"` // bytes on the host's disk; 0 for the host's own
	// Shared says that another snapshot or image has the layer too.
	Shared bool `json:"shared,omitempty"`
}

// SnapshotUse is somebody who stands on a snapshot. One of Agent and Build is
// set, or neither for a machine that is nobody's yet.
type SnapshotUse struct {
	Machine     string        `json:"machine,omitempty"`
	Running     bool          `json:"running,omitempty"` // the machine
	Agent       AgentID       `json:"agent,omitempty"`
	Build       BuildID       `json:"build,omitempty"`
	Environment EnvironmentID `json:"environment,omitempty"` // of Build
	Active      bool          `json:"active,omitempty"`      // Build is its environment's active one
}

// Removal is something that was taken off the disk to make room.
type Removal struct {
	What string `json:"what"` // "snapshot", "image", "cache", "disk" or "layer"
	Name string `json:"name"` // a snapshot's key, an image's reference, what a cache is of, a layer's id
	// Freed is what was counted on to become free, in bytes.
	Freed  int64     `json:"freed"`
	UsedAt time.Time `json:"usedAt,omitzero"` // when it was last used, where that is known
}

// Collection is one time that room was made.
type Collection struct {
	ID      int64     `json:"id"`
	At      time.Time `json:"at"`
	Why     string    `json:"why"`     // a sentence
	Used    int64     `json:"used"`    // bytes that machines, snapshots, images and caches took before
	Quota   int64     `json:"quota"`   // bytes; 0 is none
	Free    int64     `json:"free"`    // bytes that the host's disk had left before
	Removed []Removal `json:"removed"` // in the order in which it went
	Freed   int64     `json:"freed"`   // the sum
	Short   int64     `json:"short"`   // bytes that are still over the bound: all else is in use
	DryRun  bool      `json:"dryRun"`  // nothing was removed
}

var snapshotName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

// CheckSnapshotName says whether people may call a snapshot so; "" takes a name
// away.
func CheckSnapshotName(name string) error {
	switch name {
	case "import", "collect", "collections":
		return Errorf(Invalid, "validation_error", "%q means something else among snapshots. Choose another name.", name)
	}
	if name != "" && !snapshotName.MatchString(name) {
		return Errorf(Invalid, "validation_error", "%q is not a name for a snapshot. Use letters, digits, dots, dashes and underscores, at most 63, and begin with a letter or digit.", clip(name))
	}
	return nil
}
