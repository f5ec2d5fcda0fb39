-- Gateways that are processes of their own. `assertion_point` is the public key of the assertions that the
-- gateway signs (uncompressed P-256 point, hexadecimal); the private one never leaves it.
CREATE TABLE gateways (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    key_sha256          TEXT NOT NULL,
    assertion_point     TEXT NOT NULL,
    certificate_expires INTEGER NOT NULL,
    created             INTEGER NOT NULL,
    last_seen           INTEGER
) STRICT;

CREATE TABLE gateway_invites (
    code_hash  TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;

-- A gateway that attaches asks for the newest of these.
CREATE INDEX feed_snapshots ON feed (sequence) WHERE kind = 'snapshot';
