-- The chunking under which the pushing client cut the NAR, 0 where it did not say.
ALTER TABLE nars ADD COLUMN cut_id BIGINT NOT NULL DEFAULT 0;
