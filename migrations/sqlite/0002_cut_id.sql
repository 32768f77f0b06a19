-- The chunking under which the pushing client cut the NAR, 0 where it did not say. The column stands behind `manifest`, so
-- that reading it reads the manifest's pages too: nothing on the way of a request does.
ALTER TABLE nars ADD COLUMN cut_id INTEGER NOT NULL DEFAULT 0;
