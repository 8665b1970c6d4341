package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/errand-dev/errand"
)

const setupColumns = `content, status, created_at, updated_at`

func scanSetup(s scanner) (errand.Setup, error) {
	var setup errand.Setup
	var content string
	var status errand.SetupStatus
	var created, updated int64
	if err := s.Scan(&content, &status, &created, &updated); err != nil {
		return setup, err
	}
	if err := json.Unmarshal([]byte(content), &setup); err != nil {
		return setup, fmt.Errorf("reading a setup: %w", err)
	}
	setup.Status, setup.CreatedAt, setup.UpdatedAt = status, fromMillis(created), fromMillis(updated)
	return setup, nil
}

// Setup gives one setup, or a NotFound error.
func (q queries) Setup(ctx context.Context, id errand.SetupID) (errand.Setup, error) {
	s, err := scanSetup(q.db.QueryRowContext(ctx, `SELECT `+setupColumns+` FROM setups WHERE id = $1`, id))
	return s, notFound(err, "setup_not_found", "There is no setup %s. `errand setup ls` shows which there are.", id)
}

// Setups gives a page of at most limit setups, newest first, and the cursor of the
// next one ("" on the last); cursor is from the page before, "" for the first. One
// that is none is an Invalid error.
func (q queries) Setups(ctx context.Context, limit int, cursor string) ([]errand.Setup, string, error) {
	before, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	rows, err := q.db.QueryContext(ctx, `
		SELECT number, `+setupColumns+` FROM setups WHERE $1 = 0 OR number < $1 ORDER BY number DESC LIMIT $2`, before, limit+1)
	if err != nil {
		return nil, "", err
	}
	return page(rows, limit, scanSetup)
}

// BusySetups gives the setups that the server has to work on, oldest first.
func (q queries) BusySetups(ctx context.Context) ([]errand.Setup, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+setupColumns+` FROM setups WHERE status NOT IN ('proposed', 'proved', 'accepted') ORDER BY number`)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanSetup)
}

// InsertSetup keeps a new setup.
func (t *Tx) InsertSetup(s errand.Setup) error {
	content, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing setup %s: %w", s.ID, err)
	}
	_, err = t.exec(`
		INSERT INTO setups (id, number, status, content, last_seq, created_at, updated_at)
		VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM setups), $2, $3, 0, $4, $4)`, s.ID, s.Status, string(content), t.now.UnixMilli())
	return err
}

// UpdateSetup writes all of a setup that is there. It sets UpdatedAt.
func (t *Tx) UpdateSetup(s errand.Setup) error {
	content, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing setup %s: %w", s.ID, err)
	}
	_, err = t.exec(`UPDATE setups SET status = $2, content = $3, updated_at = $4 WHERE id = $1`, s.ID, s.Status, string(content), t.now.UnixMilli())
	return err
}

// DeleteSetup removes a setup with its events.
func (t *Tx) DeleteSetup(id errand.SetupID) error {
	for _, q := range []string{`DELETE FROM setups WHERE id = $1`, `DELETE FROM events WHERE subject = $1`} {
		if _, err := t.exec(q, id); err != nil {
			return fmt.Errorf("deleting setup %s: %w", id, err)
		}
	}
	return nil
}
