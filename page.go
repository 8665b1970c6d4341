package errand

// A list is given page by page, newest first. The cursor of the next page is the
// id of the last entry of this one; "" is that there is none, or the beginning. Of
// agents and setups, which people delete, it is a number that package store gives.

// Before gives the id before which a page begins, by the parser of such ids; ""
// is the first page.
func Before[ID ~string](cursor string, parse func(string) (ID, error)) (ID, error) {
	if cursor == "" {
		return "", nil
	}
	id, err := parse(cursor)
	if err != nil {
		return "", Errorf(Invalid, "validation_error", "The cursor %.80q is not one that this server gave.", cursor)
	}
	return id, nil
}

// Page makes a page of at most limit entries, and its cursor, of what was asked
// for with room for one more.
func Page[T any, ID ~string](all []T, limit int, id func(T) ID) (page []T, cursor string) {
	if len(all) <= limit {
		return all, ""
	}
	return all[:limit], string(id(all[limit-1]))
}
