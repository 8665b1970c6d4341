package build

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/errand-dev/errand"
	"github.com/errand-dev/errand/egress"
	"github.com/errand-dev/errand/environment/file"
	"github.com/errand-dev/errand/git"
	"github.com/errand-dev/errand/journal"
	"github.com/errand-dev/errand/store"
)

// Bounds on an environment.
const (
	maxName         = 255 // characters
	maxRepositories = 100
)

// NewEnvironment is what an environment is made of.
type NewEnvironment struct {
	Name         string
	Owner        errand.Owner // "" is the team
	Repositories []errand.Repository
	JSON         string // the text of an environment file; "" asks for nothing
	Version      Change
}

// Change says where a version comes from.
type Change struct {
	Source      errand.VersionSource // "" is the API
	Title       string               // "" is made from what was done
	Description string
}

// Create keeps a new environment and queues its first build. A name that the
// owner has already is a Conflict; a text that is no environment file is
// Invalid, with line and column.
func (b *Builds) Create(ctx context.Context, caller errand.Caller, n NewEnvironment) (errand.Environment, error) {
	var none errand.Environment
	e := errand.Environment{ID: errand.NewEnvironmentID(), Name: strings.TrimSpace(n.Name), Owner: n.Owner, JSON: n.JSON}
	switch e.Owner {
	case errand.OwnerPersonal:
		e.Person = caller.Person()
	case errand.OwnerTeam, "":
		e.Owner = errand.OwnerTeam
	default:
		return none, errand.Errorf(errand.Invalid, "validation_error", `owner is %.40q; it may be "personal" or "team".`, n.Owner)
	}
	if err := checkName(e.Name); err != nil {
		return none, err
	}
	var err error
	if e.Repositories, err = cleanRepositories(n.Repositories); err != nil {
		return none, err
	}
	if err := check(e.JSON); err != nil {
		return none, err
	}
	_, err = b.Journal.Decide(ctx, func(t *journal.Tx) error {
		e.CreatedAt, e.UpdatedAt, e.UsedAt = t.Now(), t.Now(), t.Now()
		v := version(t, e.ID, errand.VersionCreated, n.Version, "Created", caller, e.JSON)
		e.Version = v.ID
		if err := t.InsertEnvironment(e); err != nil {
			return err
		}
		if err := t.InsertVersion(v); err != nil {
			return err
		}
		return queueChange(t, e, caller)
	})
	b.nudge()
	return e, err
}

// EditEnvironment says what to change of an environment; nil leaves it.
type EditEnvironment struct {
	Name         *string
	JSON         *string
	Repositories []errand.Repository
	Version      Change
}

// Edit changes an environment. Another text, or other repositories, make a
// version and queue a build of it. One that stands in a repository is changed
// there.
func (b *Builds) Edit(ctx context.Context, caller errand.Caller, id errand.EnvironmentID, edit EditEnvironment) (errand.Environment, error) {
	var e errand.Environment
	repositories, err := cleanRepositories(edit.Repositories)
	if err != nil {
		return e, err
	}
	if edit.Name != nil {
		if err := checkName(strings.TrimSpace(*edit.Name)); err != nil {
			return e, err
		}
	}
	if edit.JSON != nil {
		if err := check(*edit.JSON); err != nil {
			return e, err
		}
	}
	_, err = b.Journal.Decide(ctx, func(t *journal.Tx) error {
		if e, err = one(ctx, t, caller, id); err != nil {
			return err
		}
		if edit.Name != nil {
			e.Name = strings.TrimSpace(*edit.Name)
		}
		changed := edit.JSON != nil && *edit.JSON != e.JSON || repositories != nil
		if !changed {
			return t.UpdateEnvironment(e)
		}
		if e.RepositoryFile != nil {
			return errand.Errorf(errand.Conflict, "environment_in_repository",
				"Environment %s is %s in %s. Change it there; or keep one of your own for that repository: errand env create", e.Name, e.RepositoryFile.Path, e.RepositoryFile.URL)
		}
		if edit.JSON != nil {
			e.JSON = *edit.JSON
		}
		if repositories != nil {
			e.Repositories = repositories
		}
		return change(t, &e, version(t, e.ID, errand.VersionUpdated, edit.Version, "Updated", caller, e.JSON))
	})
	b.nudge()
	return e, err
}

// change makes v the environment's version and queues a build of it.
func change(t *journal.Tx, e *errand.Environment, v errand.EnvironmentVersion) error {
	e.Version, e.UsedAt = v.ID, t.Now()
	if err := t.InsertVersion(v); err != nil {
		return err
	}
	if err := t.UpdateEnvironment(*e); err != nil {
		return err
	}
	return queueChange(t, *e, v.Caller)
}

