-- +goose Up

CREATE TABLE secrets (
    id           TEXT PRIMARY KEY,
    scope        TEXT NOT NULL,              -- errand.Scope
    owner        TEXT NOT NULL,              -- within the scope, "" for the team
    name         TEXT NOT NULL,
    folded       TEXT NOT NULL,              -- the name in lower case
    kind         TEXT NOT NULL,              -- errand.SecretKind
    repositories TEXT NOT NULL,              -- JSON array of URLs, "[]" for all
    revision     BIGINT NOT NULL,
    kek          TEXT NOT NULL,              -- which key wrapped data_key
    kek_version  TEXT NOT NULL,              -- "" where it tells none
    data_key     TEXT NOT NULL,              -- wrapped, base64
    sealed       TEXT NOT NULL,              -- the value under data_key, base64
    wrapped_at   BIGINT NOT NULL,            -- when data_key was wrapped
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX secrets_name ON secrets (scope, owner, folded);
CREATE INDEX secrets_wrapped ON secrets (wrapped_at, id);

-- Uses stay when their secret or their agent is gone.
CREATE TABLE secret_uses (
    secret   TEXT NOT NULL,
    revision BIGINT NOT NULL,
    agent    TEXT NOT NULL,                  -- "" for none
    run      TEXT NOT NULL,                  -- "" for none
    build    TEXT NOT NULL,                  -- "" for none
    scope    TEXT NOT NULL,
    name     TEXT NOT NULL,
    kind     TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (secret, revision, agent, run, build)
);
CREATE INDEX secret_uses_at ON secret_uses (secret, at);

-- +goose Down
DROP TABLE secret_uses;
DROP TABLE secrets;
