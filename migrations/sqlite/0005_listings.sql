-- Indexes by which every page of a listing is a range of one of them, in the order in which it is shown.

-- A cache's paths in the order in which they were pushed (an index ends with the row's id), and by name.
CREATE INDEX paths_in_order ON paths (cache_id);
CREATE INDEX paths_by_name ON paths (cache_id, name, id);

-- The pins of a path, by name.
DROP INDEX pin_generations_by_path;
CREATE INDEX pin_generations_by_path ON pin_generations (cache_id, hash, name);

CREATE INDEX tokens_in_order ON tokens (created, jti);
