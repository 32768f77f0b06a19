//! Paths that a cache had to take out of sight.

use snowbank_core::wire::admin::withdrawn::{WithdrawnPage, WithdrawnPath, WithdrawnQuery};

use super::AdminError;
use super::page::fitting;
use crate::db::caches::Cache;
use crate::db::{self, Db};

/// Paths in one answer.
const MAX_LISTED: u32 = 1_000;

/// Withdrawn paths, by hash part.
pub async fn list_withdrawn(
    db: &Db,
    cache: &Cache,
    query: &WithdrawnQuery,
) -> Result<WithdrawnPage, AdminError> {
    let after = query.after.as_deref().unwrap_or_default();
    if !after.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(AdminError::BadSetting(
            "`after` is not a hash part; list from the beginning".to_owned(),
        ));
    }
    let rows =
        db::damage::withdrawn_of(db.reader().await?.exec(), cache.id, after, MAX_LISTED).await?;
    let is_full = rows.len() == MAX_LISTED as usize;
    let (hashes, mut paths): (Vec<String>, Vec<WithdrawnPath>) =
        rows.into_iter().map(shown).unzip();
    let fitting = fitting(&paths);
    let is_cut = fitting < paths.len();
    paths.truncate(fitting);
    let next =
        paths.len().checked_sub(1).filter(|_| is_full || is_cut).map(|last| hashes[last].clone());
    Ok(WithdrawnPage { paths, next })
}

/// A row's hash part, and what is shown of it.
fn shown(row: db::damage::WithdrawnPath) -> (String, WithdrawnPath) {
    let (path, nar_hash) = (row.base_name(), row.nar_hash.to_string());
    (row.hash, WithdrawnPath { path, nar_hash, reason: row.reason, since: row.since })
}
