-- Keyward's tables, version 1. To be run in one transaction, as Keyward does when it opens a file without them:
--     sqlite3 -bail keys.db 'BEGIN IMMEDIATE' '.read 0001_create.sql' 'COMMIT'
-- Instants are microseconds since the Unix epoch, UTC. Ids are the 16 bytes of a UUID. Nothing here is a secret, but for
-- `digest`, from which a weak secret could be guessed.

-- One row: where the store stands. Positions are handed out from here, inside each commit, so that they follow its order.
CREATE TABLE keyward_meta (
    only_row        INTEGER PRIMARY KEY CHECK (only_row = 1),
    schema_version  INTEGER NOT NULL,
    -- The oldest version of this schema whose code may still use the file.
    oldest_reader   INTEGER NOT NULL,
    -- Drawn anew when a backup is restored: UPDATE keyward_meta SET history = random();
    history         INTEGER NOT NULL,
    position        INTEGER NOT NULL CHECK (position >= 0),
    -- How many events there are, and the hash of the last.
    events          INTEGER NOT NULL CHECK (events >= 0),
    head            BLOB    NOT NULL CHECK (length(head) = 32)
) STRICT;

CREATE TABLE keyward_keys (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    tenant           TEXT    NOT NULL,
    owner            TEXT    NOT NULL,
    title            TEXT    NOT NULL,
    created_at       INTEGER NOT NULL CHECK (created_at BETWEEN -62167219200000000 AND 253402300799999999),
    revoked_at       INTEGER CHECK (revoked_at BETWEEN -62167219200000000 AND 253402300799999999),
    revoke_reason    TEXT,
    -- The position of the commit that revoked it.
    revoked_position INTEGER CHECK (revoked_position >= 0),
    expires_at       INTEGER CHECK (expires_at BETWEEN -62167219200000000 AND 253402300799999999),
    predecessor      BLOB    CHECK (length(predecessor) = 16),
    lineage          BLOB    NOT NULL CHECK (length(lineage) = 16),
    digest           TEXT    NOT NULL,
    revision         INTEGER NOT NULL CHECK (revision >= 1),
    schema           INTEGER NOT NULL CHECK (schema BETWEEN 0 AND 65535),
    document         BLOB    NOT NULL,
    CHECK ((revoked_at IS NULL) = (revoked_position IS NULL)),
    CHECK ((revoked_at IS NULL) = (revoke_reason IS NULL))
) STRICT;

-- The ids of keys that were purged. They stay taken, so that a key that was revoked cannot be brought in again.
CREATE TABLE keyward_purged (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16)
) STRICT, WITHOUT ROWID;

-- The two segments of a tenant's list.
CREATE INDEX keyward_keys_live ON keyward_keys (tenant, created_at DESC, id DESC) WHERE revoked_position IS NULL;
CREATE INDEX keyward_keys_revoked ON keyward_keys (tenant, revoked_position, id) WHERE revoked_position IS NOT NULL;

-- Keys of a scope (`all`, `tenant …`, `owner … …`) that were issued before an instant have ended.
CREATE TABLE keyward_cutoffs (
    scope   TEXT    NOT NULL PRIMARY KEY,
    instant INTEGER NOT NULL CHECK (instant BETWEEN -62167219200000000 AND 253402300799999999)
) STRICT, WITHOUT ROWID;

CREATE TABLE keyward_settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What became of the last commits, so that one whose answer was lost can be asked again.
CREATE TABLE keyward_commits (
    number    INTEGER PRIMARY KEY,
    id        BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    made_at   INTEGER NOT NULL,
    committed TEXT    NOT NULL
) STRICT;

-- What changed, for other processes.
CREATE TABLE keyward_feed (
    position INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    news     TEXT    NOT NULL,
    PRIMARY KEY (position, place)
) STRICT, WITHOUT ROWID;

-- The log: each event's hash covers the one before.
CREATE TABLE keyward_events (
    number INTEGER NOT NULL PRIMARY KEY,
    tenant TEXT,
    event  TEXT    NOT NULL,
    hash   BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE INDEX keyward_events_tenant ON keyward_events (tenant, number) WHERE tenant IS NOT NULL;

CREATE TABLE keyward_usage (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    last_used_at INTEGER NOT NULL CHECK (last_used_at BETWEEN -62167219200000000 AND 253402300799999999),
    granted      INTEGER NOT NULL,
    refused      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Batches of usage that were merged, so that none is counted twice.
CREATE TABLE keyward_merged (
    number  INTEGER PRIMARY KEY,
    id      BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    made_at INTEGER NOT NULL
) STRICT;

INSERT INTO keyward_meta VALUES (1, 1, 1, random(), 0, 0, zeroblob(32));
