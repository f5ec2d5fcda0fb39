-- Places that get every record of the audit log.
CREATE TABLE audit_streams (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- another one of the same name is another
    name       TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    address    TEXT NOT NULL, -- without a path, which may be a secret
    format     TEXT NOT NULL,
    sealed     BLOB NOT NULL, -- address, header fields, roots, certificate and key
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    next       INTEGER NOT NULL, -- position up to which all was taken
    last       TEXT, -- how the last attempt went; NULL before the first
    last_at    INTEGER,
    failures   INTEGER NOT NULL DEFAULT 0, -- attempts that failed since one went well
    rejected   INTEGER NOT NULL DEFAULT 0  -- records that were refused for good
) STRICT;
