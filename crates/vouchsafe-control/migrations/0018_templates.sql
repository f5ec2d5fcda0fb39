-- The template of the policy that a grant is made from, or that is asked for; NULL for the built-in one.
ALTER TABLE grants ADD COLUMN template TEXT;
ALTER TABLE requests ADD COLUMN template TEXT;
-- SHA-256 of its text when it was asked for, hexadecimal; there where a template is.
ALTER TABLE requests ADD COLUMN template_digest TEXT;
