-- +goose Up
CREATE TABLE environments (
    id           TEXT PRIMARY KEY,
    number       BIGINT NOT NULL,            -- order of creation
    name         TEXT NOT NULL,
    owner        TEXT NOT NULL,              -- errand.Owner
    person       TEXT NOT NULL,              -- whose, "" for the team's
    repositories TEXT NOT NULL,              -- JSON []errand.Repository
    json         TEXT NOT NULL,              -- as somebody wrote it
    version      TEXT NOT NULL,              -- of json
    active       TEXT NOT NULL,              -- the build that agents start on, "" for none
    file_url     TEXT NOT NULL,              -- the repository that it stands in, "" for one kept here
    file_path    TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    used_at      BIGINT NOT NULL,
    deleted_at   BIGINT NOT NULL             -- 0: it is there
);
CREATE UNIQUE INDEX environments_number ON environments (number);
CREATE UNIQUE INDEX environments_name ON environments (owner, person, name) WHERE deleted_at = 0;
CREATE UNIQUE INDEX environments_file ON environments (file_url, file_path) WHERE deleted_at = 0 AND file_url <> '';

-- Which environments are for a repository.
CREATE TABLE environment_repositories (
    url         TEXT NOT NULL,               -- clean
    environment TEXT NOT NULL,
    PRIMARY KEY (url, environment)
);

CREATE TABLE environment_versions (
    id          TEXT PRIMARY KEY,
    environment TEXT NOT NULL,
    number      BIGINT NOT NULL,             -- order within the environment, from 1
    kind        TEXT NOT NULL,
    source      TEXT NOT NULL,
    title       TEXT NOT NULL,
    description TEXT NOT NULL,
    json        TEXT NOT NULL,
    caller      TEXT NOT NULL,               -- JSON errand.Caller
    created_at  BIGINT NOT NULL
);
CREATE UNIQUE INDEX environment_versions_number ON environment_versions (environment, number);

CREATE TABLE builds (
    id           TEXT PRIMARY KEY,
    number       BIGINT NOT NULL,            -- order of creation
    environment  TEXT NOT NULL,
    version      TEXT NOT NULL,
    status       TEXT NOT NULL,              -- errand.BuildStatus
    reason       TEXT NOT NULL,              -- errand.BuildTrigger
    draft        BIGINT NOT NULL,
    forced       BIGINT NOT NULL,
    ref          TEXT NOT NULL,
    failure      TEXT NOT NULL,              -- JSON errand.BuildFailure, "" for none
    commits      TEXT NOT NULL,              -- JSON []errand.BuildCommit
    disk_key     TEXT NOT NULL,              -- of what decides the disk
    parts        TEXT NOT NULL,              -- JSON []errand.KeyPart
    snapshot     TEXT NOT NULL,              -- the kept disk's name, "" for none
    caller       TEXT NOT NULL,              -- JSON errand.Caller
    agent        TEXT NOT NULL,              -- where it came about within a run
    run          TEXT NOT NULL,
    cancel_asked BIGINT NOT NULL,
    last_seq     BIGINT NOT NULL,            -- of its newest event
    created_at   BIGINT NOT NULL,
    started_at   BIGINT NOT NULL,            -- 0: not yet
    ended_at     BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX builds_environment ON builds (environment, number);
CREATE INDEX builds_key ON builds (environment, disk_key) WHERE disk_key <> '';
CREATE INDEX builds_open ON builds (number) WHERE status IN ('queued', 'running');
CREATE INDEX builds_run ON builds (run) WHERE run <> '';

ALTER TABLE agents ADD COLUMN environment TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN build TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN build TEXT NOT NULL DEFAULT '';

-- A journal is an agent's or a build's: their ids are told apart by how they
-- begin. It goes when its subject is gone.
DROP TRIGGER events_stay;
ALTER TABLE events RENAME COLUMN agent TO subject;
-- +goose StatementBegin
CREATE TRIGGER events_stay BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM agents WHERE id = OLD.subject) OR EXISTS (SELECT 1 FROM builds WHERE id = OLD.subject)
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER events_stay;
DELETE FROM events WHERE subject LIKE 'bld-%';
ALTER TABLE events RENAME COLUMN subject TO agent;
-- +goose StatementBegin
CREATE TRIGGER events_stay BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM agents WHERE id = OLD.agent)
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;
-- +goose StatementEnd
ALTER TABLE runs DROP COLUMN build;
ALTER TABLE agents DROP COLUMN build;
ALTER TABLE agents DROP COLUMN version;
ALTER TABLE agents DROP COLUMN environment;
DROP TABLE builds;
DROP TABLE environment_versions;
DROP TABLE environment_repositories;
DROP TABLE environments;
