package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/errand-dev/errand"
)

const environmentColumns = `id, name, owner, person, repositories, json, version, active, file_url, file_path, created_at, updated_at, used_at, deleted_at`

func scanEnvironment(s scanner) (errand.Environment, error) {
	var e errand.Environment
	var file errand.RepositoryFile
	var repositories string
	var created, updated, used, deleted int64
	err := s.Scan(&e.ID, &e.Name, &e.Owner, &e.Person, &repositories, &e.JSON, &e.Version, &e.Active, &file.URL, &file.Path, &created, &updated, &used, &deleted)
	if err != nil {
		return e, err
	}
	e.CreatedAt, e.UpdatedAt, e.UsedAt, e.DeletedAt = fromMillis(created), fromMillis(updated), fromMillis(used), fromMillis(deleted)
	if file.URL != "" {
		e.RepositoryFile = &file
	}
	if err := json.Unmarshal([]byte(repositories), &e.Repositories); err != nil {
		return e, fmt.Errorf("reading environment %s: %w", e.ID, err)
	}
	return e, nil
}

// Environment gives one environment, also a deleted one, or a NotFound error.
func (q queries) Environment(ctx context.Context, id errand.EnvironmentID) (errand.Environment, error) {
	e, err := scanEnvironment(q.db.QueryRowContext(ctx, `SELECT `+environmentColumns+` FROM environments WHERE id = $1`, id))
	return e, notFound(err, "environment_not_found", "There is no environment %s. `errand env ls` shows which there are.", id)
}

// EnvironmentQuery chooses environments that are there.
type EnvironmentQuery struct {
	Person string               // beside the team's, those of this person
	Limit  int                  // at most so many
	Before errand.EnvironmentID // only those made before this one; "" for all
}

// Environments gives environments, newest first. A Before that is not known
// gives none.
func (q queries) Environments(ctx context.Context, query EnvironmentQuery) ([]errand.Environment, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+environmentColumns+` FROM environments
		WHERE deleted_at = 0 AND (owner = 'team' OR person = $1)
		  AND ($2 = '' OR number < COALESCE((SELECT number FROM environments WHERE id = $2), 0))
		ORDER BY number DESC LIMIT $3`, query.Person, query.Before, query.Limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanEnvironment)
}

// EnvironmentsUsed gives all environments that are there and were used since a
// time, in Unix milliseconds, oldest first.
func (q queries) EnvironmentsUsed(ctx context.Context, since int64) ([]errand.Environment, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+environmentColumns+` FROM environments WHERE deleted_at = 0 AND used_at >= $1 ORDER BY number`, since)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanEnvironment)
}

// EnvironmentNamed gives person's environment of a name, or else the team's, or
// a NotFound error.
func (q queries) EnvironmentNamed(ctx context.Context, person, name string) (errand.Environment, error) {
	e, err := scanEnvironment(q.db.QueryRowContext(ctx, `
		SELECT `+environmentColumns+` FROM environments
		WHERE deleted_at = 0 AND name = $2 AND (owner = 'team' OR person = $1)
		ORDER BY CASE owner WHEN 'personal' THEN 0 ELSE 1 END LIMIT 1`, person, name))
	return e, notFound(err, "environment_not_found", "There is no environment named %q. `errand env ls` shows which there are.", name)
}

// EnvironmentFor gives what is stored for a repository's clean URL: person's
// newest environment, or else the team's, never one that stands in a
// repository. false: there is none.
func (q queries) EnvironmentFor(ctx context.Context, person, url string) (errand.Environment, bool, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+environmentColumns+` FROM environments
		WHERE id IN (SELECT environment FROM environment_repositories WHERE url = $2)
		  AND deleted_at = 0 AND file_url = '' AND (owner = 'team' OR person = $1)
		ORDER BY CASE owner WHEN 'personal' THEN 0 ELSE 1 END, number DESC LIMIT 1`, person, url)
	return first(rows, err)
}

// EnvironmentOfFile gives the environment that stands in a repository's file.
// false: it is not registered.
func (q queries) EnvironmentOfFile(ctx context.Context, f errand.RepositoryFile) (errand.Environment, bool, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+environmentColumns+` FROM environments WHERE file_url = $1 AND file_path = $2 AND deleted_at = 0`, f.URL, f.Path)
	return first(rows, err)
}

func first(rows *sql.Rows, err error) (errand.Environment, bool, error) {
	if err != nil {
		return errand.Environment{}, false, err
	}
	all, err := collect(rows, scanEnvironment)
	if err != nil || len(all) == 0 {
		return errand.Environment{}, false, err
	}
	return all[0], true, nil
}

// InsertEnvironment keeps a new environment. A name that its owner has already
// is a Conflict.
func (t *Tx) InsertEnvironment(e errand.Environment) error {
	file, repositories, err := environmentParts(e)
	if err != nil {
		return err
	}
	_, err = t.exec(`
		INSERT INTO environments (id, number, name, owner, person, repositories, json, version, active, file_url, file_path, created_at, updated_at, used_at, deleted_at)
		VALUES ($1, (SELECT COALESCE(MAX(number), 0) + 1 FROM environments), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13)`,
		e.ID, e.Name, e.Owner, e.Person, repositories, e.JSON, e.Version, e.Active, file.URL, file.Path, millis(e.CreatedAt), millis(e.UsedAt), millis(e.DeletedAt))
	if err := nameConflict(err, e); err != nil {
		return err
	}
	return t.putRepositories(e)
}

