//! Copying closures from one cache to another ("promote") without moving a byte.
//!
//! Within a dedup domain a copied path is a new path row on the same NAR row. Across domains the
//! chunks first get rows of the target's domain, on the same packs (W2), and then each NAR is
//! verified there like one that was pushed (W3): the target's domain may have a chunk of that name
//! in another frame, which is then the one that is served. Either way all paths become visible in
//! one transaction (W4), which looks once more that their NARs are there. They stay as if they had
//! been pushed: when they would end in the source says nothing about the target.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use snowbank_core::chunk::ChunkName;
use snowbank_core::hash::NarHash;
use snowbank_core::manifest::{Segment, WireManifest};
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::wire::admin::CopiedPaths;
use thiserror::Error;

use super::commit::{lost_chunks, nar_row};
use super::questions::used_before;
use super::{Ingest, NarClaim, VerifyError, verify};
use crate::auth::{MayPull, MayPush};
use crate::chain::ChainError;
use crate::db::audit::NewEntry;
use crate::db::chunks::ChunkLocation;
use crate::db::counters::Counter;
use crate::db::damage::is_retired;
use crate::db::nars::{Nar, NarId};
use crate::db::paths::{NewPath, PathId, PathRecord};
use crate::db::{self, DbError};

/// Paths in one copy, and what they may take in memory: about so much for each path, and for each
/// of its references.
const MAX_PATHS: usize = 100_000;
const MAX_BYTES: usize = 64 << 20;
const PATH_BYTES: usize = 640;
const REFERENCE_BYTES: usize = 128;
/// How often a copy is begun again that lost a race for a row.
const MAX_RACES: u32 = 8;

