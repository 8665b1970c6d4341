package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/errand-dev/errand"
)

// Claim gives owner the oldest run that waits or whose lease is over, for as
// long as lease, and false where there is none. A run waits behind the earlier
// runs of its agent, and not begun yet behind a take-over. Owner is not given a run that it has already: a host that
// slept finds all its leases over.
func (t *Tx) Claim(owner string, lease time.Duration) (errand.Run, bool, error) {
	now := t.now.UnixMilli()
	rows, err := t.tx.QueryContext(t.ctx, `
		UPDATE runs SET owner = $1, lease_until = $2
		WHERE id = (
			SELECT r.id FROM runs r
			WHERE r.status IN ('queued', 'preparing', 'running') AND r.lease_until <= $3 AND r.owner <> $1
			  AND NOT EXISTS (
				SELECT 1 FROM runs e WHERE e.agent = r.agent AND e.number < r.number
				  AND e.status IN ('queued', 'preparing', 'running'))
			  AND NOT (r.status = 'queued' AND EXISTS (SELECT 1 FROM agents a WHERE a.id = r.agent AND a.takeover <> ''))
			ORDER BY CASE r.status WHEN 'queued' THEN 1 ELSE 0 END, r.created_at, r.id
			LIMIT 1)
		RETURNING `+runColumns, owner, now+lease.Milliseconds(), now)
	if err != nil {
		return errand.Run{}, false, fmt.Errorf("claiming a run: %w", diskError(err))
	}
	runs, err := collect(rows, scanRun)
	if err != nil || len(runs) == 0 {
		return errand.Run{}, false, err
	}
	return runs[0], true, nil
}

// Renew prolongs the leases of all runs that owner works on.
func (t *Tx) Renew(owner string, lease time.Duration) error {
	_, err := t.exec(`UPDATE runs SET lease_until = $1 WHERE owner = $2 AND status IN ('preparing', 'running', 'queued') AND lease_until > 0`,
		t.now.Add(lease).UnixMilli(), owner)
	return err
}

// Release gives a run back, so that whoever claims next may have it.
func (t *Tx) Release(run errand.RunID) error {
	_, err := t.exec(`UPDATE runs SET owner = '', lease_until = 0 WHERE id = $1`, run)
	return err
}

// ReleaseAll ends every lease. Only the sole holder of the data directory may
// call it, when it starts: whoever held a lease before is dead.
func (t *Tx) ReleaseAll() error {
	_, err := t.exec(`UPDATE runs SET owner = '', lease_until = 0 WHERE lease_until > 0`)
	return err
}

// OpenRuns counts the runs that have not ended, by status.
func (q queries) OpenRuns(ctx context.Context) (map[errand.RunStatus]int, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT status, COUNT(*) FROM runs WHERE status IN ('queued', 'preparing', 'running') GROUP BY status`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := map[errand.RunStatus]int{}
	for rows.Next() {
		var s errand.RunStatus
		var n int
		if err := rows.Scan(&s, &n); err != nil {
			return nil, err
		}
		counts[s] = n
	}
	return counts, rows.Err()
}

// ErrFull says that the disk of the database is full. What was to be written can
// be written once there is room again.
var ErrFull = errors.New("the database's disk is full")

// diskError turns the database's word for a full or broken disk into a sentence.
func diskError(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlitelib.SQLITE_FULL:
		return errand.Errorf(errand.Unavailable, "disk_full", "The disk that holds Errand's data directory is full. Free some space; work goes on by itself afterwards. (%w)", fmt.Errorf("%w: %w", ErrFull, err))
	case sqlitelib.SQLITE_READONLY, sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_IOERR:
		return errand.Errorf(errand.Unavailable, "disk_error", "Errand's database cannot be written. Look at the data directory's disk and its permissions. (%w)", err)
	}
	return err
}

// conflicts says whether err is about a row that is there already.
func conflicts(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlitelib.SQLITE_CONSTRAINT && strings.Contains(e.Error(), "UNIQUE")
}
