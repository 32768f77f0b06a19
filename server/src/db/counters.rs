//! Where ids come from: a row per kind that only ever counts up.
//!
//! Invariant (C2): an id is given out at most once. What a rolled-back transaction took is given out again, which is
//! sound as long as an id is written nowhere before its reservation is committed.

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
        sqlx::query_scalar("UPDATE counters SET next = next + $2 WHERE name = $1 RETURNING next - $2")
            .bind(counter.name())
            .bind(i64::from(count))
            .fetch_optional(conn)
            .await?
    });
    first.ok_or_else(|| DbError::corrupt(format!("the counter `{}` is missing", counter.name())))
}

/// The last id that was taken. What it was taken for is committed: whoever takes one holds the counter's row until then.
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
    next.map(|next| next - 1).ok_or_else(|| DbError::corrupt(format!("the counter `{}` is missing", counter.name())))
}

/// Passes over `count` ids, which nobody gets then: they may have been given out by a database that is lost.
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
    if rows == 1 { Ok(()) } else { Err(DbError::corrupt(format!("the counter `{}` is missing", counter.name()))) }
}
