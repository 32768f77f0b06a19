//! Paths that a cache had to take out of sight.

use snowbank_core::wire::admin::withdrawn::{WithdrawnPage, WithdrawnPath, WithdrawnQuery};

use super::AdminError;
use crate::db::caches::Cache;
use crate::db::{self, Db};

/// Paths in one answer.
const MOST_LISTED: u32 = 1_000;

/// Withdrawn paths, by hash part.
///
/// # Errors
/// As any read.
pub async fn list_withdrawn(db: &Db, cache: &Cache, query: &WithdrawnQuery) -> Result<WithdrawnPage, AdminError> {
    let after = query.after.as_deref().unwrap_or_default();
    let rows = db::damage::withdrawn_of(db.reader().await?.exec(), cache.id, after, MOST_LISTED).await?;
    let next = rows.last().filter(|_| rows.len() == MOST_LISTED as usize).map(|last| last.hash.clone());
    let path = |row: db::damage::WithdrawnPath| WithdrawnPath {
        path: row.base_name(),
        nar_hash: row.nar_hash.to_string(),
        reason: row.reason,
        since: row.since,
    };
    Ok(WithdrawnPage { paths: rows.into_iter().map(path).collect(), next })
}
