-- +goose Up
CREATE TABLE ssh_keys (
    id          TEXT PRIMARY KEY,
    person      TEXT NOT NULL,               -- whose it is: Caller.Person
    name        TEXT NOT NULL,               -- of the person who added it, for commits and the journal
    fingerprint TEXT NOT NULL UNIQUE,        -- SHA256:…
    public      TEXT NOT NULL,               -- as in authorized_keys, without its comment
    comment     TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    used_at     BIGINT NOT NULL              -- 0: never
);
CREATE INDEX ssh_keys_person ON ssh_keys (person, created_at);

-- +goose Down
DROP TABLE ssh_keys;
