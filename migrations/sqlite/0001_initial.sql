-- Times are Unix seconds. Every id is assigned by the server from `counters` and never used again, so that what names an
-- id means the same for ever; no column relies on SQLite's own rowid assignment.

CREATE TABLE instance (
    id TEXT NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE settings (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT;

INSERT INTO counters (name, next) VALUES
    ('chunk', 1), ('pack', 1), ('nar', 1), ('path', 1), ('cache', 1), ('domain', 2), ('signing-key', 1);

-- Caches in one domain share chunks. Domain 1 is the one that caches are in unless they are isolated.
CREATE TABLE domains (
    id INTEGER NOT NULL PRIMARY KEY,
    created INTEGER NOT NULL
) STRICT;

INSERT INTO domains (id, created) VALUES (1, 0);

CREATE TABLE caches (
    id INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    domain_id INTEGER NOT NULL REFERENCES domains (id),
    public INTEGER NOT NULL CHECK (public IN (0, 1)),
    store_dir TEXT NOT NULL,
    priority INTEGER NOT NULL,
    want_mass_query INTEGER NOT NULL CHECK (want_mass_query IN (0, 1)),
    upstream_keys TEXT NOT NULL,
    compression_level INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    id INTEGER NOT NULL PRIMARY KEY,
    cache_id INTEGER NOT NULL REFERENCES caches (id),
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    sealed_secret BLOB NOT NULL,
    created INTEGER NOT NULL,
    retired INTEGER
) STRICT;

CREATE INDEX signing_keys_by_cache ON signing_keys (cache_id);

CREATE TABLE token_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    sealed_secret BLOB NOT NULL,
    created INTEGER NOT NULL,
    retired INTEGER
) STRICT;

CREATE TABLE revoked_tokens (
    jti TEXT NOT NULL PRIMARY KEY,
    revoked INTEGER NOT NULL
) STRICT;

-- state: 0 live, 1 dead (claimed by the collector; its object may be removed).
CREATE TABLE packs (
    id INTEGER NOT NULL PRIMARY KEY,
    domain_id INTEGER NOT NULL REFERENCES domains (id),
    cache_id INTEGER NOT NULL,
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 16),
    state INTEGER NOT NULL CHECK (state IN (0, 1)),
    bytes INTEGER NOT NULL,
    chunk_count INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE chunks (
    id INTEGER NOT NULL PRIMARY KEY,
    domain_id INTEGER NOT NULL,
    name BLOB NOT NULL CHECK (length(name) = 32),
    pack_id INTEGER NOT NULL REFERENCES packs (id),
    pack_offset INTEGER NOT NULL,
    record_len INTEGER NOT NULL,
    UNIQUE (domain_id, name)
) STRICT;

CREATE INDEX chunks_by_pack ON chunks (pack_id);

-- `manifest` is segment 0 of the NAR's manifest; longer manifests go on in nar_segments. It is the last column, so that
-- reading the others never reads it.
CREATE TABLE nars (
    id INTEGER NOT NULL PRIMARY KEY,
    domain_id INTEGER NOT NULL REFERENCES domains (id),
    nar_hash BLOB NOT NULL CHECK (length(nar_hash) = 32),
    nar_size INTEGER NOT NULL,
    file_hash BLOB NOT NULL CHECK (length(file_hash) = 32),
    file_size INTEGER NOT NULL,
    content_digest BLOB NOT NULL CHECK (length(content_digest) = 32),
    chunk_count INTEGER NOT NULL,
    segment_count INTEGER NOT NULL,
    format INTEGER NOT NULL,
    created INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    UNIQUE (domain_id, nar_hash)
) STRICT;

CREATE TABLE nar_segments (
    nar_id INTEGER NOT NULL REFERENCES nars (id),
    seq INTEGER NOT NULL CHECK (seq >= 1),
    first_raw INTEGER NOT NULL,
    first_stored INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (nar_id, seq)
) STRICT;

CREATE TABLE paths (
    id INTEGER NOT NULL PRIMARY KEY,
    cache_id INTEGER NOT NULL REFERENCES caches (id),
    hash TEXT NOT NULL CHECK (length(hash) = 32),
    name TEXT NOT NULL,
    nar_id INTEGER NOT NULL REFERENCES nars (id),
    refs TEXT NOT NULL,
    deriver TEXT,
    signatures TEXT NOT NULL,
    ca TEXT,
    pushed_by TEXT NOT NULL,
    created INTEGER NOT NULL,
    UNIQUE (cache_id, hash)
) STRICT;

CREATE INDEX paths_by_nar ON paths (nar_id, cache_id);
