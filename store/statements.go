package store

import (
	"context"
	"database/sql"
)

// statements are those of the writer's connection, parsed once: that is two
// fifths of a small transaction otherwise. Their texts are constants of this
// package, so they are few. They are touched in a writer's turn only.
type statements struct {
	db    *sql.DB
	known map[string]*sql.Stmt
	seen  []string // to be parsed
}

// learn parses what was seen. No transaction may be under way: it has the only
// connection. What fails now is tried with its next use.
func (s *statements) learn() {
	for _, query := range s.seen {
		if s.known[query] != nil {
			continue
		}
		if stmt, err := s.db.Prepare(query); err == nil {
			s.known[query] = stmt
		}
	}
	s.seen = s.seen[:0]
}

// writing is a transaction that uses parsed statements, but for queries of many
// rows: of one statement only one can be read at a time.
type writing struct {
	*sql.Tx
	parsed *statements
}

// statement gives nil for a text that has not been parsed.
func (w writing) statement(ctx context.Context, query string) *sql.Stmt {
	stmt := w.parsed.known[query]
	if stmt == nil {
		w.parsed.seen = append(w.parsed.seen, query)
		return nil
	}
	return w.StmtContext(ctx, stmt)
}

func (w writing) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if stmt := w.statement(ctx, query); stmt != nil {
		return stmt.ExecContext(ctx, args...)
	}
	return w.Tx.ExecContext(ctx, query, args...)
}

func (w writing) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if stmt := w.statement(ctx, query); stmt != nil {
		return stmt.QueryRowContext(ctx, args...)
	}
	return w.Tx.QueryRowContext(ctx, query, args...)
}