// Delete removes an environment: nobody starts on it any more and its builds
// under way are cancelled. History and builds stay, for agents name them;
// Restore brings it back. To delete again is NotFound.
func (b *Builds) Delete(ctx context.Context, caller errand.Caller, id errand.EnvironmentID) error {
	var stopped []errand.BuildID
	_, err := b.Journal.Decide(ctx, func(t *journal.Tx) error {
		e, err := one(ctx, t, caller, id)
		if err != nil {
			return err
		}
		open, err := t.OpenBuilds(ctx)
		if err != nil {
			return err
		}
		for _, build := range open {
			if build.Environment != id || build.WithinRun() {
				continue
			}
			if err := askCancel(t, build, caller); err != nil {
				return err
			}
			stopped = append(stopped, build.ID)
		}
		v := version(t, id, errand.VersionDeleted, Change{}, "Deleted", caller, e.JSON)
		e.Version, e.DeletedAt, e.Active = v.ID, t.Now(), ""
		if err := t.InsertVersion(v); err != nil {
			return err
		}
		return t.UpdateEnvironment(e)
	})
	b.stop(stopped)
	return err
}

// Environment gives one environment that is there. Another person's is NotFound.
func (b *Builds) Environment(ctx context.Context, caller errand.Caller, id errand.EnvironmentID) (errand.Environment, error) {
	return one(ctx, b.Store, caller, id)
}

// reader is a store, or a transaction in it.
type reader interface {
	Environment(context.Context, errand.EnvironmentID) (errand.Environment, error)
}

func one(ctx context.Context, r reader, caller errand.Caller, id errand.EnvironmentID) (errand.Environment, error) {
	e, err := seen(ctx, r, caller, id)
	if err == nil && !e.DeletedAt.IsZero() {
		return e, errand.Errorf(errand.NotFound, "environment_not_found", "Environment %s was deleted. errand env restore %s brings it back.", e.Name, e.ID)
	}
	return e, err
}

// seen gives an environment, deleted or not, that caller may know of.
func seen(ctx context.Context, r reader, caller errand.Caller, id errand.EnvironmentID) (errand.Environment, error) {
	e, err := r.Environment(ctx, id)
	if err == nil && e.Owner == errand.OwnerPersonal && e.Person != caller.Person() {
		return errand.Environment{}, errand.Errorf(errand.NotFound, "environment_not_found", "There is no environment %s. `errand env ls` shows which there are.", id)
	}
	return e, err
}

// Named gives the environment that has a name: the caller's own, or else the
// team's, or a NotFound error.
func (b *Builds) Named(ctx context.Context, caller errand.Caller, name string) (errand.Environment, error) {
	return b.Store.EnvironmentNamed(ctx, caller.Person(), name)
}

// Environments gives a page of the environments that caller has, newest first,
// and the cursor of the next one ("" on the last).
func (b *Builds) Environments(ctx context.Context, caller errand.Caller, limit int, cursor string) ([]errand.Environment, string, error) {
	before, err := errand.Before(cursor, errand.ParseEnvironmentID)
	if err != nil {
		return nil, "", err
	}
	all, err := b.Store.Environments(ctx, store.EnvironmentQuery{Person: caller.Person(), Limit: limit + 1, Before: before})
	page, next := errand.Page(all, limit, func(e errand.Environment) errand.EnvironmentID { return e.ID })
	return page, next, err
}

// version makes a version of what was done now.
func version(t *journal.Tx, id errand.EnvironmentID, kind errand.VersionKind, c Change, done string, caller errand.Caller, text string) errand.EnvironmentVersion {
	v := errand.EnvironmentVersion{
		ID: errand.NewVersionID(), Environment: id, Kind: kind, Source: c.Source, Title: c.Title, Description: c.Description,
		JSON: text, Caller: caller, CreatedAt: t.Now(),
	}
	if v.Source == "" {
		v.Source = errand.SourceAPI
	}
	if v.Title == "" {
		v.Title = done
	}
	return v
}

func checkName(name string) error {
	switch {
	case name == "":
		return errand.Errorf(errand.Invalid, "validation_error", "An environment needs a name.")
	case utf8.RuneCountInString(name) > maxName:
		return errand.Errorf(errand.Invalid, "validation_error", "The environment's name has more than %d characters.", maxName)
	case strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
		return errand.Errorf(errand.Invalid, "validation_error", "The environment's name holds a character that cannot be shown.")
	}
	return nil
}

func cleanRepositories(all []errand.Repository) ([]errand.Repository, error) {
	if len(all) > maxRepositories {
		return nil, errand.Errorf(errand.Invalid, "validation_error", "The environment names %d repositories; at most %d are taken.", len(all), maxRepositories)
	}
	var clean []errand.Repository
	for _, r := range all {
		url, err := git.CleanOpen(r.URL)
		if err != nil {
			return nil, err
		}
		clean = append(clean, errand.Repository{URL: url})
	}
	return clean, nil
}

// check says what is wrong with the text of an environment.
func check(text string) error {
	_, _, err := parse(text)
	return err
}

// stored is the file name under which people are told of a stored environment.
const stored = "environment.json"

// parse reads the text of a stored environment, and says what is odd about it.
func parse(text string) (*file.Environment, []file.Finding, error) {
	if strings.TrimSpace(text) == "" {
		return &file.Environment{}, nil, nil
	}
	e, findings, err := file.Parse(stored, []byte(text))
	if err != nil {
		return nil, nil, err
	}
	if err := (egress.Policy{Mode: egress.Listed, Allow: e.EgressAllowlist}).Check(); err != nil {
		return nil, nil, fmt.Errorf("reading %s: %w", stored, err)
	}
	return e, findings, nil
}
