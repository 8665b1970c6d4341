package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/machine"
	"github.com/errand-dev/errand/store"
)

// Export writes a snapshot as an OCI image archive to w. Errors before anything
// was written are as those of the driver: NotFound, and Conflict for one that
// stands on the host's own directories unless host says to put them in.
func (s *Snapshots) Export(ctx context.Context, ref string, w io.Writer, host bool, progress func(string)) error {
	archiver, err := s.archiver()
	if err != nil {
		return err
	}
	a, _, err := s.look(ctx)
	if err != nil {
		return err
	}
	snap, err := a.find(ref)
	if err != nil {
		return err
	}
	o := machine.Export{Host: host, Progress: progress}
	if name := a.rows[snap.Key].Name; name != "" {
		o.Name = name
	}
	return archiver.ExportSnapshot(ctx, snap.Key, w, o)
}

// Import makes a snapshot of an OCI image archive, or of an image that has a
// reference where archive is nil, and gives it a name; "" is none.
func (s *Snapshots) Import(ctx context.Context, name, image string, archive io.Reader, progress func(string)) (errand.Snapshot, error) {
	var none errand.Snapshot
	archiver, err := s.archiver()
	if err != nil {
		return none, err
	}
	if err := s.mayName(ctx, name); err != nil {
		return none, err
	}
	if err := s.Room(ctx); err != nil {
		return none, err
	}
	key := newKey()
	if archive != nil {
		err = archiver.ImportSnapshot(ctx, key, archive, progress)
	} else {
		err = archiver.KeepImage(ctx, key, image, progress)
	}
	if err != nil {
		return none, err
	}
	err = s.Store.Write(ctx, func(t *store.Tx) error {
		if err := t.TouchSnapshot(string(key)); err != nil {
			return err
		}
		return t.NameSnapshot(string(key), name)
	})
	if err != nil { // somebody took the name meanwhile
		return none, errors.Join(err, s.Driver.(machine.Snapshots).RemoveSnapshot(context.WithoutCancel(ctx), key))
	}
	return s.Snapshot(ctx, string(key))
}

// mayName says before the work of an import whether its name can be given.
func (s *Snapshots) mayName(ctx context.Context, name string) error {
	if err := errand.CheckSnapshotName(name); err != nil || name == "" {
		return err
	}
	row, err := s.Store.SnapshotNamed(ctx, name)
	switch {
	case err == nil:
		return errand.Errorf(errand.Conflict, "snapshot_name_conflict", "A snapshot is named %q already: %.16s…. Choose another name, or take that one away from it first.", name, row.Key)
	case errand.KindOf(err) == errand.NotFound:
		return nil
	}
	return err
}

// newKey makes a key for what no environment decided.
func newKey() machine.SnapshotKey {
	b := make([]byte, 16)
	rand.Read(b)
	return machine.SnapshotKey(hex.EncodeToString(b))
}

func (s *Snapshots) archiver() (machine.Archiver, error) {
	if archiver, ok := s.Driver.(machine.Archiver); ok {
		return archiver, nil
	}
	return nil, errand.Errorf(errand.Conflict, "not_supported", "The machines of this server keep no snapshots that could leave their host.")
}
