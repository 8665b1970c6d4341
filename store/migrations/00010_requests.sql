-- +goose Up
-- Whether a request made its agent; else it was a follow-up, maybe its first.
ALTER TABLE requests ADD COLUMN made BIGINT NOT NULL DEFAULT 0;
UPDATE requests SET made = 1 WHERE run IN (SELECT id FROM runs WHERE number = 1);

-- +goose Down
ALTER TABLE requests DROP COLUMN made;
