package errand

import (
	"regexp"
	"strings"
)

// uuidPattern is a UUID in lower case.
const uuidPattern = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`

// parseID reads an id as a client sent it. Letters may come in either case.
// Anything else than form is an Invalid error that says what it is not, and how
// one looks.
func parseID[ID ~string](s string, form *regexp.Regexp, what, looks string) (ID, error) {
	id := strings.ToLower(s)
	if !form.MatchString(id) {
		return "", Errorf(Invalid, "validation_error", "%q is not %s. It looks like %s.", clip(s), what, looks)
	}
	return ID(id), nil
}

// clip bounds a value that goes back to its sender inside a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
