-- NARs that came by themselves, as `nix copy` sends them, and paths whose narinfo came before their references. Times are
-- Unix seconds. Rows go a day after they were made.

-- `file` is the name under which a NAR was uploaded; its hash and length are those of the bytes as they came.
CREATE TABLE nar_uploads (
    cache_id BIGINT NOT NULL,
    file TEXT NOT NULL,
    nar_id BIGINT NOT NULL,
    file_hash BYTEA NOT NULL CHECK (octet_length(file_hash) = 32),
    file_size BIGINT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (cache_id, file)
);

CREATE INDEX nar_uploads_by_nar ON nar_uploads (nar_id);
CREATE INDEX nar_uploads_by_time ON nar_uploads (created);

-- `waits_for` is the hash part of a reference that the cache did not show when it was looked at last.
CREATE TABLE waiting_paths (
    cache_id BIGINT NOT NULL,
    hash TEXT NOT NULL CHECK (length(hash) = 32),
    waits_for TEXT NOT NULL CHECK (length(waits_for) = 32),
    narinfo TEXT NOT NULL,
    pushed_by TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (cache_id, hash)
);

CREATE INDEX waiting_paths_by_reference ON waiting_paths (cache_id, waits_for);
CREATE INDEX waiting_paths_by_time ON waiting_paths (created);

-- What a cache keeps beside its paths: build logs and realisations, by their names below the cache's address. A log is the one
-- file of a NAR, a realisation is its text. Each is kept as long as the path is visible that it belongs to: one with this
-- deriver, or with this hash part; and for a day at least.
CREATE TABLE cache_files (
    cache_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    deriver TEXT,
    hash TEXT,
    nar_id BIGINT,
    size BIGINT NOT NULL,
    body TEXT,
    pushed_by TEXT NOT NULL,
    created BIGINT NOT NULL,
    PRIMARY KEY (cache_id, name)
);

CREATE INDEX cache_files_by_nar ON cache_files (nar_id);
CREATE INDEX cache_files_by_time ON cache_files (created);
CREATE INDEX paths_by_deriver ON paths (cache_id, deriver);

-- Lines of a narinfo that only its readers know, as they came.
ALTER TABLE paths ADD COLUMN extra TEXT NOT NULL DEFAULT '';
