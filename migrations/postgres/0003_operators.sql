-- What an operator sees and takes back. Times are Unix seconds.

-- Every token that was issued here. `revoked_tokens.revoked` is the time from which a token is refused, and may lie ahead.
CREATE TABLE tokens (
    jti TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kid TEXT COLLATE "C" NOT NULL,
    subject TEXT NOT NULL,
    label TEXT NOT NULL,
    grants TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    last_used BIGINT
);

CREATE INDEX tokens_by_kid ON tokens (kid);

-- Tokens of a subject that were issued up to a time are refused; the subject '' is everybody's.
CREATE TABLE revoked_subjects (
    subject TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    issued_until BIGINT NOT NULL,
    revoked BIGINT NOT NULL
);

-- `destroyed`: when; the cache is out of sight from then on, and its name stays taken until it is restored or purged.
ALTER TABLE caches ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE caches ADD COLUMN retention BIGINT;
ALTER TABLE caches ADD COLUMN max_size BIGINT;
ALTER TABLE caches ADD COLUMN destroyed BIGINT;

-- `signing_keys.retired` is the time from which a key signs no more, and may lie ahead.

CREATE TABLE audit (
    id BIGINT NOT NULL PRIMARY KEY,
    time BIGINT NOT NULL,
    subject TEXT NOT NULL,
    token_id TEXT NOT NULL,
    remote TEXT NOT NULL,
    action TEXT NOT NULL,
    cache TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT NOT NULL
);

CREATE INDEX audit_by_time ON audit (time);

INSERT INTO counters (name, next) VALUES ('audit', 1);

ALTER TABLE paths ADD COLUMN last_used BIGINT;
