-- Locks whose time was over by the clock of then, in case that clock was ahead: the newest of each thing.
CREATE TABLE ended_locks (
    kind       TEXT NOT NULL,
    name       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
CREATE INDEX ended_locks_by_end ON ended_locks (expires);

-- Address from which a gateway attached last: it has room when it comes back.
ALTER TABLE gateways ADD COLUMN last_ip TEXT;

-- Eras of the change feed: each start begins one, and its id is random. Rows from `first` up to the next era's are its
-- own, so two histories that part from one backup can be told apart although their numbers are the same.
CREATE TABLE feed_eras (
    first INTEGER PRIMARY KEY,
    id    TEXT NOT NULL
) STRICT;
