package build

import (
	"context"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/journal"
)

// Versions gives a page of an environment's history, newest first, which version
// is the current one, and the cursor of the next page ("" on the last). A
// deleted environment has a history too.
func (b *Builds) Versions(ctx context.Context, caller errand.Caller, id errand.EnvironmentID, limit int, cursor string) (all []errand.EnvironmentVersion, current errand.VersionID, next string, err error) {
	e, err := seen(ctx, b.Store, caller, id)
	if err != nil {
		return nil, "", "", err
	}
	before, err := errand.Before(cursor, errand.ParseVersionID)
	if err != nil {
		return nil, "", "", err
	}
	all, err = b.Store.Versions(ctx, id, limit+1, before)
	all, next = errand.Page(all, limit, func(v errand.EnvironmentVersion) errand.VersionID { return v.ID })
	return all, e.Version, next, err
}

// Diff gives what a version changed, or would, against another ("" is the one
// that held before it), as a unified diff of the two texts; "" where they are
// the same.
func (b *Builds) Diff(ctx context.Context, caller errand.Caller, id errand.EnvironmentID, version, against errand.VersionID) (string, error) {
	if _, err := seen(ctx, b.Store, caller, id); err != nil {
		return "", err
	}
	now, err := b.Store.Version(ctx, id, version)
	if err != nil {
		return "", err
	}
	var old errand.EnvironmentVersion // of the first version: nothing
	if against != "" {
		if old, err = b.Store.Version(ctx, id, against); err != nil {
			return "", err
		}
	} else if old, err = b.Store.VersionBefore(ctx, id, version); err != nil {
		return "", err
	}
	name := "/dev/null"
	if old.ID != "" {
		name = string(old.ID)
	}
	return string(diff.Diff(name, lines(old.JSON), string(now.ID), lines(now.JSON))), nil
}

// lines ends a text with a line break, so that its last line is like the others.
func lines(text string) []byte {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return []byte(text)
}

// Restore makes an earlier version ("" is the last before it was deleted) the
// environment's text again, as a new version, and queues a build. A deleted
// environment is there again afterwards.
func (b *Builds) Restore(ctx context.Context, caller errand.Caller, id errand.EnvironmentID, of errand.VersionID) (errand.Environment, error) {
	var e errand.Environment
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) (err error) {
		if e, err = seen(ctx, t, caller, id); err != nil {
			return err
		}
		if of == "" {
			if e.DeletedAt.IsZero() {
				return errand.Errorf(errand.Invalid, "validation_error", "Which version? errand env history %s shows them.", e.Name)
			}
			of = e.Version // of the deletion: it has what was there last
		}
		if e.RepositoryFile != nil && e.DeletedAt.IsZero() {
			return errand.Errorf(errand.Conflict, "environment_in_repository", "Environment %s is %s in %s. Restore it there, with git.", e.Name, e.RepositoryFile.Path, e.RepositoryFile.URL)
		}
		old, err := t.Version(ctx, id, of)
		if err != nil {
			return err
		}
		e.JSON, e.DeletedAt = old.JSON, time.Time{}
		return change(t, &e, version(t, id, errand.VersionUpdated,
			Change{Source: errand.SourceRestore, Description: "As it was in " + string(old.ID) + "."}, "Restored", caller, e.JSON))
	})
	b.nudge()
	return e, err
}
