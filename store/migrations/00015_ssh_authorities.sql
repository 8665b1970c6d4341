-- +goose Up
-- Whom the certificates that a key signs let in, as a JSON array of principals;
-- "" for a key that itself lets its person in.
ALTER TABLE ssh_keys ADD COLUMN principals TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE ssh_keys DROP COLUMN principals;
