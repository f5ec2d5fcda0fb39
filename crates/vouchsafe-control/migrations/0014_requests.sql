-- Requests for access. The resource needn't exist: whether it does is not for everybody to find out.
CREATE TABLE requests (
    id            TEXT PRIMARY KEY,
    user_name     TEXT NOT NULL REFERENCES users (name),
    resource_name TEXT NOT NULL,
    seconds       INTEGER NOT NULL, -- how long the grant is to last
    reason        TEXT NOT NULL,
    state         TEXT NOT NULL, -- open, approved, denied, withdrawn, expired
    created       INTEGER NOT NULL,
    open_until    INTEGER NOT NULL,
    decided_by    TEXT,
    decided       INTEGER,
    note          TEXT NOT NULL,
    grant_id      TEXT
) STRICT;

CREATE INDEX requests_by_user ON requests (user_name);
CREATE INDEX requests_open ON requests (open_until) WHERE state = 'open';
