-- +goose Up

-- Values that a secret had before, as long as an agent or an open build is there
-- whose machine was given them: they are still taken out of what it says.
CREATE TABLE earlier_secrets (
    id          TEXT NOT NULL,               -- of the secret, which may be gone
    revision    BIGINT NOT NULL,
    name        TEXT NOT NULL,               -- as it was then
    kind        TEXT NOT NULL,               -- errand.SecretKind, never a plain variable
    kek         TEXT NOT NULL,               -- this and the rest as in secrets
    kek_version TEXT NOT NULL,
    data_key    TEXT NOT NULL,
    sealed      TEXT NOT NULL,
    wrapped_at  BIGINT NOT NULL,
    PRIMARY KEY (id, revision)
);
CREATE INDEX earlier_secrets_wrapped ON earlier_secrets (wrapped_at, id);

-- +goose Down
DROP TABLE earlier_secrets;
