-- Requests that are to be carried out once, however often they are sent.
CREATE TABLE idempotency (
    id      BLOB PRIMARY KEY, -- SHA-256 of who asked what under which key
    body    BLOB NOT NULL,    -- SHA-256 of what was sent
    created INTEGER NOT NULL,
    status  INTEGER,          -- of the answer; NULL while there is none
    sealed  BLOB              -- the answer, which may hold a secret
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_created ON idempotency (created);
