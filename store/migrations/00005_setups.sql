-- +goose Up
CREATE TABLE setups (
    id         TEXT PRIMARY KEY,
    number     BIGINT NOT NULL,              -- order of creation
    status     TEXT NOT NULL,                -- errand.SetupStatus
    content    TEXT NOT NULL,                -- JSON errand.Setup
    last_seq   BIGINT NOT NULL,              -- of its newest event
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX setups_number ON setups (number);

-- +goose StatementBegin
CREATE TRIGGER setup_events_stay BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM setups WHERE id = OLD.subject)
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER setup_events_stay;
DELETE FROM events WHERE subject LIKE 'set-%';
DROP TABLE setups;
