-- Times are unix seconds unless the name ends in _us (microseconds). Ids are their text form.
-- Secrets that people or programs present are kept only as SHA-256 in hex (column *_hash).

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Keys and certificates of the own CA; `sealed` is AES-256-GCM under the master key, with the
-- name as associated data.
CREATE TABLE keys (
    name        TEXT PRIMARY KEY,
    sealed      BLOB NOT NULL,
    certificate TEXT NOT NULL DEFAULT '',
    created     INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    name         TEXT PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    disabled     INTEGER NOT NULL DEFAULT 0,
    deleted      INTEGER NOT NULL DEFAULT 0, -- a name is never given again
    created      INTEGER NOT NULL,
    last_sign_in INTEGER
) STRICT;

CREATE TABLE user_groups (
    name    TEXT PRIMARY KEY,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE memberships (
    user_name  TEXT NOT NULL REFERENCES users (name),
    group_name TEXT NOT NULL REFERENCES user_groups (name) ON DELETE CASCADE,
    PRIMARY KEY (user_name, group_name)
) STRICT;
CREATE INDEX memberships_by_group ON memberships (group_name);

CREATE TABLE passkeys (
    id            TEXT PRIMARY KEY,
    user_name     TEXT NOT NULL REFERENCES users (name),
    credential_id TEXT NOT NULL UNIQUE, -- base64url
    name          TEXT NOT NULL,
    passkey       TEXT NOT NULL,        -- JSON of webauthn-rs
    created       INTEGER NOT NULL,
    last_used     INTEGER
) STRICT;
CREATE INDEX passkeys_by_user ON passkeys (user_name);

-- One-time links that let a person register a passkey.
CREATE TABLE invites (
    token_hash TEXT PRIMARY KEY,
    user_name  TEXT NOT NULL REFERENCES users (name),
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;

-- State of WebAuthn ceremonies under way; removed before it is verified.
CREATE TABLE ceremonies (
    id        TEXT PRIMARY KEY,
    kind      TEXT NOT NULL,
    state     TEXT NOT NULL,
    user_name TEXT,
    invite    TEXT,
    expires   INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    id                  TEXT PRIMARY KEY,
    name                TEXT NOT NULL UNIQUE,
    owner               TEXT REFERENCES users (name),
    grade               TEXT NOT NULL,
    tags                TEXT NOT NULL DEFAULT '[]', -- JSON list
    key_sha256          TEXT NOT NULL,              -- SHA-256 of the SubjectPublicKeyInfo
    certificate_expires INTEGER NOT NULL,
    created             INTEGER NOT NULL,
    last_seen           INTEGER
) STRICT;

CREATE TABLE device_invites (
    code_hash  TEXT PRIMARY KEY,
    owner      TEXT REFERENCES users (name),
    tags       TEXT NOT NULL DEFAULT '[]',
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    id        TEXT PRIMARY KEY,
    user_name TEXT NOT NULL REFERENCES users (name),
    device_id TEXT REFERENCES devices (id) ON DELETE CASCADE,
    kind      TEXT NOT NULL,              -- browser, cli
    methods   TEXT NOT NULL,              -- JSON list of AuthMethod words
    auth_time INTEGER NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_name);
CREATE INDEX sessions_by_device ON sessions (device_id);

-- Sessions that ended before their time, and their cookies: kept until they would have expired, so
-- that whoever still presents one is told that it ended. Nothing else may look at them.
CREATE TABLE ended_sessions (
    id    TEXT PRIMARY KEY,
    why   TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;
CREATE TABLE ended_cookies (
    token_hash TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES ended_sessions (id) ON DELETE CASCADE,
    label      TEXT NOT NULL
) STRICT;
CREATE INDEX ended_cookies_by_session ON ended_cookies (session_id);

-- Cookies: `label` is the first label of the host it is for (`auth` for the sign-in host).
CREATE TABLE cookies (
    token_hash TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    label      TEXT NOT NULL
) STRICT;
CREATE INDEX cookies_by_session ON cookies (session_id);

-- One-time codes that carry a session from the sign-in host to an app host.
CREATE TABLE app_codes (
    code_hash  TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    label      TEXT NOT NULL,
    expires    INTEGER NOT NULL
) STRICT;

-- Device authorization grant (RFC 8628), bound to a device.
CREATE TABLE device_codes (
    code_hash      TEXT PRIMARY KEY,
    user_code_hash TEXT NOT NULL UNIQUE,
    device_id      TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    ip             TEXT NOT NULL,
    state          TEXT NOT NULL, -- pending, approved, denied
    session_id     TEXT REFERENCES sessions (id) ON DELETE CASCADE,
    interval       INTEGER NOT NULL,
    last_poll      INTEGER NOT NULL DEFAULT 0,
    created        INTEGER NOT NULL,
    expires        INTEGER NOT NULL
) STRICT;

CREATE TABLE refresh_tokens (
    token_hash TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    used       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TABLE resources (
    name TEXT PRIMARY KEY,
    doc  TEXT NOT NULL -- JSON of ResourceDoc
) STRICT;

CREATE TABLE grants (
    id            TEXT PRIMARY KEY,
    user_name     TEXT NOT NULL REFERENCES users (name),
    resource_name TEXT NOT NULL,
    expires       INTEGER,
    reason        TEXT NOT NULL,
    created_by    TEXT NOT NULL,
    created       INTEGER NOT NULL
) STRICT;

CREATE INDEX grants_by_user ON grants (user_name);
CREATE INDEX grants_by_resource ON grants (resource_name);

CREATE TABLE policy_versions (
    version    INTEGER PRIMARY KEY,
    files      TEXT NOT NULL, -- JSON list of {name, text}
    policies   INTEGER NOT NULL,
    note       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created    INTEGER NOT NULL
) STRICT;

-- Every change of facts commits together with a row here; readers can't miss one.
CREATE TABLE feed (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    change   TEXT NOT NULL,
    time_us  INTEGER NOT NULL
) STRICT;

-- The audit log: `record` holds the canonical bytes, the other columns are its index.
CREATE TABLE audit (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    source   TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    time_us  INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    user     TEXT,
    device   TEXT,
    resource TEXT,
    outcome  TEXT,
    reason   TEXT,
    ref      TEXT, -- decision id
    flow     TEXT,
    session  TEXT,
    record   BLOB NOT NULL,
    UNIQUE (source, seq)
) STRICT;
CREATE INDEX audit_by_time ON audit (time_us);
CREATE INDEX audit_by_user ON audit (user, position);
CREATE INDEX audit_by_resource ON audit (resource, position);
CREATE INDEX audit_by_device ON audit (device, position);
CREATE INDEX audit_by_kind ON audit (kind, position);
CREATE INDEX audit_by_ref ON audit (ref);
CREATE INDEX audit_by_flow ON audit (flow);
CREATE INDEX audit_by_session ON audit (session);
