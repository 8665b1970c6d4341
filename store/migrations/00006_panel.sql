-- +goose Up
CREATE TABLE sign_ins (
    hash       TEXT PRIMARY KEY,             -- hex SHA-256 of the cookie's value
    key        TEXT NOT NULL,                -- whose key it stands for
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sign_ins_expire ON sign_ins (expires_at);

-- What changed lately is asked for as often as something does.
CREATE INDEX agents_updated ON agents (updated_at);

-- +goose Down
DROP INDEX agents_updated;
DROP TABLE sign_ins;
