-- +goose Up

-- What models and machines were used for, by day. It is written with the events
-- that tell of it, and stays when their agents are deleted.
CREATE TABLE usage (
    day          BIGINT NOT NULL,            -- since 1970-01-01, UTC
    model        TEXT NOT NULL,
    repository   TEXT NOT NULL,              -- "" for none
    person       TEXT NOT NULL,              -- errand.Caller's Person
    tokens_in    BIGINT NOT NULL,
    tokens_out   BIGINT NOT NULL,
    tokens_read  BIGINT NOT NULL,
    tokens_write BIGINT NOT NULL,
    unpriced     BIGINT NOT NULL,            -- those of them whose price is not known
    cost         BIGINT NOT NULL,            -- of the others, in billionths of a US dollar
    machine_ms   BIGINT NOT NULL,
    PRIMARY KEY (day, model, repository, person)
);

-- What was used before has no price: the models' prices are not the database's.
INSERT INTO usage
SELECT r.created_at / 86400000, COALESCE(json_extract(a.settings, '$.model.id'), ''), COALESCE(json_extract(a.repositories, '$[0].url'), ''),
    CASE WHEN COALESCE(json_extract(a.caller, '$.email'), '') <> '' THEN lower(json_extract(a.caller, '$.email')) ELSE 'key:' || json_extract(a.caller, '$.key') END,
    SUM(r.tokens_in), SUM(r.tokens_out), SUM(r.tokens_read), SUM(r.tokens_write),
    SUM(r.tokens_in + r.tokens_out + r.tokens_read + r.tokens_write), 0, 0
FROM runs r JOIN agents a ON a.id = r.agent
WHERE r.tokens_in + r.tokens_out + r.tokens_read + r.tokens_write > 0
GROUP BY 1, 2, 3, 4;

-- Until when a machine's time is in usage; 0 while it does not run.
ALTER TABLE machines ADD COLUMN metered_at BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE machines DROP COLUMN metered_at;
DROP TABLE usage;
