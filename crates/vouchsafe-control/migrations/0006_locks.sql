-- What is locked: as long as a row is here, whatever its end. `name` is a user's or resource's name, or the id of
-- a device or session.
CREATE TABLE locks (
    kind       TEXT NOT NULL, -- user, device, session, resource
    name       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER,
    PRIMARY KEY (kind, name)
) STRICT;
