-- Tests that came with a version of the policy: JSON list of {name, text}. A rollback runs them again.
ALTER TABLE policy_versions ADD COLUMN tests TEXT NOT NULL DEFAULT '[]';
