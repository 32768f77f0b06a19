//! The audit log: what was done or tried, by whom, from where. Entries are added and, when they are
//! old, removed.

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
    /// An action that is left out, or nothing.
    pub without: &'f str,
    /// Those with a lower number.
    pub before: i64,
}

/// Adds entries, in their order.
pub async fn add(tx: &mut Tx, entries: &[NewEntry]) -> Result<(), DbError> {
    let first =
        tx.reserve(Counter::Audit, u32::try_from(entries.len()).unwrap_or(u32::MAX)).await?;
    for (id, entry) in (first..).zip(entries) {
        on_either!(tx.exec(), |conn| {
            sqlx::query(
                "INSERT INTO audit (id, time, subject, token_id, remote, action, cache, detail, \
                 outcome) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
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

/// Some entries, newest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Those that were asked for.
    pub entries: Vec<Entry>,
    /// The number below which older ones may follow.
    pub next: Option<i64>,
}

pub(super) const PAGE: &str = "SELECT id, time, subject, token_id, remote, action, cache, detail, \
    outcome FROM audit WHERE id < $1 AND id >= $7 AND ($2 = '' OR subject = $2) AND ($3 = '' OR \
    cache = $3) AND ($4 = '' OR action = $4 OR ($5 = 1 AND substr(action, 1, length($4)) = $4)) \
    AND ($8 = '' OR action <> $8) ORDER BY id DESC LIMIT $6";

/// Up to `limit` of the entries among the `looked_at` newest.
pub async fn page(
    mut exec: Exec<'_>,
    filter: &Filter<'_>,
    looked_at: u32,
    limit: u32,
) -> Result<Page, DbError> {
    let ends: (Option<i64>, Option<i64>) = on_either!(exec.again(), |conn| {
        // Apart, so that SQLite takes each from an end of the table.
        sqlx::query_as("SELECT (SELECT min(id) FROM audit), (SELECT max(id) FROM audit)")
            .fetch_one(conn)
            .await?
    });
    let (Some(first), Some(last)) = ends else { return Ok(Page::default()) };
    let before = filter.before.min(last.saturating_add(1));
    // Numbers count up one by one.
    let from = before.saturating_sub(i64::from(looked_at)).max(first);
    // A prefix is compared by its length, since LIKE has characters of its own.
    let (action, is_prefix) = match filter.action.strip_suffix('*') {
        Some(prefix) => (prefix, 1_i64),
        None => (filter.action, 0),
    };
    let entries: Vec<Entry> = on_either!(exec, |conn| {
        sqlx::query_as(PAGE)
            .bind(before)
            .bind(filter.subject)
            .bind(filter.cache)
            .bind(action)
            .bind(is_prefix)
            .bind(i64::from(limit))
            .bind(from)
            .bind(filter.without)
            .fetch_all(conn)
            .await?
    });
    let is_full = entries.len() >= limit as usize;
    let seen_until = if is_full { entries.last().map_or(from, |last| last.id) } else { from };
    Ok(Page { entries, next: (seen_until > first).then_some(seen_until) })
}

/// Removes what is older than a time.
pub async fn remove_before(exec: Exec<'_>, time: i64) -> Result<(), DbError> {
    on_either!(exec, |conn| {
        sqlx::query("DELETE FROM audit WHERE time < $1").bind(time).execute(conn).await?;
    });
    Ok(())
}
