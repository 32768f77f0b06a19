-- Times are Unix seconds. Every id is assigned by the server from `counters` and never used again, so that what names an
-- id means the same for ever. Texts compare bytewise (COLLATE "C") wherever an index is on them, as on SQLite.

CREATE TABLE instance (
    id TEXT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE settings (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE counters (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    next BIGINT NOT NULL
);

INSERT INTO counters (name, next) VALUES
    ('chunk', 1), ('pack', 1), ('nar', 1), ('path', 1), ('cache', 1), ('domain', 2), ('signing-key', 1);

-- Caches in one domain share chunks. Domain 1 is the one that caches are in unless they are isolated.
CREATE TABLE domains (
    id BIGINT NOT NULL PRIMARY KEY,
    created BIGINT NOT NULL
);

INSERT INTO domains (id, created) VALUES (1, 0);

CREATE TABLE caches (
    id BIGINT NOT NULL PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    domain_id BIGINT NOT NULL REFERENCES domains (id),
    public BIGINT NOT NULL CHECK (public IN (0, 1)),
    store_dir TEXT NOT NULL,
    priority BIGINT NOT NULL,
    want_mass_query BIGINT NOT NULL CHECK (want_mass_query IN (0, 1)),
    upstream_keys TEXT NOT NULL,
    compression_level BIGINT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE signing_keys (
    id BIGINT NOT NULL PRIMARY KEY,
    cache_id BIGINT NOT NULL REFERENCES caches (id),
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    sealed_secret BYTEA NOT NULL,
    created BIGINT NOT NULL,
    retired BIGINT
);

CREATE INDEX signing_keys_by_cache ON signing_keys (cache_id);

CREATE TABLE token_keys (
    kid TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    sealed_secret BYTEA NOT NULL,
    created BIGINT NOT NULL,
    retired BIGINT
);

CREATE TABLE revoked_tokens (
    jti TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    revoked BIGINT NOT NULL
);

-- state: 0 live, 1 dead (claimed by the collector; its object may be removed).
CREATE TABLE packs (
    id BIGINT NOT NULL PRIMARY KEY,
    domain_id BIGINT NOT NULL REFERENCES domains (id),
    cache_id BIGINT NOT NULL,
    key BYTEA NOT NULL UNIQUE CHECK (length(key) = 16),
    state BIGINT NOT NULL CHECK (state IN (0, 1)),
    bytes BIGINT NOT NULL,
    chunk_count BIGINT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE chunks (
    id BIGINT NOT NULL PRIMARY KEY,
    domain_id BIGINT NOT NULL,
    name BYTEA NOT NULL CHECK (length(name) = 32),
    pack_id BIGINT NOT NULL REFERENCES packs (id),
    pack_offset BIGINT NOT NULL,
    record_len BIGINT NOT NULL,
    UNIQUE (domain_id, name)
);

CREATE INDEX chunks_by_pack ON chunks (pack_id);

-- `manifest` is segment 0 of the NAR's manifest; longer manifests go on in nar_segments. It is the last column, so that
-- reading the others never reads it.
CREATE TABLE nars (
    id BIGINT NOT NULL PRIMARY KEY,
    domain_id BIGINT NOT NULL REFERENCES domains (id),
    nar_hash BYTEA NOT NULL CHECK (length(nar_hash) = 32),
    nar_size BIGINT NOT NULL,
    file_hash BYTEA NOT NULL CHECK (length(file_hash) = 32),
    file_size BIGINT NOT NULL,
    content_digest BYTEA NOT NULL CHECK (length(content_digest) = 32),
    chunk_count BIGINT NOT NULL,
    segment_count BIGINT NOT NULL,
    format BIGINT NOT NULL,
    created BIGINT NOT NULL,
    manifest BYTEA NOT NULL,
    UNIQUE (domain_id, nar_hash)
);

CREATE TABLE nar_segments (
    nar_id BIGINT NOT NULL REFERENCES nars (id),
    seq BIGINT NOT NULL CHECK (seq >= 1),
    first_raw BIGINT NOT NULL,
    first_stored BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (nar_id, seq)
);

CREATE TABLE paths (
    id BIGINT NOT NULL PRIMARY KEY,
    cache_id BIGINT NOT NULL REFERENCES caches (id),
    hash TEXT COLLATE "C" NOT NULL CHECK (length(hash) = 32),
    name TEXT NOT NULL,
    nar_id BIGINT NOT NULL REFERENCES nars (id),
    refs TEXT NOT NULL,
    deriver TEXT,
    signatures TEXT NOT NULL,
    ca TEXT,
    pushed_by TEXT NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (cache_id, hash)
);

CREATE INDEX paths_by_nar ON paths (nar_id, cache_id);
