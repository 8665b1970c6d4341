package store

import (
	"context"

	"github.com/errand-dev/errand"
)

// keptCollections is how many collections are remembered.
const keptCollections = 200

// InsertCollection keeps a new collection without its removals and gives its
// number. The oldest are forgotten.
func (t *Tx) InsertCollection(c errand.Collection) (id int64, err error) {
	err = t.tx.QueryRowContext(t.ctx, `INSERT INTO collections (at, why, used, quota, free, short) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
		millis(c.At), c.Why, c.Used, c.Quota, c.Free, c.Short).Scan(&id)
	if err != nil {
		return 0, diskError(err)
	}
	for _, statement := range []string{`DELETE FROM collections WHERE id <= $1`, `DELETE FROM removals WHERE collection <= $1 AND open = 0`} {
		if _, err := t.exec(statement, id-keptCollections); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// OpenRemoval writes down that something will be removed; CloseRemoval, that it
// was. number counts from 1 within the collection.
func (t *Tx) OpenRemoval(collection int64, number int, r errand.Removal) error {
	_, err := t.exec(`INSERT INTO removals (collection, number, what, name, freed, used_at, open) VALUES ($1, $2, $3, $4, $5, $6, 1)`,
		collection, number, r.What, r.Name, r.Freed, millis(r.UsedAt))
	return err
}

// CloseRemoval notes that a removal was carried out.
func (t *Tx) CloseRemoval(collection int64, number int) error {
	_, err := t.exec(`UPDATE removals SET open = 0 WHERE collection = $1 AND number = $2`, collection, number)
	return err
}

// CancelRemoval forgets a removal that was not carried out.
func (t *Tx) CancelRemoval(collection int64, number int) error {
	_, err := t.exec(`DELETE FROM removals WHERE collection = $1 AND number = $2`, collection, number)
	return err
}

// OpenRemoval is a removal of which it is not known whether it was carried out.
type OpenRemoval struct {
	Collection int64
	Number     int
	errand.Removal
}

// OpenRemovals gives the removals that a killed process began.
func (q queries) OpenRemovals(ctx context.Context) ([]OpenRemoval, error) {
	return q.removals(ctx, `open = 1 ORDER BY collection, number`)
}

func (q queries) removals(ctx context.Context, which string, args ...any) ([]OpenRemoval, error) {
	rows, err := q.db.QueryContext(ctx, `SELECT collection, number, what, name, freed, used_at FROM removals WHERE `+which, args...)
	if err != nil {
		return nil, err
	}
	return collect(rows, func(s scanner) (r OpenRemoval, err error) {
		var used int64
		err = s.Scan(&r.Collection, &r.Number, &r.What, &r.Name, &r.Freed, &used)
		r.UsedAt = fromMillis(used)
		return r, err
	})
}

// Collections gives collections with what they removed, newest first: at most
// limit, older than the one with the number before (0 for all).
func (q queries) Collections(ctx context.Context, limit int, before int64) ([]errand.Collection, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT id, at, why, used, quota, free, short FROM collections WHERE $1 = 0 OR id < $1 ORDER BY id DESC LIMIT $2`, before, limit)
	if err != nil {
		return nil, err
	}
	all, err := collect(rows, func(s scanner) (c errand.Collection, err error) {
		var at int64
		err = s.Scan(&c.ID, &at, &c.Why, &c.Used, &c.Quota, &c.Free, &c.Short)
		c.At = fromMillis(at)
		return c, err
	})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	gone, err := q.removals(ctx, `open = 0 AND collection BETWEEN $1 AND $2 ORDER BY collection, number`, all[len(all)-1].ID, all[0].ID)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Removed = []errand.Removal{}
		for _, r := range gone {
			if r.Collection == all[i].ID {
				all[i].Removed = append(all[i].Removed, r.Removal)
				all[i].Freed += r.Freed
			}
		}
	}
	return all, nil
}
