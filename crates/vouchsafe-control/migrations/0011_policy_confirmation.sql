-- The version in force, while somebody has yet to confirm it: until then the one before comes back by itself.
-- At most one row.
CREATE TABLE policy_unconfirmed (
    version    INTEGER PRIMARY KEY REFERENCES policy_versions (version),
    before     INTEGER NOT NULL REFERENCES policy_versions (version),
    confirm_by INTEGER NOT NULL
) STRICT;