// UpdateEnvironment writes what may change of an environment: name,
// repositories, JSON, version, active build, when it was used and deleted. It
// sets UpdatedAt.
func (t *Tx) UpdateEnvironment(e errand.Environment) error {
	_, repositories, err := environmentParts(e)
	if err != nil {
		return err
	}
	_, err = t.exec(`
		UPDATE environments SET name = $2, repositories = $3, json = $4, version = $5, active = $6, used_at = $7, deleted_at = $8, updated_at = $9
		WHERE id = $1`,
		e.ID, e.Name, repositories, e.JSON, e.Version, e.Active, millis(e.UsedAt), millis(e.DeletedAt), t.now.UnixMilli())
	if err := nameConflict(err, e); err != nil {
		return err
	}
	return t.putRepositories(e)
}

func environmentParts(e errand.Environment) (file errand.RepositoryFile, repositories string, err error) {
	if e.RepositoryFile != nil {
		file = *e.RepositoryFile
	}
	b, err := json.Marshal(e.Repositories)
	if err != nil {
		return file, "", fmt.Errorf("writing environment %s: %w", e.ID, err)
	}
	return file, string(b), nil
}

func nameConflict(err error, e errand.Environment) error {
	if conflicts(err) {
		return errand.Errorf(errand.Conflict, "environment_name_conflict", "There is an environment named %q already. Choose another name, or change that one.", e.Name)
	}
	return err
}

func (t *Tx) putRepositories(e errand.Environment) error {
	if _, err := t.exec(`DELETE FROM environment_repositories WHERE environment = $1`, e.ID); err != nil {
		return err
	}
	for _, r := range e.Repositories {
		if _, err := t.exec(`INSERT INTO environment_repositories (url, environment) VALUES ($1, $2) ON CONFLICT (url, environment) DO NOTHING`, r.URL, e.ID); err != nil {
			return err
		}
	}
	return nil
}

const versionColumns = `id, environment, kind, source, title, description, json, caller, created_at`

func scanVersion(s scanner) (errand.EnvironmentVersion, error) {
	var v errand.EnvironmentVersion
	var caller string
	var created int64
	if err := s.Scan(&v.ID, &v.Environment, &v.Kind, &v.Source, &v.Title, &v.Description, &v.JSON, &caller, &created); err != nil {
		return v, err
	}
	v.CreatedAt = fromMillis(created)
	if err := json.Unmarshal([]byte(caller), &v.Caller); err != nil {
		return v, fmt.Errorf("reading version %s: %w", v.ID, err)
	}
	return v, nil
}

// Version gives one version of an environment, or a NotFound error.
func (q queries) Version(ctx context.Context, environment errand.EnvironmentID, id errand.VersionID) (errand.EnvironmentVersion, error) {
	v, err := scanVersion(q.db.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM environment_versions WHERE id = $1 AND environment = $2`, id, environment))
	return v, notFound(err, "environment_version_not_found", "Environment %s has no version %s. `errand env history` shows which there are.", environment, id)
}

// Versions gives an environment's versions, newest first: at most limit, made
// before the version before ("" for all).
func (q queries) Versions(ctx context.Context, environment errand.EnvironmentID, limit int, before errand.VersionID) ([]errand.EnvironmentVersion, error) {
	rows, err := q.db.QueryContext(ctx, `
		SELECT `+versionColumns+` FROM environment_versions
		WHERE environment = $1 AND ($2 = '' OR number < COALESCE((SELECT number FROM environment_versions WHERE id = $2 AND environment = $1), 0))
		ORDER BY number DESC LIMIT $3`, environment, before, limit)
	if err != nil {
		return nil, err
	}
	return collect(rows, scanVersion)
}

// VersionBefore gives the version that held when another one was made. Where
// that is the first its ID is "".
func (q queries) VersionBefore(ctx context.Context, environment errand.EnvironmentID, id errand.VersionID) (errand.EnvironmentVersion, error) {
	v, err := scanVersion(q.db.QueryRowContext(ctx, `
		SELECT `+versionColumns+` FROM environment_versions
		WHERE environment = $1 AND kind <> 'proposed' AND number < (SELECT number FROM environment_versions WHERE id = $2 AND environment = $1)
		ORDER BY number DESC LIMIT 1`, environment, id))
	if errors.Is(err, sql.ErrNoRows) {
		return errand.EnvironmentVersion{}, nil
	}
	return v, err
}

// InsertVersion keeps a new version as its environment's newest.
func (t *Tx) InsertVersion(v errand.EnvironmentVersion) error {
	caller, err := json.Marshal(v.Caller)
	if err != nil {
		return fmt.Errorf("writing version %s: %w", v.ID, err)
	}
	_, err = t.exec(`
		INSERT INTO environment_versions (id, environment, number, kind, source, title, description, json, caller, created_at)
		VALUES ($1, $2, (SELECT COALESCE(MAX(number), 0) + 1 FROM environment_versions WHERE environment = $2), $3, $4, $5, $6, $7, $8, $9)`,
		v.ID, v.Environment, v.Kind, v.Source, v.Title, v.Description, v.JSON, string(caller), millis(v.CreatedAt))
	return err
}
