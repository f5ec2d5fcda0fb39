-- The newest certificate of a device, and the one it was issued for as long as the newest was not seen.
-- NULL in a row from before: its newest is the one that ends when `certificate_expires` says.
ALTER TABLE devices ADD COLUMN certificate_sha256 TEXT;
ALTER TABLE devices ADD COLUMN replaced_sha256 TEXT;
