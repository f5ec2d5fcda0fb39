-- Rows of the change feed can be read back: what changed, in a word, and which one. What stands there from
-- before can't, so a reader that meets it forgets everything.
ALTER TABLE feed ADD COLUMN kind TEXT NOT NULL DEFAULT 'everything';
ALTER TABLE feed ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE feed DROP COLUMN change;
