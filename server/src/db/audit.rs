//! The audit log: what was done or tried, by whom, from where. Entries are added and, when they are old, removed.

use sqlx::FromRow;

use super::counters::Counter;
use super::exec::on_either;
use super::{DbError, Exec, Tx};

/// An entry that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct NewEntry {
    /// When.
    pub time: i64,
    /// Whose token, or `host`.
    pub subject: String,
    /// The token's id.
    pub token_id: String,
    /// Where the request came from.
    pub remote: String,
    /// What, such as `cache.configure`.
    pub action: String,
    /// Which cache, or nothing.
    pub cache: String,
    /// The particulars.
    pub detail: String,
    /// `ok`, or why it was refused.
    pub outcome: String,
}

/// An entry that was made.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// What it says.
    #[sqlx(flatten)]
    pub what: NewEntry,
}

/// Which entries are asked for; an empty text is any.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'f> {
    /// Whose.
    pub subject: &'f str,
    /// About which cache.
    pub cache: &'f str,
    /// Which action; with `*` at its end, all that begin so.
    pub action: &'f str,
    /// Those with a lower number.
    pub before: i64,
}

/// Adds entries, in their order.
///
/// # Errors
/// As any write.
pub async fn add(tx: &mut Tx, entries: &[NewEntry]) -> Result<(), DbError> {
    let first = tx.reserve(Counter::Audit, u32::try_from(entries.len()).unwrap_or(u32::MAX)).await?;
    for (id, entry) in (first..).zip(entries) {
        on_either!(tx.exec(), |conn| {
            sqlx::query(
                "INSERT INTO audit (id, time, subject, token_id, remote, action, cache, detail, outcome) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(id)
            .bind(entry.time)
            .bind(&entry.subject)
            .bind(&entry.token_id)
            .bind(&entry.remote)
            .bind(&entry.action)
            .bind(&entry.cache)
            .bind(&entry.detail)
            .bind(&entry.outcome)
            .execute(conn)
            .await?;
        });
    }
    Ok(())
}

/// Up to `limit` entries, newest first.
///
/// # Errors
/// As any read.
pub async fn list(exec: Exec<'_>, filter: &Filter<'_>, limit: u32) -> Result<Vec<Entry>, DbError> {
    // A prefix is compared by its length, since LIKE has characters of its own.
    let (action, is_prefix) = match filter.action.strip_suffix('*') {
        Some(prefix) => (prefix, 1_i64),
        None => (filter.action, 0),
    };
    Ok(on_either!(exec, |conn| {
        sqlx::query_as(
            "SELECT id, time, subject, token_id, remote, action, cache, detail, outcome FROM audit \
             WHERE id < $1 AND ($2 = '' OR subject = $2) AND ($3 = '' OR cache = $3) \
             AND ($4 = '' OR action = $4 OR ($5 = 1 AND substr(action, 1, length($4)) = $4)) \
             ORDER BY id DESC LIMIT $6",
        )
        .bind(filter.before)
        .bind(filter.subject)
        .bind(filter.cache)
        .bind(action)
        .bind(is_prefix)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await?
    }))
}

/// Removes what is older than a time.
///
/// # Errors
/// As any write.
pub async fn remove_before(exec: Exec<'_>, time: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query("DELETE FROM audit WHERE time < $1").bind(time).execute(conn).await?;
    });
    Ok(())
}
