-- Places that are told what happens.
CREATE TABLE webhooks (
    name       TEXT PRIMARY KEY,
    origin     TEXT NOT NULL, -- scheme, host and port; the rest of the address may be a secret, and is sealed
    events     TEXT NOT NULL, -- JSON list of what it is told; empty for all
    sealed     BLOB NOT NULL, -- address, secret and roots
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    last       TEXT, -- how the last attempt went; NULL before the first
    last_at    INTEGER,
    failures   INTEGER NOT NULL DEFAULT 0, -- attempts that failed since one went well
    dropped    INTEGER NOT NULL DEFAULT 0  -- messages that were given up, or found no place
) STRICT;

-- Messages on their way, written in the transaction of what they tell.
CREATE TABLE webhook_messages (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT NOT NULL,
    webhook  TEXT NOT NULL REFERENCES webhooks (name) ON DELETE CASCADE,
    event    TEXT NOT NULL,
    body     TEXT NOT NULL,
    created  INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due      INTEGER NOT NULL -- when it is tried next
) STRICT;

CREATE INDEX webhook_messages_due ON webhook_messages (webhook, due);
