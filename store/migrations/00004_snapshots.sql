-- +goose Up

-- What people and use have made of snapshots; the disks are the driver's. A
-- snapshot without a row has no name and was not used since it was made.
CREATE TABLE snapshots (
    key     TEXT PRIMARY KEY,
    name    TEXT NOT NULL,                   -- "" for none
    used_at BIGINT NOT NULL                  -- 0: not yet
);
CREATE UNIQUE INDEX snapshots_name ON snapshots (name) WHERE name <> '';

-- What was removed to make room. A removal is written before it is done, and
-- stays open until it is: who comes after kill -9 looks what came of it.
CREATE TABLE collections (
    id      INTEGER PRIMARY KEY,             -- order
    at      BIGINT NOT NULL,
    why     TEXT NOT NULL,
    used    BIGINT NOT NULL,
    quota   BIGINT NOT NULL,
    free    BIGINT NOT NULL,
    short   BIGINT NOT NULL
);
CREATE TABLE removals (
    collection BIGINT NOT NULL,
    number     BIGINT NOT NULL,              -- order within the collection, from 1
    what       TEXT NOT NULL,
    name       TEXT NOT NULL,
    freed      BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,              -- 0: not known
    open       BIGINT NOT NULL,
    PRIMARY KEY (collection, number)
);
CREATE INDEX removals_open ON removals (name) WHERE open = 1;

-- +goose Down
DROP TABLE removals;
DROP TABLE collections;
DROP TABLE snapshots;
