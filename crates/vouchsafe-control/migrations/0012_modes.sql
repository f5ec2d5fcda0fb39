-- Trials: resources whose mode lets denials pass, and until when. A trial that isn't here, or has ended, enforces: so
-- no clock that goes back, and no row of a resource alone, opens anything again.
CREATE TABLE trials (
    resource TEXT PRIMARY KEY REFERENCES resources (name) ON DELETE CASCADE,
    until    INTEGER NOT NULL, -- unix seconds, as in the resource
    begun    INTEGER NOT NULL, -- unix seconds
    ended    INTEGER NOT NULL DEFAULT 0
) STRICT;
