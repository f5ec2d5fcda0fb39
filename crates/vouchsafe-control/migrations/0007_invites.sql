-- All one-time codes by which somebody or something joins are rows of one kind. `name` is that of the person, of the
-- device's owner (NULL: nobody's), or of the gateway.
CREATE TABLE joining (
    code_hash  TEXT PRIMARY KEY,
    kind       TEXT NOT NULL, -- person, device, gateway
    name       TEXT,
    tags       TEXT NOT NULL DEFAULT '[]', -- JSON list, of a device
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;
INSERT INTO joining (code_hash, kind, name, created_by, created, expires)
    SELECT token_hash, 'person', user_name, created_by, created, expires FROM invites;
INSERT INTO joining (code_hash, kind, name, tags, created_by, created, expires)
    SELECT code_hash, 'device', owner, tags, created_by, created, expires FROM device_invites;
INSERT INTO joining (code_hash, kind, name, created_by, created, expires)
    SELECT code_hash, 'gateway', name, created_by, created, expires FROM gateway_invites;
DROP TABLE invites;
DROP TABLE device_invites;
DROP TABLE gateway_invites;
ALTER TABLE joining RENAME TO invites;
CREATE INDEX invites_by_name ON invites (kind, name);

-- As devices have them: the newest certificate, and the one that it was issued for as long as it was not seen.
ALTER TABLE gateways ADD COLUMN certificate_sha256 TEXT;
ALTER TABLE gateways ADD COLUMN replaced_sha256 TEXT;
