package environment

import (
	"context"
	"fmt"

	"github.com/errand-dev/errand/machine"
)

// Wanted is what a machine's disk should have.
type Wanted struct {
	Key   machine.SnapshotKey // of the disk that install leaves; "" without install
	Parts []KeyPart           // what went into Key; without install the image alone
	// Failed says why the image cannot be had, where it cannot; Key is not known
	// then.
	Failed error
}

// Disk is a kept disk on which a machine can start.
type Disk struct {
	From machine.SnapshotKey // "" is none: the machine starts on the image
	// Image, where From is "", is the resolved name of an image to stand on in
	// place of the one that cannot be had.
	Image string
	// Installed says that nothing is to be installed on it, although its key may
	// be another. Without it, install runs on top of From.
	Installed bool
	// Note says in a few words, for people, which disk this is; or why there is
	// none, or why it does not do as it is ("package-lock.json changed since
	// bld-…").
	Note string
	// Notes are what an agent on it should know, in sentences.
	Notes []string
}

// find looks for a disk to start on. failed says why there is no image.
func (w *work) find(ctx context.Context, failed error) (Disk, error) {
	if w.Force {
		return Disk{Note: "asked for anew"}, nil
	}
	if w.Disk != nil {
		disk, err := w.Disk(ctx, Wanted{Key: w.key, Parts: w.parts, Failed: failed})
		if err != nil {
			return Disk{}, w.explain(ctx, fmt.Errorf("looking for a disk: %w", err))
		}
		return disk, nil
	}
	snapshots, ok := w.Driver.(machine.Snapshots)
	if !ok || w.key == "" {
		return Disk{}, nil
	}
	has, err := snapshots.HasSnapshot(ctx, w.key)
	switch {
	case err != nil:
		return Disk{}, w.explain(ctx, fmt.Errorf("looking for the snapshot: %w", err))
	case has:
		return Disk{From: w.key, Installed: true, Note: Short(w.key)}, nil
	}
	return Disk{Note: "no snapshot for this key yet"}, nil
}
