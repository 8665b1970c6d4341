package machine

import (
	"context"
	"io"
	"time"
)

// LayerKind says what a layer is.
type LayerKind string

const (
	LayerImage LayerKind = "image" // of an image, shared by all who stand on it
	LayerHost  LayerKind = "host"  // a directory of the host itself, which is not ours
	LayerDisk  LayerKind = "disk"  // what a machine has written
)

// Layer is one of the directories that a machine's file system is made of.
type Layer struct {
	ID   string    `json:"id"` // unique among the layers of its driver
	Kind LayerKind `json:"kind"`
	Size int64     `json:"size"` // bytes that it takes on the host's disk; 0 for the host's own
}

// Storage is a Driver that keeps what its machines stand on on this host's
// disk, and can let go of it. What it removes nobody needs: to remove a
// snapshot or an image takes away a name, and Sweep what no name leads to any
// more, while no machine stands on it.
type Storage interface {
	Snapshots
	// Stored says what is kept and what it takes. It does no work in proportion
	// to the sizes of disks; that of an image's layer is measured once.
	Stored(ctx context.Context) (Stored, error)
	// RemoveImage forgets an image by its resolved reference. Machines and
	// snapshots that stand on it keep what they need, and who names it again
	// has it pulled again. To remove again is no error.
	RemoveImage(ctx context.Context, reference string) error
	// Sweep removes the layers that no machine, no snapshot and no image has
	// and gives them. It can be killed at any moment, and called while machines
	// are made.
	Sweep(ctx context.Context) ([]Layer, error)
}

// Cache is a Driver that keeps what makes its builds fast, and can let go of it.
type Cache interface {
	// StoredCache says what the cache takes.
	StoredCache(ctx context.Context) (StoredCache, error)
	// ShrinkCache removes what was used least recently, until bytes less are
	// taken or nothing more can go, and gives how many became free. While a build
	// is under way it removes nothing, and waits for none.
	ShrinkCache(ctx context.Context, bytes int64) (int64, error)
}

// StoredCache is what a cache takes on this host's disk.
type StoredCache struct {
	Size int64     // bytes
	Used time.Time // when a build last used it
	Busy bool      // a build uses it now: it stays
}

// Stored is what a driver keeps on this host's disk.
type Stored struct {
	Snapshots []Snapshot      // oldest first
	Machines  []StoredMachine // half-made ones too
	Images    []StoredImage
	Free      int64 // bytes that are left on the disk
	Reserve   int64 // bytes that are left to the host: below, nothing new is made
}

// StoredMachine is what a machine, running or not, has on the disk.
type StoredMachine struct {
	ID      ID
	From    SnapshotKey // the snapshot that it stands on; "" for an image
	Running bool
	Layers  []Layer // lowest first, its own writable one last
}

// StoredImage is an image that need not be pulled again.
type StoredImage struct {
	Reference string // resolved: "host" or a reference with its digest
	Used      time.Time
	Layers    []Layer // lowest first
}

// Archiver is a Driver whose snapshots can leave their host as OCI images, and
// come from such.
type Archiver interface {
	// ExportSnapshot writes the snapshot to w as an OCI image in an archive (a
	// tar of an OCI layout): each of its layers one of the image's, removed files
	// as whiteouts. It blocks until all is written and holds no layer in memory;
	// nothing is written before the first layer is read. A snapshot on the host's
	// own directories is refused as Conflict unless o.Host says to put them in.
	ExportSnapshot(ctx context.Context, key SnapshotKey, w io.Writer, o Export) error
	// ImportSnapshot makes a snapshot of the OCI image in an archive, as
	// ExportSnapshot writes it. It reads no more than the host's disk has room
	// for. A key that exists already is a Conflict. An archive that is none, or
	// damaged, is Invalid.
	ImportSnapshot(ctx context.Context, key SnapshotKey, archive io.Reader, progress func(string)) error
	// KeepImage makes a snapshot of an image as Spec.Image names it. A key that
	// exists already is a Conflict.
	KeepImage(ctx context.Context, key SnapshotKey, image string, progress func(string)) error
}

// Export says how a snapshot is written.
type Export struct {
	Host     bool         // put the host's own directories in, where it stands on them
	Name     string       // a tag by which programs that load the archive know it; may be ""
	Progress func(string) // told in sentences what is done; nil: nobody
}
