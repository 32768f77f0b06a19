//! The transaction of a commit: it looks once more at everything that it relies on, under the lock
//! of C1, and makes the rest visible.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use snowbank_core::chunk::ChunkName;
use snowbank_core::hash::NarHash;
use snowbank_core::manifest::WireManifest;
use snowbank_core::receipt::ReceiptStatus;
use snowbank_core::store_path::{StorePath, StorePathHash};
use snowbank_core::wire::{CommitLine, PinnedGeneration, PushPin, code};
use thiserror::Error;

use super::super::candidate::{Candidate, MAX_SIGNATURES, Refusal};
use super::super::lines::{references_missing, refused};
use super::super::questions::{end, receipt, used_before};
use super::super::{Ingest, VerifiedNar};
use super::{CommitContext, Proof, VerifiedPath};
use crate::admin::{NewPin, PinError, pin_in};
use crate::auth::MayPush;
use crate::chain::ChainError;
use crate::db::caches::DomainId;
use crate::db::counters::Counter;
use crate::db::nars::{NarId, NewNar};
use crate::db::paths::{NewPath, PathBrief, PathId};
use crate::db::{self, DbError, Tx};

/// Chunks that are looked at once more by one question.
const MAX_LOOKED_AT: usize = 8_192;

/// What came of a transaction.
pub(super) enum Outcome {
    /// It is committed; the line of each path.
    Done(Vec<CommitLine>),
    /// These have to be decoded first.
    Decode(Vec<usize>),
}

/// Why a transaction was given up.
#[derive(Debug, Error)]
pub(super) enum TransactError {
    #[error(transparent)]
    Chain(#[from] Arc<ChainError>),
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Begins the transaction of a commit, while the storage is known to be the database's (C3).
async fn begin(ingest: &Ingest) -> Result<Tx, TransactError> {
    crate::fault::pause("commit-before-tx").await;
    ingest.chain.confirm_lately().await?;
    Ok(ingest.db.commit_tx().await?)
}

/// Makes the paths of a group visible.
pub(super) async fn transact(
    ingest: &Ingest,
    asked: &CommitContext<'_>,
    ready: &[VerifiedPath],
    now: i64,
) -> Result<Outcome, TransactError> {
    let push = asked.push;
    let cache = &push.target.cache;
    let (used_before, expires) = (used_before(ingest, cache, now), end(asked.expires, now));
    let mut tx = begin(ingest).await?;
    let mut visible = visible_paths(&mut tx, push, ready).await?;
    let gone = gone_chunks(&mut tx, ready).await?;
    let nar_hashes: Vec<NarHash> = ready.iter().map(|path| path.candidate.claim.nar_hash).collect();
    let mut nars = db::nars::ids(tx.exec(), cache.domain, &nar_hashes).await?;
    let new_nars =
        ready.iter().filter(|path| !nars.contains_key(&path.candidate.claim.nar_hash)).count();
    let mut next_nar = tx.reserve(Counter::Nar, count(new_nars)).await?;
    let (mut visible_now, mut visible_bytes) = (0, 0);
    let mut lines = Vec::with_capacity(ready.len());
    let mut decode = Vec::new();
    let (mut nar_rows, mut path_rows, mut touched) =
        (Vec::new(), Vec::with_capacity(ready.len()), Vec::new());
    let mut next_path = tx.reserve(Counter::Path, count(ready.len())).await?;

    for (index, path) in ready.iter().enumerate() {
        let candidate = &path.candidate;
        if let Some(found) = visible.get(&candidate.path.hash()) {
            let line = present_line(push, path, found, now);
            if matches!(line, CommitLine::Receipt(_)) {
                if found.is_to_touch(used_before, expires) {
                    touched.push(found.id);
                }
                add_signatures(&mut tx, push, candidate, found.id).await?;
            }
            lines.push(line);
            continue;
        }
        let missing = invisible_references(candidate, &visible);
        if !missing.is_empty() {
            lines.push(refused(path.store_path.clone(), references_missing(&missing)));
            continue;
        }
        let lost = path.lost(&gone);
        if !lost.is_empty() {
            lines.push(CommitLine::ChunksMissing {
                store_path: path.store_path.clone(),
                missing: lost,
            });
            continue;
        }
        let nar = match (nars.get(&candidate.claim.nar_hash), &path.proof) {
            (Some(nar), _) => *nar,
            (None, Proof::Decoded(nar)) => {
                let id = NarId(next_nar);
                next_nar += 1;
                nar_rows.push(nar_row(cache.domain, id, nar, candidate.cut, now));
                nars.insert(candidate.claim.nar_hash, id);
                id
            }
            // It was known once and is gone.
            (None, Proof::Known) => {
                decode.push(index);
                continue;
            }
        };
        let brief = new_brief(PathId(next_path), candidate, now, expires);
        path_rows.push(NewPath {
            id: brief.id,
            cache: cache.id,
            store_path: &candidate.path,
            nar,
            references: &candidate.references,
            deriver: candidate.deriver.as_ref(),
            signatures: &candidate.signatures,
            ca: candidate.ca.as_deref(),
            extra: &candidate.extra,
            pushed_by: &push.subject,
            created: now,
            expires,
        });
        next_path += 1;
        visible_now += 1;
        visible_bytes += brief.nar_size;
        lines.push(CommitLine::Receipt(receipt(
            &push.target,
            ReceiptStatus::Uploaded,
            &path.store_path,
            &brief,
            now,
        )));
        visible.insert(candidate.path.hash(), brief);
    }
    if !decode.is_empty() {
        return Ok(Outcome::Decode(decode));
    }
    db::nars::add(tx.exec(), &nar_rows).await?;
    db::paths::add(tx.exec(), &path_rows).await?;
    let shown: Vec<StorePathHash> = path_rows.iter().map(|path| path.store_path.hash()).collect();
    db::damage::clear(tx.exec(), cache.id, &shown).await?;
    db::uses::touch(tx.exec(), &touched, now, expires).await?;
    let pinned = pin(&mut tx, asked, ready, &lines, ingest.limits.pins_per_cache, now).await?;
    tx.commit().await?;
    if let Some(pinned) = pinned {
        // A path that is named twice is pinned once.
        let _ = asked.pinned.set(pinned);
    }
    metrics::counter!("snowbank_committed_paths_total").increment(visible_now);
    metrics::counter!("snowbank_committed_nar_bytes_total").increment(visible_bytes);
    Ok(Outcome::Done(lines))
}

/// Adds the signatures of a path that is there already, as many as a path may have.
async fn add_signatures(
    tx: &mut Tx,
    push: &MayPush,
    candidate: &Candidate,
    path: PathId,
) -> Result<(), DbError> {
    let signatures = &candidate.signatures;
    if signatures.is_empty() {
        return Ok(());
    }
    // What a cache's own keys sign is made when it is served.
    let own = |name: &str| push.target.keys.iter().any(|key| key.name() == name);
    let mut all = db::paths::signatures(tx.exec(), path).await?;
    let before = all.len();
    for signature in signatures {
        if all.len() < MAX_SIGNATURES && !all.contains(signature) && !own(signature.name()) {
            all.push(signature.clone());
        }
    }
    if all.len() > before {
        db::paths::set_signatures(tx.exec(), path, &all).await?;
    }
    Ok(())
}

/// The references of a candidate that the cache does not show, and that must be there first.
fn invisible_references<'c>(
    candidate: &'c Candidate,
    visible: &HashMap<StorePathHash, PathBrief>,
) -> Vec<&'c StorePath> {
    let is_visible =
        |name: &StorePath| visible.get(&name.hash()).is_some_and(|found| found.store_path == *name);
    candidate.needed.iter().filter(|name| !is_visible(name)).collect()
}

