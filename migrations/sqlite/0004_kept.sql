-- What is kept, and what is taken away. Times are Unix seconds.

-- `last_used` is when a path was last read or pushed again; NULL: not since `created`. A path with `expires` is kept until
-- then and no longer, whoever reads it.
ALTER TABLE paths ADD COLUMN expires INTEGER;

-- A name for a path that is to stay. `generation` is the one that the name stands for.
CREATE TABLE pins (
    cache_id INTEGER NOT NULL REFERENCES caches (id),
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    keep INTEGER NOT NULL CHECK (keep >= 1),
    expires INTEGER,
    PRIMARY KEY (cache_id, name)
) STRICT;

CREATE TABLE pin_generations (
    cache_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER NOT NULL,
    hash TEXT NOT NULL CHECK (length(hash) = 32),
    path_name TEXT NOT NULL,
    created INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    PRIMARY KEY (cache_id, name, generation),
    FOREIGN KEY (cache_id, name) REFERENCES pins (cache_id, name)
) STRICT;

CREATE INDEX pin_generations_by_path ON pin_generations (cache_id, hash);

-- NARs that a collection found without a path, and when.
CREATE TABLE unreferenced_nars (
    nar_id INTEGER NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL
) STRICT;

-- `died`: when a pack was claimed. The row of one that chunks once named goes after its object; that of one that no row
-- ever named stays a while longer, so that a writer who comes late finds the key taken.
ALTER TABLE packs ADD COLUMN died INTEGER;

CREATE INDEX packs_dead ON packs (died) WHERE state = 1;

-- Keys of objects that a collection found without a row, and when.
CREATE TABLE unnamed_objects (
    key BLOB NOT NULL PRIMARY KEY CHECK (length(key) = 16),
    seen INTEGER NOT NULL
) STRICT;

-- Chunks whose bytes are damaged or gone. Their rows have another name from then on, so that the chunk counts as missing.
CREATE TABLE damaged_chunks (
    chunk_id INTEGER NOT NULL PRIMARY KEY,
    domain_id INTEGER NOT NULL,
    name BLOB NOT NULL CHECK (length(name) = 32),
    pack_key BLOB NOT NULL CHECK (length(pack_key) = 16),
    reason TEXT NOT NULL,
    found INTEGER NOT NULL
) STRICT;

-- Paths that were taken out of sight since their chunks are damaged; one that is pushed again is no longer among them.
CREATE TABLE withdrawn_paths (
    cache_id INTEGER NOT NULL,
    hash TEXT NOT NULL CHECK (length(hash) = 32),
    name TEXT NOT NULL,
    nar_hash BLOB NOT NULL CHECK (length(nar_hash) = 32),
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (cache_id, hash)
) STRICT;
