-- Versions of the policy that touch policies which say @approval("two-person"), and what became of them.
CREATE TABLE policy_proposals (
    id             TEXT PRIMARY KEY,
    digest         TEXT NOT NULL, -- of all that would be published, and of what it is a change to
    base           INTEGER NOT NULL REFERENCES policy_versions (version), -- in force when it was made
    kind           TEXT NOT NULL, -- publish, rollback
    files          TEXT NOT NULL, -- JSON list of {name, text}, as in policy_versions
    tests          TEXT NOT NULL,
    invariants     TEXT NOT NULL,
    protected      TEXT NOT NULL, -- JSON list of the names of policies that it touches
    note           TEXT NOT NULL,
    confirm_within INTEGER,
    created_by     TEXT NOT NULL REFERENCES users (name),
    created_from   TEXT NOT NULL, -- address
    created        INTEGER NOT NULL,
    open_until     INTEGER NOT NULL,
    state          TEXT NOT NULL, -- open, approved, rejected, expired
    decided_by     TEXT,
    decided        INTEGER,
    decision       TEXT NOT NULL, -- what was noted with it
    became         INTEGER REFERENCES policy_versions (version)
) STRICT;

CREATE UNIQUE INDEX policy_proposals_open ON policy_proposals (digest) WHERE state = 'open';

-- Who stood up for a version beside its author, where it took two.
ALTER TABLE policy_versions ADD COLUMN approved_by TEXT;
