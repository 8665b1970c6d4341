-- +goose Up
ALTER TABLE agents ADD COLUMN takeover TEXT NOT NULL DEFAULT '';      -- JSON errand.Takeover, "" where nobody has the agent in hand
ALTER TABLE agents ADD COLUMN takeovers BIGINT NOT NULL DEFAULT 0;    -- how many there were
CREATE INDEX agents_taken_over ON agents (id) WHERE takeover <> '';

-- +goose Down
DROP INDEX agents_taken_over;
ALTER TABLE agents DROP COLUMN takeovers;
ALTER TABLE agents DROP COLUMN takeover;
