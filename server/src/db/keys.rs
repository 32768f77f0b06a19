//! Keys at rest: each cache's signing keys, and the server's token keys.
//!
//! Secrets are sealed before they come here; this module could not read them.

use std::collections::HashMap;
use std::fmt;

use super::batch::Engine as _;
use super::counters::{self, Counter};
use super::exec::on_either;
use super::ids::CacheId;
use super::{DbError, Exec, batch};

/// A cache's key, its secret sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSigningKey {
    /// The name that Nix knows it by.
    pub name: String,
    /// The public half, as in nix.conf.
    pub public_key: String,
    /// The sealed secret half.
    pub sealed_secret: Vec<u8>,
}

impl fmt::Debug for SealedSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSigningKey")
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

/// A key that tokens are signed with, sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedTokenKey {
    /// What a token's header names it by.
    pub kid: String,
    /// The one algorithm that it is for, such as `HS256`.
    pub algorithm: String,
    /// The sealed key.
    pub sealed_secret: Vec<u8>,
    /// When it was made.
    pub created: i64,
}

impl fmt::Debug for SealedTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedTokenKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// A cache's key, and how long it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKeyRow {
    /// The key.
    pub key: SealedSigningKey,
    /// When it was made.
    pub created: i64,
    /// From when on it signs no more; may lie ahead.
    pub retired: Option<i64>,
}

impl SigningKeyRow {
    /// Whether it signs at the time `now`.
    #[must_use]
    pub fn signs(&self, now: i64) -> bool {
        self.retired.is_none_or(|retired| retired > now)
    }
}

/// All keys that a cache ever had, oldest first.
pub async fn signing_keys(exec: Exec<'_>, cache: CacheId) -> Result<Vec<SigningKeyRow>, DbError> {
    type Row = (String, String, Vec<u8>, i64, Option<i64>);
    let rows: Vec<Row> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT name, public_key, sealed_secret, created, retired FROM signing_keys WHERE \
             cache_id = $1 ORDER BY id",
        )
        .bind(cache.0)
        .fetch_all(conn)
        .await?
    });
    let row = |(name, public_key, sealed_secret, created, retired)| SigningKeyRow {
        key: SealedSigningKey { name, public_key, sealed_secret },
        created,
        retired,
    };
    Ok(rows.into_iter().map(row).collect())
}

/// As [`signing_keys`], of several caches; one that has none is not in the result.
pub async fn signing_keys_of(
    exec: Exec<'_>,
    caches: &[CacheId],
) -> Result<HashMap<CacheId, Vec<SigningKeyRow>>, DbError> {
    type Row = (i64, String, String, Vec<u8>, i64, Option<i64>);
    let mut rows: Vec<Row> = Vec::new();
    on_either!(exec, |conn| {
        for batch in batch::padded(caches) {
            let sql = format!(
                "SELECT cache_id, name, public_key, sealed_secret, created, retired FROM \
                 signing_keys WHERE cache_id IN ({}) ORDER BY id",
                batch.placeholders(1)
            );
            let mut query = sqlx::query_as(conn.text(sql));
            for cache in batch.iter() {
                query = query.bind(cache.0);
            }
            rows.extend(query.fetch_all(&mut *conn).await?);
        }
    });
    let mut keys: HashMap<CacheId, Vec<SigningKeyRow>> = HashMap::new();
    for (cache, name, public_key, sealed_secret, created, retired) in rows {
        let key = SealedSigningKey { name, public_key, sealed_secret };
        keys.entry(CacheId(cache)).or_default().push(SigningKeyRow { key, created, retired });
    }
    Ok(keys)
}

/// Lets a cache's keys sign until `at` and no longer; those that end earlier stay so.
pub async fn retire_signing_keys(exec: Exec<'_>, cache: CacheId, at: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "UPDATE signing_keys SET retired = $2 WHERE cache_id = $1 AND (retired IS NULL OR \
            retired > $2)",
        )
        .bind(cache.0)
        .bind(at)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// Gives a cache a key to sign with.
pub async fn add_signing_key(
    mut exec: Exec<'_>,
    cache: CacheId,
    key: &SealedSigningKey,
    now: i64,
) -> Result<(), DbError> {
    let id = counters::reserve(exec.again(), Counter::SigningKey, 1).await?;
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO signing_keys (id, cache_id, name, public_key, sealed_secret, created, \
             retired) VALUES ($1, $2, $3, $4, $5, $6, NULL)",
        )
        .bind(id)
        .bind(cache.0)
        .bind(&key.name)
        .bind(&key.public_key)
        .bind(&key.sealed_secret)
        .bind(now)
        .execute(conn)
        .await?;
    });
    Ok(())
}

/// The keys that tokens may be signed with, newest first: the first is the one for new tokens.
pub async fn token_keys(exec: Exec<'_>) -> Result<Vec<SealedTokenKey>, DbError> {
    let rows: Vec<(String, String, Vec<u8>, i64)> = on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT kid, algorithm, sealed_secret, created FROM token_keys WHERE retired IS NULL \
             ORDER BY created DESC, kid",
        )
        .fetch_all(conn)
        .await?
    });
    let key = |(kid, algorithm, sealed_secret, created)| SealedTokenKey {
        kid,
        algorithm,
        sealed_secret,
        created,
    };
    Ok(rows.into_iter().map(key).collect())
}

/// Adds a key to sign tokens with.
///
/// # Errors
/// [`DbError::Constraint`] when its `kid` is taken.
pub async fn add_token_key(exec: Exec<'_>, key: &SealedTokenKey) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query(
            "INSERT INTO token_keys (kid, algorithm, sealed_secret, created, retired) VALUES ($1, \
             $2, $3, $4, NULL)",
        )
        .bind(&key.kid)
        .bind(&key.algorithm)
        .bind(&key.sealed_secret)
        .bind(key.created)
        .execute(conn)
        .await?;
    });
    Ok(())
}
