-- What an operator sees and takes back. Times are Unix seconds.

-- Every token that was issued here. `revoked_tokens.revoked` is the time from which a token is refused, and may lie ahead.
CREATE TABLE tokens (
    jti TEXT NOT NULL PRIMARY KEY,
    kid TEXT NOT NULL,
    subject TEXT NOT NULL,
    label TEXT NOT NULL,
    grants TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    last_used INTEGER
) STRICT;

CREATE INDEX tokens_by_kid ON tokens (kid);

-- Tokens of a subject that were issued up to a time are refused; the subject '' is everybody's.
CREATE TABLE revoked_subjects (
    subject TEXT NOT NULL PRIMARY KEY,
    issued_until INTEGER NOT NULL,
    revoked INTEGER NOT NULL
) STRICT;

-- `destroyed`: when; the cache is out of sight from then on, and its name stays taken until it is restored or purged.
ALTER TABLE caches ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE caches ADD COLUMN retention INTEGER;
ALTER TABLE caches ADD COLUMN max_size INTEGER;
ALTER TABLE caches ADD COLUMN destroyed INTEGER;

-- `signing_keys.retired` is the time from which a key signs no more, and may lie ahead.

CREATE TABLE audit (
    id INTEGER NOT NULL PRIMARY KEY,
    time INTEGER NOT NULL,
    subject TEXT NOT NULL,
    token_id TEXT NOT NULL,
    remote TEXT NOT NULL,
    action TEXT NOT NULL,
    cache TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;

CREATE INDEX audit_by_time ON audit (time);

INSERT INTO counters (name, next) VALUES ('audit', 1);

ALTER TABLE paths ADD COLUMN last_used INTEGER;