/// What the receipt and later paths of the same commit need to know of a path that becomes visible.
fn new_brief(id: PathId, candidate: &Candidate, now: i64, expires: Option<i64>) -> PathBrief {
    PathBrief {
        id,
        store_path: candidate.path.clone(),
        nar_hash: candidate.claim.nar_hash,
        nar_size: candidate.claim.nar_size,
        created: now,
        last_used: None,
        expires,
    }
}

/// Makes the pin of the request, if its path is among those that have a receipt in `lines`. Where
/// the cache has too many, it is not made: a client that does not find it in the answer asks for it
/// by itself, and is told why.
async fn pin(
    tx: &mut Tx,
    asked: &CommitContext<'_>,
    ready: &[VerifiedPath],
    lines: &[CommitLine],
    max_pins: u64,
    now: i64,
) -> Result<Option<PinnedGeneration>, DbError> {
    let Some(PushPin { name, store_path, keep }) = &asked.pin else { return Ok(None) };
    let is_there = |line: &CommitLine| matches!(line, CommitLine::Receipt(receipt) if receipt.store_path == *store_path);
    let Some(path) = ready
        .iter()
        .find(|path| path.store_path == *store_path)
        .filter(|_| lines.iter().any(is_there))
    else {
        return Ok(None);
    };
    let new =
        NewPin { name, store_path: &path.candidate.path, keep: *keep, expires: None, max_pins };
    match pin_in(tx, asked.actor, &asked.push.target.cache, &new, now).await {
        Ok(pinned) => Ok(Some(pinned)),
        Err(PinError::TooMany(_)) => Ok(None),
        Err(PinError::Database(error)) => Err(error),
    }
}

