//! Where ids come from: a row per kind that only ever counts up.
//!
//! Invariant (C2): an id is given out at most once. What a rolled-back transaction took is given
//! out again, which is sound as long as an id is written nowhere before its reservation is
//! committed.
//!
//! Whoever takes ids in a transaction holds the counter's row until its end, and with it all others
//! that take some. On PostgreSQL, where servers share the counters and one of them may stop at any
//! point, what pushes take is therefore taken in a statement of its own, on another connection
//! ([`Tx::reserve`](super::Tx::reserve)), while the transaction holds the lock that keeps exclusive
//! ones away. So ids are not in the order of commits, but an exclusive transaction finds that every
//! id that was taken up to [`last`] is committed or never will be.

use sqlx::PgPool;

use super::exec::on_either;
use super::{DbError, Exec};

/// A kind of id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Chunks.
    Chunk,
    /// Packs.
    Pack,
    /// NARs.
    Nar,
    /// Paths.
    Path,
    /// Caches.
    Cache,
    /// Dedup domains.
    Domain,
    /// Signing keys.
    SigningKey,
    /// Entries of the audit log.
    Audit,
}

impl Counter {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Pack => "pack",
            Self::Nar => "nar",
            Self::Path => "path",
            Self::Cache => "cache",
            Self::Domain => "domain",
            Self::SigningKey => "signing-key",
            Self::Audit => "audit",
        }
    }
}

/// Takes `count` neighbouring ids and gives the first.
///
/// # Errors
/// As any write; [`DbError::Corrupt`] when the counter is gone.
pub async fn reserve(exec: Exec<'_>, counter: Counter, count: u32) -> Result<i64, DbError> {
    let first: Option<i64> = on_either!(exec, |conn| {
        sqlx::query_scalar(
            "UPDATE counters SET next = next + $2 WHERE name = $1 RETURNING next - $2",
        )
        .bind(counter.name())
        .bind(i64::from(count))
        .fetch_optional(conn)
        .await?
    });
    first.ok_or_else(|| DbError::corrupt(format!("the counter `{}` is missing", counter.name())))
}

/// Takes ids in a statement of its own, on a connection of `pool`; tries once more where that
/// connection was dead, which may lose some ids.
pub(super) async fn reserve_apart(
    pool: &PgPool,
    counter: Counter,
    count: u32,
) -> Result<i64, DbError> {
    let mut is_first = true;
    loop {
        let mut conn = pool.acquire().await?;
        match reserve(Exec::Postgres(&mut conn), counter, count).await {
            Err(error @ DbError::Unavailable(_)) => {
                // Not back into the pool.
                drop(conn.detach());
                if !std::mem::take(&mut is_first) {
                    return Err(error);
                }
            }
            result => return result,
        }
    }
}

/// The last id that was taken. Under an exclusive transaction, what it was taken for is committed
/// or never will be.
///
/// # Errors
/// As any read; [`DbError::Corrupt`] when the counter is gone.
pub async fn last(exec: Exec<'_>, counter: Counter) -> Result<i64, DbError> {
    let next: Option<i64> = on_either!(exec, |conn| {
        sqlx::query_scalar("SELECT next FROM counters WHERE name = $1")
            .bind(counter.name())
            .fetch_optional(conn)
            .await?
    });
    next.map(|next| next - 1)
        .ok_or_else(|| DbError::corrupt(format!("the counter `{}` is missing", counter.name())))
}

/// Passes over `count` ids, which nobody gets then: they may have been given out by a database that
/// is lost.
///
/// # Errors
/// As [`reserve`].
pub async fn skip(exec: Exec<'_>, counter: Counter, count: i64) -> Result<(), DbError> {
    let rows = on_either!(exec, |conn| {
        sqlx::query("UPDATE counters SET next = next + $2 WHERE name = $1")
            .bind(counter.name())
            .bind(count)
            .execute(conn)
            .await?
            .rows_affected()
    });
    if rows == 1 {
        Ok(())
    } else {
        Err(DbError::corrupt(format!("the counter `{}` is missing", counter.name())))
    }
}
