-- What is kept, and what is taken away. Times are Unix seconds.

-- `last_used` is when a path was last read or pushed again; NULL: not since `created`. A path with `expires` is kept until
-- then and no longer, whoever reads it.
ALTER TABLE paths ADD COLUMN expires BIGINT;

-- A name for a path that is to stay. `generation` is the one that the name stands for.
CREATE TABLE pins (
    cache_id BIGINT NOT NULL REFERENCES caches (id),
    name TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    keep BIGINT NOT NULL CHECK (keep >= 1),
    expires BIGINT,
    PRIMARY KEY (cache_id, name)
);

CREATE TABLE pin_generations (
    cache_id BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    hash TEXT COLLATE "C" NOT NULL CHECK (length(hash) = 32),
    path_name TEXT NOT NULL,
    created BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (cache_id, name, generation),
    FOREIGN KEY (cache_id, name) REFERENCES pins (cache_id, name)
);

CREATE INDEX pin_generations_by_path ON pin_generations (cache_id, hash);

-- NARs that a collection found without a path, and when.
CREATE TABLE unreferenced_nars (
    nar_id BIGINT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL
);

-- `died`: when a pack was claimed. The row of one that chunks once named goes after its object; that of one that no row
-- ever named stays a while longer, so that a writer who comes late finds the key taken.
ALTER TABLE packs ADD COLUMN died BIGINT;

CREATE INDEX packs_dead ON packs (died) WHERE state = 1;

-- Keys of objects that a collection found without a row, and when.
CREATE TABLE unnamed_objects (
    key BYTEA NOT NULL PRIMARY KEY CHECK (length(key) = 16),
    seen BIGINT NOT NULL
);

-- Chunks whose bytes are damaged or gone. Their rows have another name from then on, so that the chunk counts as missing.
CREATE TABLE damaged_chunks (
    chunk_id BIGINT NOT NULL PRIMARY KEY,
    domain_id BIGINT NOT NULL,
    name BYTEA NOT NULL CHECK (length(name) = 32),
    pack_key BYTEA NOT NULL CHECK (length(pack_key) = 16),
    reason TEXT NOT NULL,
    found BIGINT NOT NULL
);

-- Paths that were taken out of sight since their chunks are damaged; one that is pushed again is no longer among them.
CREATE TABLE withdrawn_paths (
    cache_id BIGINT NOT NULL,
    hash TEXT COLLATE "C" NOT NULL CHECK (length(hash) = 32),
    name TEXT NOT NULL,
    nar_hash BYTEA NOT NULL CHECK (length(nar_hash) = 32),
    reason TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (cache_id, hash)
);
