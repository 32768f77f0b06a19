//! What a client asks before it sends anything: which paths, and then which chunks, are missing.
//!
//! To be told that a path is present is to rely on it: such a path counts as pushed again. Where
//! its last use lies so far back that it might go, or it would end before the push wants it to,
//! that is written, by one transaction, before the answer goes out; that transaction looks once
//! more which of these paths are there.

use std::collections::HashMap;

use snowbank_core::chunk::ChunkName;
use snowbank_core::receipt::{Receipt, ReceiptStatus};
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::units::Seconds;
use snowbank_core::wire::{DifferentPath, MissingPathsRequest, MissingPathsResponse, PathQuery};

use super::Ingest;
use crate::auth::MayPush;
use crate::db::caches::Cache;
use crate::db::paths::{PathBrief, PathId};
use crate::db::{self, DbError};
use crate::directory::OpenCache;

/// Sorts the paths asked about into missing, present and different. A text that is no store path of
/// this cache counts as missing: the commit refuses it with the reason.
pub async fn missing_paths(
    ingest: &Ingest,
    push: &MayPush,
    request: &MissingPathsRequest,
    now: i64,
) -> Result<MissingPathsResponse, DbError> {
    let cache = &push.target.cache;
    let parsed: Vec<Option<StorePath>> = request
        .paths
        .iter()
        .map(|query| StorePath::parse(&cache.store_dir, &query.store_path).ok())
        .collect();
    let hashes: Vec<StorePathHash> = parsed.iter().flatten().map(StorePath::hash).collect();
    let mut conn = ingest.db.reader().await?;
    let mut known: HashMap<StorePathHash, PathBrief> =
        db::paths::lookup_many(conn.exec(), cache.id, &hashes).await?;
    drop(conn);
    if !request.dry_run {
        touch_present(ingest, cache, request, &parsed, &mut known, now).await?;
    }

    let mut answer = MissingPathsResponse::default();
    for (query, path) in request.paths.iter().zip(&parsed) {
        let found = path
            .as_ref()
            .and_then(|path| known.get(&path.hash()).filter(|found| found.store_path == *path));
        match found {
            None => answer.missing.push(query.store_path.clone()),
            Some(found) if found.nar_hash == query.nar_hash => {
                answer.present.push(receipt(
                    &push.target,
                    ReceiptStatus::Present,
                    &query.store_path,
                    found,
                    now,
                ));
            }
            Some(found) => answer.different.push(DifferentPath {
                store_path: query.store_path.clone(),
                nar_hash: push.may_pull.then_some(found.nar_hash),
            }),
        }
    }
    Ok(answer)
}

/// Those of these hash parts of which the cache shows no path, in their order. The others count as
/// pushed again.
pub async fn missing_hashes(
    ingest: &Ingest,
    push: &MayPush,
    hashes: &[StorePathHash],
    now: i64,
) -> Result<Vec<StorePathHash>, DbError> {
    let cache = &push.target.cache;
    let mut conn = ingest.db.reader().await?;
    let mut known = db::paths::lookup_many(conn.exec(), cache.id, hashes).await?;
    drop(conn);
    let used_before = used_before(ingest, cache, now);
    let due: Vec<StorePathHash> = known
        .iter()
        .filter(|(_, found)| found.is_to_touch(used_before, None))
        .map(|(hash, _)| *hash)
        .collect();
    touch(ingest, cache, &due, None, &mut known, now).await?;
    Ok(hashes.iter().filter(|hash| !known.contains_key(hash)).copied().collect())
}

/// A path may have been used so many seconds ago, and a push that finds it present writes nothing.
const MAX_GRAIN_SECONDS: i64 = 3_600;

/// The time since which a path has to have been used for a push that finds it present to write
/// nothing.
pub(super) fn used_before(ingest: &Ingest, cache: &Cache, now: i64) -> i64 {
    let grain = cache
        .keeps_unused(ingest.limits.retention)
        .map_or(MAX_GRAIN_SECONDS, |keeps| (keeps / 16).min(MAX_GRAIN_SECONDS));
    now.saturating_sub(grain)
}

/// Until when what is pushed at the time `now` is to be kept.
pub(super) fn end(expires: Option<Seconds>, now: i64) -> Option<i64> {
    expires.map(|time| now.saturating_add(i64::try_from(time.get()).unwrap_or(i64::MAX)))
}

/// Notes that the paths that are present were pushed again, where there is anything to note; what
/// has gone meanwhile is not in `known` any more.
async fn touch_present(
    ingest: &Ingest,
    cache: &Cache,
    request: &MissingPathsRequest,
    parsed: &[Option<StorePath>],
    known: &mut HashMap<StorePathHash, PathBrief>,
    now: i64,
) -> Result<(), DbError> {
    let (used_before, expires) = (used_before(ingest, cache, now), end(request.expires, now));
    let is_present = |found: &PathBrief, query: &PathQuery, path: &StorePath| {
        found.store_path == *path && found.nar_hash == query.nar_hash
    };
    let asked: Vec<(&PathQuery, &StorePath)> = request
        .paths
        .iter()
        .zip(parsed)
        .filter_map(|(query, path)| Some((query, path.as_ref()?)))
        .collect();
    let is_due = |(query, path): &&(&PathQuery, &StorePath)| {
        known.get(&path.hash()).is_some_and(|found| {
            is_present(found, query, path) && found.is_to_touch(used_before, expires)
        })
    };
    let due: Vec<StorePathHash> =
        asked.iter().filter(is_due).map(|(_, path)| path.hash()).collect();
    touch(ingest, cache, &due, expires, known, now).await
}

/// Notes that the paths of these hash parts were pushed again, as far as they are still there.
async fn touch(
    ingest: &Ingest,
    cache: &Cache,
    due: &[StorePathHash],
    expires: Option<i64>,
    known: &mut HashMap<StorePathHash, PathBrief>,
    now: i64,
) -> Result<(), DbError> {
    if due.is_empty() {
        return Ok(());
    }
    let mut tx = ingest.db.commit_tx().await?;
    let there = db::paths::lookup_many(tx.exec(), cache.id, due).await?;
    let touched: Vec<PathId> = there.values().map(|found| found.id).collect();
    db::uses::touch(tx.exec(), &touched, now, expires).await?;
    tx.commit().await?;
    for hash in due {
        known.remove(hash);
    }
    known.extend(there);
    Ok(())
}

/// Ascending indexes of those of `names` that the cache's domain does not have.
pub async fn missing_chunks(
    ingest: &Ingest,
    push: &MayPush,
    names: &[ChunkName],
) -> Result<Vec<u32>, DbError> {
    let mut conn = ingest.db.reader().await?;
    let present = db::chunks::present(conn.exec(), push.target.cache.domain, names).await?;
    Ok((0..)
        .zip(names)
        .filter(|(_, name)| !present.contains(name))
        .map(|(index, _)| index)
        .collect())
}

/// A signed receipt for a path that is visible at this moment.
pub(super) fn receipt(
    target: &OpenCache,
    status: ReceiptStatus,
    store_path: &str,
    path: &PathBrief,
    now: i64,
) -> Receipt {
    let mut receipt = Receipt {
        status,
        store_path: store_path.to_owned(),
        nar_hash: path.nar_hash,
        nar_size: path.nar_size,
        cache: target.cache.name.to_string(),
        time: now,
        signatures: Vec::new(),
        stats: None,
    };
    target.sign(&mut receipt);
    receipt
}
