//! Taking away what is left of destroyed caches: once they cannot be restored any more, or on an
//! operator's word.
//!
//! Path rows go first, a few at a time, so that nobody waits long; the row that names the cache
//! goes last. In between the cache must not come back, since it would lack a part of its paths. So
//! a purge begins by ending the time in which it can be restored, in a transaction of its own;
//! whatever cuts it off, the servers go on ([`super::upkeep`]).

use std::time::{Duration, Instant};

use snowbank_core::cache_name::CacheName;
use snowbank_core::units::Seconds;
use snowbank_core::wire::admin::PurgedCache;

use super::cache_details::details;
use super::{Actor, Admin, AdminError};
use crate::db::caches::{Cache, CacheId, RESTORABLE_SECONDS};
use crate::db::{self, Db, DbError};

/// Rows that are removed in one transaction.
const BATCH: u32 = 500;

/// Removes a destroyed cache for good, with its keys and pins; in part, where it takes longer than
/// `patience`. `grace` is that of collections, which free its room.
///
/// # Errors
/// [`AdminError::NoCache`], or [`AdminError::InUse`] when it was not destroyed.
pub async fn purge_cache(
    admin: &Admin,
    actor: &Actor,
    name: &CacheName,
    grace: Seconds,
    patience: Duration,
    now: i64,
) -> Result<PurgedCache, AdminError> {
    let began = Instant::now();
    let mut tx = admin.db.exclusive_tx().await?;
    let found = db::caches::lookup_any(tx.exec(), name)
        .await?
        .ok_or_else(|| AdminError::NoCache(name.clone()))?;
    let destroyed = found.destroyed.ok_or_else(|| AdminError::InUse(name.clone()))?;
    let own_bytes = details(tx.exec(), &found).await?.usage.map(|usage| usage.own_bytes);
    let over = destroyed.min(now.saturating_sub(RESTORABLE_SECONDS));
    let cache = Cache { destroyed: Some(over), ..found };
    db::caches::update(tx.exec(), &cache).await?;
    actor.record(&mut tx, "cache.purge", name.as_str(), String::new(), now).await?;
    tx.commit().await?;
    let (paths, is_gone) = remove(&admin.db, cache.id, || began.elapsed() < patience).await?;
    Ok(PurgedCache { name: name.to_string(), paths, is_gone, own_bytes, grace })
}

/// Removes what is left of a cache that cannot be restored, while `goes_on`; gives how many paths
/// that were, and whether it is gone.
pub(super) async fn remove(
    db: &Db,
    cache: CacheId,
    goes_on: impl Fn() -> bool,
) -> Result<(u64, bool), DbError> {
    let mut paths = 0;
    loop {
        let mut tx = db.exclusive_tx().await?;
        let removed = db::caches::remove_some_paths(tx.exec(), cache, BATCH).await?;
        if removed == 0 {
            db::caches::remove(tx.exec(), cache).await?;
        }
        tx.commit().await?;
        paths += removed;
        if removed == 0 || !goes_on() {
            return Ok((paths, removed == 0));
        }
    }
}
