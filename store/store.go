// Package store keeps Errand's rows in SQLite, in one file of the data
// directory.
//
// There is one writer and a pool of readers (WAL). Write runs one function in
// one transaction: a decision and the events that tell of it are kept together
// or not at all. Rows are the structs of package errand; SQL that another
// database would say differently (opening, migrating, claiming) stands in
// store.go, migrations and claim.go only.
//
// The store does not decide anything, does not redact and wakes nobody up:
// package journal stands before it for whatever becomes an event.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"golang.org/x/sync/semaphore"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/errand-dev/errand"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database. It may be used from many goroutines.
type Store struct {
	queries         // reads, on the pool
	writer  *sql.DB // one connection
	readers *sql.DB
	turn    *semaphore.Weighted // whoever writes; waits end with their context
	parsed  *statements         // the writer's

	log     *sql.DB       // one connection, for checkpoints
	written chan struct{} // something is in the log
	closing chan struct{} // closed by Close
	tidying sync.WaitGroup
}

// Open opens the database file at path, makes it where there is none, and
// brings its tables up to date. The caller closes the Store.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	writer, err := open(path, "immediate", 1)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, writer); err != nil {
		writer.Close()
		return nil, fmt.Errorf("bringing %s up to date: %w", path, err)
	}
	readers, err := open(path, "deferred", 4)
	if err != nil {
		writer.Close()
		return nil, err
	}
	log, err := open(path, "deferred", 1)
	if err != nil {
		return nil, errors.Join(err, readers.Close(), writer.Close())
	}
	s := &Store{
		queries: queries{readers}, writer: writer, readers: readers, turn: semaphore.NewWeighted(1),
		parsed: &statements{db: writer, known: map[string]*sql.Stmt{}},
		log:    log, written: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.tidying.Go(s.tidy)
	return s, nil
}

// tidyEvery is how long the log may grow before it is moved to its place.
const tidyEvery = 200 * time.Millisecond

// tidy moves what was written from the log into the database, until Close. It
// waits for the disk, so it must be nobody's commit that does it.
func (s *Store) tidy() {
	for {
		select {
		case <-s.written:
		case <-s.closing:
			return
		}
		select {
		case <-time.After(tidyEvery):
		case <-s.closing:
			return
		}
		// What it cannot move now, for a reader or a full disk, stays in the
		// log, where it is as good; the writer says what is wrong.
		_, _ = s.log.Exec(`PRAGMA wal_checkpoint(PASSIVE)`)
	}
}

func open(path, lock string, connections int) (*sql.DB, error) {
	q := url.Values{"_txlock": {lock}}
	for _, p := range []string{
		"journal_mode(wal)", "synchronous(normal)", "busy_timeout(10000)",
		"wal_autocheckpoint(16000)", // the last resort: tidy comes before
		"foreign_keys(on)", "cache_size(-4096)", "temp_store(memory)",
	} {
		q.Add("_pragma", p)
	}
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(path)+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithAllowOutofOrder(true)) // parts land in any order
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// Close ends all connections. Transactions under way are rolled back. Call it
// once.
func (s *Store) Close() error {
	close(s.closing)
	s.tidying.Wait()
	return errors.Join(s.log.Close(), s.readers.Close(), s.writer.Close())
}

// Tx is a transaction that may write. It is valid until Write's function ends.
type Tx struct {
	queries
	ctx context.Context
	tx  writing
	now time.Time
}

// Now is the time of the transaction, the same for all that it writes: UTC, in
// whole milliseconds.
func (t *Tx) Now() time.Time { return t.now }

// Context is what the transaction's statements run under.
func (t *Tx) Context() context.Context { return t.ctx }

// Write runs f in one transaction and commits it if f returns nil. Writers
// take turns; waiting ends with ctx. f may read through the Tx what it has
// written.
func (s *Store) Write(ctx context.Context, f func(*Tx) error) error {
	if err := s.turn.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.turn.Release(1)
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", diskError(err))
	}
	defer s.parsed.learn()
	defer tx.Rollback() // of no effect once committed
	now := time.Now().UTC().Truncate(time.Millisecond)
	w := writing{tx, s.parsed}
	if err := f(&Tx{queries: queries{w}, ctx: ctx, tx: w, now: now}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", diskError(err))
	}
	select {
	case s.written <- struct{}{}:
	default:
	}
	return nil
}

func (t *Tx) exec(query string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, diskError(err)
	}
	return r.RowsAffected()
}

// querier is what a transaction and a pool have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// queries are the reads, which a Store does on its pool and a Tx inside itself.
type queries struct{ db querier }

func notFound(err error, code, format string, args ...any) error {
	if errors.Is(err, sql.ErrNoRows) {
		return errand.Errorf(errand.NotFound, code, format, args...)
	}
	return err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
