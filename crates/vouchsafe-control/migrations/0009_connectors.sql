-- Connectors: each serves one site, and keeps the key that it joined with.
CREATE TABLE connectors (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    site                TEXT NOT NULL,
    key_sha256          TEXT NOT NULL,
    certificate_expires INTEGER NOT NULL,
    created             INTEGER NOT NULL,
    last_seen           INTEGER
) STRICT;
