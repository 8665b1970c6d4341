package store

import "context"

// Exec runs a statement as the writer does, for tests of what the database
// itself refuses.
func Exec(s *Store, statement string) error {
	_, err := s.writer.ExecContext(context.Background(), statement)
	return err
}
