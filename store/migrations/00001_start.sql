-- +goose Up

CREATE TABLE agents (
    id           TEXT PRIMARY KEY,
    number       BIGINT NOT NULL,            -- order of creation
    name         TEXT NOT NULL,
    status       TEXT NOT NULL,
    caller       TEXT NOT NULL,              -- JSON errand.Caller
    repositories TEXT NOT NULL,              -- JSON []errand.Repository
    branch       TEXT NOT NULL,
    base         TEXT NOT NULL,
    pushed       TEXT NOT NULL,
    settings     TEXT NOT NULL,              -- JSON errand.Settings
    env          TEXT NOT NULL DEFAULT '',   -- sealed variables, "" for none
    latest_run   TEXT NOT NULL,
    last_seq     BIGINT NOT NULL,            -- of its newest event
    created_at   BIGINT NOT NULL,            -- times are Unix milliseconds
    updated_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX agents_number ON agents (number);

CREATE TABLE runs (
    id           TEXT PRIMARY KEY,
    agent        TEXT NOT NULL,
    number       BIGINT NOT NULL,            -- order within the agent, from 1
    prompt       TEXT NOT NULL,              -- JSON errand.Prompt
    mode         TEXT NOT NULL,
    status       TEXT NOT NULL,
    phase        TEXT NOT NULL,
    result       TEXT NOT NULL,
    error        TEXT NOT NULL,              -- JSON errand.Error, "" for none
    tokens_in    BIGINT NOT NULL,
    tokens_out   BIGINT NOT NULL,
    tokens_read  BIGINT NOT NULL,
    tokens_write BIGINT NOT NULL,
    cancel_asked BIGINT NOT NULL,
    owner        TEXT NOT NULL,              -- the server that works on it
    lease_until  BIGINT NOT NULL,            -- until when nobody else may
    created_at   BIGINT NOT NULL,
    started_at   BIGINT NOT NULL,            -- 0: not yet
    ended_at     BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX runs_agent ON runs (agent, number);
CREATE INDEX runs_open ON runs (created_at) WHERE status IN ('queued', 'preparing', 'running');

CREATE TABLE events (
    agent TEXT NOT NULL,
    seq   BIGINT NOT NULL,
    run   TEXT NOT NULL,
    time  BIGINT NOT NULL,
    kind  TEXT NOT NULL,
    data  TEXT NOT NULL,
    PRIMARY KEY (agent, seq)
);

-- The journal only grows. An agent's events go when the agent itself is gone.
-- +goose StatementBegin
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER events_stay BEFORE DELETE ON events
WHEN EXISTS (SELECT 1 FROM agents WHERE id = OLD.agent)
BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;
-- +goose StatementEnd

CREATE TABLE machines (
    id        TEXT PRIMARY KEY,
    agent     TEXT NOT NULL,
    state     TEXT NOT NULL,                 -- store.MachineState
    handle    TEXT NOT NULL,                 -- JSON machine.Handle as the driver gave it, "" before
    boot      TEXT NOT NULL,                 -- of the guest, "" when stopped
    prepared  TEXT NOT NULL,                 -- boot for which start and terminals ran
    used_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX machines_agent ON machines (agent);

CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    hash       TEXT NOT NULL,                -- hex SHA-256 of the token
    person     TEXT NOT NULL,
    email      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL               -- 0: it holds
);
CREATE UNIQUE INDEX keys_hash ON keys (hash);

CREATE TABLE requests (
    caller TEXT NOT NULL,                    -- whose idempotency key it is
    key    TEXT NOT NULL,
    agent  TEXT NOT NULL,
    run    TEXT NOT NULL,
    at     BIGINT NOT NULL,
    PRIMARY KEY (caller, key)
);

-- +goose Down
DROP TABLE requests;
DROP TABLE keys;
DROP TABLE machines;
DROP TABLE events;
DROP TABLE runs;
DROP TABLE agents;
