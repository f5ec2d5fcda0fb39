-- What is proven of each version before it is in force: JSON list of {name, text}.
ALTER TABLE policy_versions ADD COLUMN invariants TEXT NOT NULL DEFAULT '[]';