/// Why nothing was copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The source does not have it.
    #[error("the cache `{cache}` has no path with the hash part {hash}")]
    NoPath {
        /// The source.
        cache: String,
        /// What was asked for.
        hash: StorePathHash,
    },
    /// The two caches are for different stores.
    #[error(
        "`{from}` has paths of another store directory than `{to}`; paths are copied only within \
         one"
    )]
    StoreDir {
        /// The source.
        from: String,
        /// The target.
        to: String,
    },
    /// The target has the path with other content.
    #[error("`{cache}` has {} with other contents, which stays; delete it there first, or leave it \
        out", path.base_name())]
    Different {
        /// The target.
        cache: String,
        /// The path.
        path: StorePath,
    },
    /// The closure is too large for one transaction.
    #[error(
        "the closure has more than {MAX_PATHS} paths, or too many references; copy parts of it \
         first"
    )]
    TooMany,
    /// Something of it was deleted meanwhile.
    #[error("a part of it was deleted while it was copied; nothing was copied, try again")]
    Gone,
    /// A NAR could not be verified in the target's domain.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The storage is not known to be the database's.
    #[error(transparent)]
    Chain(#[from] Arc<ChainError>),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Makes `roots` and everything that they refer to part of the target too. References that the
/// source does not have are upstream's, there as here. `entry` gives what the audit log says of it,
/// in the transaction that makes them visible.
///
/// # Errors
/// See [`CopyError`]; nothing became visible then.
#[tracing::instrument(skip_all, fields(from = %from.target.cache.name, to = %to.target.cache.name))]
pub async fn copy(
    ingest: &Ingest,
    from: &MayPull,
    to: &MayPush,
    roots: &[StorePathHash],
    entry: &(dyn Fn(&CopiedPaths) -> NewEntry + Sync),
    now: i64,
) -> Result<CopiedPaths, CopyError> {
    let (source, target) = (&from.target.cache, &to.target.cache);
    if source.store_dir != target.store_dir {
        return Err(CopyError::StoreDir {
            from: source.name.to_string(),
            to: target.name.to_string(),
        });
    }
    let mut races = 0;
    loop {
        match attempt(ingest, from, to, roots, entry, now).await {
            // Another server has added the same row meanwhile, or collected what was brought over
            // before it was tied to a path.
            Err(CopyError::Database(DbError::Constraint(_)) | CopyError::Gone)
                if races < MAX_RACES =>
            {
                races += 1;
            }
            result => return result,
        }
    }
}

async fn attempt(
    ingest: &Ingest,
    from: &MayPull,
    to: &MayPush,
    roots: &[StorePathHash],
    entry: &(dyn Fn(&CopiedPaths) -> NewEntry + Sync),
    now: i64,
) -> Result<CopiedPaths, CopyError> {
    let closure = closure(ingest, from, roots).await?;
    if from.target.cache.domain != to.target.cache.domain {
        for path in &closure {
            bring_over(ingest, to, &path.nar, now).await?;
        }
    }
    ingest.chain.confirm_lately().await?;
    make_visible(ingest, to, &closure, entry, now).await
}

/// The closure of `roots` in the source, references before referrers.
async fn closure(
    ingest: &Ingest,
    from: &MayPull,
    roots: &[StorePathHash],
) -> Result<Vec<PathRecord>, CopyError> {
    let cache = &from.target.cache;
    let mut found: HashMap<StorePathHash, PathRecord> = HashMap::new();
    let mut bytes = 0;
    let mut asked: HashSet<StorePathHash> = roots.iter().copied().collect();
    let mut next: Vec<StorePathHash> = asked.iter().copied().collect();
    while !next.is_empty() {
        let records = db::paths::records(ingest.db.reader().await?.exec(), cache.id, &next).await?;
        next.clear();
        for record in records.into_values() {
            bytes += PATH_BYTES + REFERENCE_BYTES * record.references.len();
            next.extend(
                record.references.iter().map(StorePath::hash).filter(|hash| asked.insert(*hash)),
            );
            found.insert(record.store_path.hash(), record);
        }
        if found.len() > MAX_PATHS || bytes > MAX_BYTES {
            return Err(CopyError::TooMany);
        }
    }
    if let Some(hash) = roots.iter().find(|hash| !found.contains_key(*hash)) {
        return Err(CopyError::NoPath { cache: cache.name.to_string(), hash: *hash });
    }
    Ok(in_order(found))
}

/// References before referrers. Store paths have no cycles but to themselves.
fn in_order(mut paths: HashMap<StorePathHash, PathRecord>) -> Vec<PathRecord> {
    let mut ordered = Vec::with_capacity(paths.len());
    let mut placed: HashSet<StorePathHash> = HashSet::new();
    let mut hashes: Vec<StorePathHash> = paths.keys().copied().collect();
    hashes.sort_unstable();
    // Each path is met twice: before its references are placed, and after.
    let mut stack: Vec<(StorePathHash, bool)> =
        hashes.into_iter().map(|hash| (hash, false)).collect();
    while let Some((hash, is_ready)) = stack.pop() {
        if is_ready {
            ordered.extend(paths.remove(&hash));
        } else if placed.insert(hash) {
            stack.push((hash, true));
            let references = paths.get(&hash).map(|path| &path.references[..]).unwrap_or_default();
            stack.extend(references.iter().map(|path| (path.hash(), false)));
        }
    }
    ordered
}

/// Gives the target's domain rows for a NAR of another domain, and for its chunks.
async fn bring_over(ingest: &Ingest, to: &MayPush, nar: &Nar, now: i64) -> Result<(), CopyError> {
    let domain = to.target.cache.domain;
    let known = db::nars::ids(ingest.db.reader().await?.exec(), domain, &[nar.nar_hash]).await?;
    if !known.is_empty() {
        return Ok(());
    }
    let mut manifest = WireManifest::default();
    for seq in 0..nar.segment_count {
        let mut conn = ingest.db.reader().await?;
        let data = db::nars::segment(conn.exec(), nar.id, seq).await?.ok_or(CopyError::Gone)?;
        let segment = Segment::decode(&data).map_err(|error| {
            DbError::corrupt(format!("segment {seq} of NAR {}: {error}", nar.nar_hash))
        })?;
        let ids: Vec<u64> = segment.entries.iter().map(|entry| entry.id).collect();
        let chunks = db::chunks::lookup_by_ids(conn.exec(), &ids).await?;
        drop(conn);
        let places: Vec<ChunkLocation> = ids
            .iter()
            .map(|id| chunks.get(id).cloned().ok_or(CopyError::Gone))
            .collect::<Result<_, _>>()?;
        // Such a NAR is about to be withdrawn.
        if places.iter().any(is_retired) {
            return Err(CopyError::Gone);
        }
        manifest.names.extend(places.iter().map(|chunk| chunk.name));
        manifest.values.extend(segment.values);
        share(ingest, to, places).await?;
    }
    let manifest = Arc::new(manifest);
    let claim = NarClaim {
        manifest: Arc::clone(&manifest),
        nar_hash: nar.nar_hash,
        nar_size: nar.nar_size,
    };
    let verified = verify(ingest, domain, claim, now).await?;

    let cut = db::nars::cut_id(ingest.db.reader().await?.exec(), nar.id).await?;
    let mut tx = ingest.db.commit_tx().await?;
    if !lost_chunks(&mut tx, &manifest, &verified).await?.is_empty() {
        return Err(CopyError::Gone);
    }
    if db::nars::ids(tx.exec(), domain, &[nar.nar_hash]).await?.is_empty() {
        let id = NarId(tx.reserve(Counter::Nar, 1).await?);
        db::nars::add(tx.exec(), &[nar_row(domain, id, &verified, cut, now)]).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// W2 for chunks of another domain: rows of the target's domain on the same packs.
async fn share(
    ingest: &Ingest,
    to: &MayPush,
    mut places: Vec<ChunkLocation>,
) -> Result<(), CopyError> {
    let domain = to.target.cache.domain;
    let names: Vec<ChunkName> = places.iter().map(|chunk| chunk.name).collect();
    let there = db::chunks::present(ingest.db.reader().await?.exec(), domain, &names).await?;
    places.retain(|chunk| !there.contains(&chunk.name));
    // In one order everywhere, so that two writers cannot lock each other out.
    places.sort_unstable_by_key(|chunk| chunk.name);
    places.dedup_by_key(|chunk| chunk.name);
    if ingest.packs.share(domain, &places).await? { Ok(()) } else { Err(CopyError::Gone) }
}

/// W4 for all of `closure` at once.
async fn make_visible(
    ingest: &Ingest,
    to: &MayPush,
    closure: &[PathRecord],
    entry: &(dyn Fn(&CopiedPaths) -> NewEntry + Sync),
    now: i64,
) -> Result<CopiedPaths, CopyError> {
    let target = &to.target.cache;
    let mut tx = ingest.db.commit_tx().await?;
    let hashes: Vec<StorePathHash> = closure.iter().map(|path| path.store_path.hash()).collect();
    let there = db::paths::lookup_many(tx.exec(), target.id, &hashes).await?;
    let mut answer = CopiedPaths::default();
    let (mut missing, mut touched) = (Vec::new(), Vec::new());
    let used_before = used_before(ingest, target, now);
    for path in closure {
        match there.get(&path.store_path.hash()) {
            Some(found)
                if found.store_path == path.store_path && found.nar_hash == path.nar.nar_hash =>
            {
                answer.present += 1;
                if found.is_to_touch(used_before, None) {
                    touched.push(found.id);
                }
            }
            Some(_) => {
                return Err(CopyError::Different {
                    cache: target.name.to_string(),
                    path: path.store_path.clone(),
                });
            }
            None => missing.push(path),
        }
    }
    let nar_hashes: Vec<NarHash> = missing.iter().map(|path| path.nar.nar_hash).collect();
    let nars = db::nars::ids(tx.exec(), target.domain, &nar_hashes).await?;
    let count = u32::try_from(missing.len()).unwrap_or(u32::MAX);
    let first = tx.reserve(Counter::Path, count).await?;
    let mut rows = Vec::with_capacity(missing.len());
    for (id, path) in (first..).map(PathId).zip(&missing) {
        rows.push(NewPath {
            id,
            cache: target.id,
            store_path: &path.store_path,
            nar: *nars.get(&path.nar.nar_hash).ok_or(CopyError::Gone)?,
            references: &path.references,
            deriver: path.deriver.as_ref(),
            signatures: &path.signatures,
            ca: path.ca.as_deref(),
            extra: &path.extra,
            pushed_by: &to.subject,
            created: now,
            expires: None,
        });
        answer.nar_bytes += path.nar.nar_size;
        answer.copied.push(path.store_path.base_name());
    }
    db::paths::add(tx.exec(), &rows).await?;
    let shown: Vec<StorePathHash> = rows.iter().map(|path| path.store_path.hash()).collect();
    db::damage::clear(tx.exec(), target.id, &shown).await?;
    db::audit::add(&mut tx, &[entry(&answer)]).await?;
    db::uses::touch(tx.exec(), &touched, now, None).await?;
    tx.commit().await?;
    Ok(answer)
}
