//! Writes down which paths were read.
//!
//! How old the time that is kept of a path may be is a part of how long its cache keeps it
//! ([`grain`]): a path that is read all the time is written every few minutes, not every few
//! seconds. Whoever deletes what nobody uses waits for longer than that.

use std::collections::HashMap;

use snowbank_core::units::Seconds;

use crate::db::caches::{Cache, CacheId};
use crate::db::nars::NarId;
use crate::db::paths::PathId;
use crate::db::{self, Db, DbError};
use crate::serving::{PathUses, TakenUses};

/// How old the time of a path's last use may be.
const MAX_GRAIN_SECONDS: i64 = 240;
/// Rows that are written in one transaction.
const BATCH: usize = 500;

/// How many seconds ago a path's last use may be for it not to be written again, in a cache that
/// keeps unused paths for so long.
fn grain(keeps: Option<i64>) -> i64 {
    keeps.map_or(MAX_GRAIN_SECONDS, |keeps| (keeps / 16).min(MAX_GRAIN_SECONDS))
}

/// Writes what was noted; `retention` is the server's setting for caches that have none of their
/// own.
///
/// # Errors
/// As any write; what was not written is noted still.
pub async fn write(
    db: &Db,
    uses: &PathUses,
    retention: Option<Seconds>,
    now: i64,
) -> Result<(), DbError> {
    let taken = uses.take();
    if taken == TakenUses::default() {
        return Ok(());
    }
    let result = write_taken(db, &taken, retention, now).await;
    if result.is_err() {
        // What of it was written is found to be, and left alone.
        uses.give_back(taken);
    }
    result
}

async fn write_taken(
    db: &Db,
    taken: &TakenUses,
    retention: Option<Seconds>,
    now: i64,
) -> Result<(), DbError> {
    let caches: HashMap<CacheId, Cache> = db::caches::list(db.reader().await?.exec())
        .await?
        .into_iter()
        .map(|cache| (cache.id, cache))
        .collect();
    let used_before = |cache: &CacheId| {
        // Nothing is left of one that is not there.
        caches.get(cache).map(|cache| now.saturating_sub(grain(cache.keeps_unused(retention))))
    };
    for uses in taken.paths.chunk_by(|a, b| a.0 == b.0) {
        let Some(before) = uses.first().and_then(|(cache, _)| used_before(cache)) else { continue };
        for uses in uses.chunks(BATCH) {
            let paths: Vec<PathId> = uses.iter().map(|(_, path)| *path).collect();
            let unused = db::uses::unused_since(db.reader().await?.exec(), &paths, before).await?;
            write_batch(db, &unused, now, before).await?;
        }
    }
    for uses in taken.nars.chunk_by(|a, b| a.0 == b.0) {
        let Some((cache, _)) = uses.first() else { continue };
        let Some(before) = used_before(cache) else { continue };
        for uses in uses.chunks(BATCH) {
            let nars: Vec<NarId> = uses.iter().map(|(_, nar)| *nar).collect();
            let unused =
                db::uses::unused_with_nars(db.reader().await?.exec(), *cache, &nars, before)
                    .await?;
            for unused in unused.chunks(BATCH) {
                write_batch(db, unused, now, before).await?;
            }
        }
    }
    Ok(())
}

async fn write_batch(db: &Db, unused: &[PathId], now: i64, before: i64) -> Result<(), DbError> {
    if unused.is_empty() {
        return Ok(());
    }
    let mut tx = db.upkeep_tx().await?;
    db::uses::used(tx.exec(), unused, now, before).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_keeps_nothing_for_long_loses_no_use() {
        assert_eq!(grain(None), 240);
        assert_eq!(grain(Some(90 * 86_400)), 240);
        assert_eq!(grain(Some(1_600)), 100);
        assert_eq!(grain(Some(10)), 0);
    }
}
