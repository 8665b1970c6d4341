package store

import (
	"context"
	"time"

	"github.com/errand-dev/errand"
)

// Snapshot is the row of a snapshot that somebody named or used.
type Snapshot struct {
	Key    string
	Name   string    // "" for none
	UsedAt time.Time // zero: not yet
}

func scanSnapshot(s scanner) (row Snapshot, err error) {
	var used int64
	err = s.Scan(&row.Key, &row.Name, &used)
	row.UsedAt = fromMillis(used)
	return row, err
}

// Snapshots gives the rows of all snapshots that have one.
func (q queries) Snapshots(ctx context.Context) ([]Snapshot, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT key, name, used_at FROM snapshots ORDER BY key`)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanSnapshot)
}

// SnapshotNamed gives the snapshot of a name, or a NotFound error.
func (q queries) SnapshotNamed(ctx context.Context, name string) (Snapshot, error) {
	row, err := scanSnapshot(q.db.QueryRowContext(ctx, `SELECT key, name, used_at FROM snapshots WHERE name = $1 AND name <> ''`, name))
	return row, notFound(err, "snapshot_not_found", "There is no snapshot named %q. `errand snapshot ls` shows which there are.", name)
}

// SnapshotBuilds gives the builds of environments that are there whose kept disk
// is a snapshot, by their uses; all snapshots for the key "".
func (q queries) SnapshotBuilds(ctx context.Context, key string) (map[string][]errand.SnapshotUse, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT b.snapshot, b.id, b.environment, e.active = b.id FROM builds b JOIN environments e ON e.id = b.environment
		WHERE b.snapshot <> '' AND e.deleted_at = 0 AND ($1 = '' OR b.snapshot = $1) ORDER BY b.number DESC`, key)
	if err != nil {
		return nil, err
	}
	uses := map[string][]errand.SnapshotUse{}
	_, err = collect(rows, func(s scanner) (struct{}, error) {
		var key string
		var use errand.SnapshotUse
		err := s.Scan(&key, &use.Build, &use.Environment, &use.Active)
		uses[key] = append(uses[key], use)
		return struct{}{}, err
	})
	return uses, err
}

// TouchSnapshot notes that a machine starts on a snapshot now.
func (t *Tx) TouchSnapshot(key string) error {
	_, err := t.exec(`
		INSERT INTO snapshots (key, name, used_at) VALUES ($1, '', $2)
		ON CONFLICT (key) DO UPDATE SET used_at = excluded.used_at`, key, t.now.UnixMilli())
	return err
}

// NameSnapshot gives a snapshot a name, or takes it away with "". A name that
// another has is a Conflict; a snapshot that is being removed is NotFound.
func (t *Tx) NameSnapshot(key, name string) error {
	if other, err := t.SnapshotNamed(t.ctx, name); err == nil && other.Key != key {
		return errand.Errorf(errand.Conflict, "snapshot_name_conflict", "Another snapshot is named %q: %.16s…. Take the name away from it first, or choose another.", name, other.Key)
	} else if err != nil && errand.KindOf(err) != errand.NotFound {
		return err
	}
	var going int
	if err := t.db.QueryRowContext(t.ctx, `SELECT COUNT(*) FROM removals WHERE open = 1 AND what = 'snapshot' AND name = $1`, key).Scan(&going); err != nil {
		return err
	}
	if going > 0 {
		return errand.Errorf(errand.NotFound, "snapshot_not_found", "The snapshot %s is being removed to make room.", key)
	}
	_, err := t.exec(`
		INSERT INTO snapshots (key, name, used_at) VALUES ($1, $2, 0)
		ON CONFLICT (key) DO UPDATE SET name = excluded.name`, key, name)
	return err
}

// DropSnapshot forgets what is known of a snapshot. To drop again is no error.
func (t *Tx) DropSnapshot(key string) error {
	_, err := t.exec(`DELETE FROM snapshots WHERE key = $1`, key)
	return err
}
