-- The links of the chain by which a storage knows its database (C3). `written` is when the storage's marker is known to have
-- got the link, NULL for one that it may not have yet. `place` says where the server ran that wrote it, NULL where a command
-- did. Only the last few are kept. They are the database's own: a move to another database leaves them behind.
CREATE TABLE chain (
    number INTEGER NOT NULL PRIMARY KEY,
    link TEXT NOT NULL,
    written INTEGER,
    place TEXT
) STRICT;
