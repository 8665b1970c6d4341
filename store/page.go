package store

import (
	"database/sql"
	"strconv"

	"github.com/errand-dev/errand"
)

// A cursor of rows that can be deleted is the number of a page's last row, and
// not its id: the next page begins behind it, whether it is still there or not.

// parseCursor gives a cursor's number, 0 for "".
func parseCursor(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil || n <= 0 {
		return 0, errand.Errorf(errand.Invalid, "validation_error", "The cursor %.80q is not one that this server gave.", cursor)
	}
	return n, nil
}

// page reads rows whose first column is their number and closes them. It gives at
// most limit of them, and the cursor of the next page where there are more.
func page[T any](rows *sql.Rows, limit int, scan func(scanner) (T, error)) ([]T, string, error) {
	var numbers []int64
	all, err := collect(rows, func(s scanner) (T, error) {
		n := numbered{scanner: s}
		v, err := scan(&n)
		numbers = append(numbers, n.number)
		return v, err
	})
	if err != nil || len(all) <= limit {
		return all, "", err
	}
	return all[:limit], strconv.FormatInt(numbers[limit-1], 10), nil
}

// numbered is a row without its first column, which is its number.
type numbered struct {
	scanner
	number int64
}

func (n *numbered) Scan(to ...any) error {
	return n.scanner.Scan(append([]any{&n.number}, to...)...)
}