/// What the cache shows of the paths themselves and of everything that they refer to.
async fn visible_paths(
    tx: &mut Tx,
    push: &MayPush,
    ready: &[VerifiedPath],
) -> Result<HashMap<StorePathHash, PathBrief>, DbError> {
    let hashes: HashSet<StorePathHash> = ready
        .iter()
        .flat_map(|path| path.candidate.needed.iter().chain([&path.candidate.path]))
        .map(StorePath::hash)
        .collect();
    let hashes: Vec<StorePathHash> = hashes.into_iter().collect();
    db::paths::lookup_many(tx.exec(), push.target.cache.id, &hashes).await
}

/// Chunks that were read for verification and are no longer what they were.
async fn gone_chunks(tx: &mut Tx, ready: &[VerifiedPath]) -> Result<HashSet<ChunkName>, DbError> {
    let mut gone = HashSet::new();
    let mut batch: Vec<(u64, ChunkName)> = Vec::new();
    for path in ready {
        let Proof::Decoded(nar) = &path.proof else { continue };
        let names = &path.candidate.claim.manifest.names;
        if batch.len() + names.len() > MAX_LOOKED_AT {
            gone.extend(no_longer_there(tx, &mut batch).await?);
        }
        if names.len() > MAX_LOOKED_AT {
            gone.extend(lost_chunks(tx, &path.candidate.claim.manifest, nar).await?);
        } else {
            batch.extend(nar.ids.iter().copied().zip(names.iter().copied()));
        }
    }
    gone.extend(no_longer_there(tx, &mut batch).await?);
    Ok(gone)
}

/// Those of a verified NAR's chunks that are no longer what was read.
pub(in crate::ingest) async fn lost_chunks(
    tx: &mut Tx,
    manifest: &WireManifest,
    nar: &VerifiedNar,
) -> Result<Vec<ChunkName>, DbError> {
    let mut lost = Vec::new();
    for (ids, names) in nar.ids.chunks(MAX_LOOKED_AT).zip(manifest.names.chunks(MAX_LOOKED_AT)) {
        let mut batch = ids.iter().copied().zip(names.iter().copied()).collect();
        lost.extend(no_longer_there(tx, &mut batch).await?);
    }
    Ok(lost)
}

/// The names of `batch` that are not there any more under their ids; empties it.
async fn no_longer_there(
    tx: &mut Tx,
    batch: &mut Vec<(u64, ChunkName)>,
) -> Result<Vec<ChunkName>, DbError> {
    let mut read = std::mem::take(batch);
    read.sort_unstable();
    read.dedup();
    db::chunks::exists(tx.exec(), &read).await
}

impl VerifiedPath {
    fn lost(&self, gone: &HashSet<ChunkName>) -> Vec<ChunkName> {
        match &self.proof {
            Proof::Decoded(_) if !gone.is_empty() => self
                .candidate
                .claim
                .manifest
                .names
                .iter()
                .copied()
                .filter(|name| gone.contains(name))
                .collect(),
            _ => Vec::new(),
        }
    }
}

pub(in crate::ingest) fn nar_row(
    domain: DomainId,
    id: NarId,
    nar: &VerifiedNar,
    cut: Option<u32>,
    now: i64,
) -> NewNar<'_> {
    NewNar {
        id,
        domain,
        nar_hash: nar.nar_hash,
        nar_size: nar.nar_size,
        file_hash: nar.file_hash,
        file_size: nar.file_size,
        content_digest: nar.content_digest,
        chunk_count: nar.chunk_count,
        segments: &nar.segments,
        cut_id: cut.unwrap_or_default(),
        created: now,
    }
}

fn present_line(push: &MayPush, path: &VerifiedPath, found: &PathBrief, now: i64) -> CommitLine {
    let store_path = path.store_path.clone();
    if found.store_path != path.candidate.path {
        let message = format!(
            "the cache has another path with the same hash part, `{}`; a cache holds one path per \
             hash part",
            if push.may_pull { found.store_path.base_name() } else { "(not shown)".to_owned() }
        );
        return refused(store_path, Refusal::new(code::NARINFO_INVALID, message));
    }
    if found.nar_hash == path.candidate.claim.nar_hash {
        return CommitLine::Receipt(receipt(
            &push.target,
            ReceiptStatus::Present,
            &store_path,
            found,
            now,
        ));
    }
    CommitLine::Different { store_path, nar_hash: push.may_pull.then_some(found.nar_hash) }
}

fn count(paths: usize) -> u32 {
    u32::try_from(paths).unwrap_or(u32::MAX)
}
