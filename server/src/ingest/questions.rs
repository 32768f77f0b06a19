//! What a client asks before it sends anything: which paths, and then which chunks, are missing.

use std::collections::HashMap;

use snowbank_core::chunk::ChunkName;
use snowbank_core::receipt::{Receipt, ReceiptStatus};
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::wire::{DifferentPath, MissingPathsRequest, MissingPathsResponse};

use super::Ingest;
use crate::auth::MayPush;
use crate::db::paths::PathBrief;
use crate::db::{self, DbError};
use crate::directory::OpenCache;

/// Sorts the paths asked about into missing, present and different. A text that is no store path of this cache counts
/// as missing: the commit refuses it with the reason.
///
/// # Errors
/// When the database fails.
pub async fn missing_paths(
    ingest: &Ingest,
    push: &MayPush,
    request: &MissingPathsRequest,
    now: i64,
) -> Result<MissingPathsResponse, DbError> {
    let cache = &push.target.cache;
    let parsed: Vec<Option<StorePath>> =
        request.paths.iter().map(|query| StorePath::parse(&cache.store_dir, &query.store_path).ok()).collect();
    let hashes: Vec<StorePathHash> = parsed.iter().flatten().map(StorePath::hash).collect();
    let mut conn = ingest.db.reader().await?;
    let known: HashMap<StorePathHash, PathBrief> = db::paths::lookup_many(conn.exec(), cache.id, &hashes).await?;
    drop(conn);

    let mut answer = MissingPathsResponse::default();
    for (query, path) in request.paths.iter().zip(&parsed) {
        let found = path.as_ref().and_then(|path| known.get(&path.hash()).filter(|found| found.store_path == *path));
        match found {
            None => answer.missing.push(query.store_path.clone()),
            Some(found) if found.nar_hash == query.nar_hash => {
                answer.present.push(receipt(&push.target, ReceiptStatus::Present, &query.store_path, found, now));
            }
            Some(found) => answer.different.push(DifferentPath {
                store_path: query.store_path.clone(),
                nar_hash: push.may_pull.then_some(found.nar_hash),
            }),
        }
    }
    Ok(answer)
}

/// Ascending indexes of those of `names` that the cache's domain does not have.
///
/// # Errors
/// When the database fails.
pub async fn missing_chunks(ingest: &Ingest, push: &MayPush, names: &[ChunkName]) -> Result<Vec<u32>, DbError> {
    let mut conn = ingest.db.reader().await?;
    let present = db::chunks::present(conn.exec(), push.target.cache.domain, names).await?;
    Ok((0..).zip(names).filter(|(_, name)| !present.contains(name)).map(|(index, _)| index).collect())
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
