-- The audit log lives in files of its own (docs/spec/audit-log.md). What is left here is the way into it:
-- records that commit together with their change, and are moved to the log right after.
DROP TABLE audit;

CREATE TABLE audit_outbox (
    seq    INTEGER PRIMARY KEY,
    record BLOB NOT NULL -- canonical bytes
) STRICT;

-- One row: the number of the controller's newest record, and how many records the log had by then.
CREATE TABLE audit_state (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    seq      INTEGER NOT NULL,
    log_size INTEGER NOT NULL
) STRICT;
INSERT INTO audit_state (one, seq, log_size) VALUES (1, 0, 0);
