//! W3 for many small NARs: the same as `verify`, but what it asks of database, storage and threads
//! is asked for all of them together.
//!
//! Memory: a batch waits for its share of the read-back budget before it reads anything, and keeps
//! it to its end. What turns out not to be small, and what concerns a batch as a whole, is left to
//! `verify`, NAR by NAR.

use std::collections::{BTreeMap, HashMap};

use futures_util::stream::{self, StreamExt};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::FrameDecoder;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::Ingest;
use super::verify::{NarClaim, VerifiedNar, verify, verify_whole};
use super::verify_error::VerifyError;
use crate::db;
use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::pack::{StoredChunk, read_chunks_over};

/// A NAR is small that has at most so many bytes, and chunks.
const SMALL_BYTES: u64 = 256 * 1024;
const FEW_CHUNKS: usize = 16;
/// Raw bytes of a batch.
const BATCH_BYTES: u64 = 1024 * 1024;
/// What frame and record of a chunk may have more than the chunk.
const RECORD_OVERHEAD: u64 = 2048;
/// What is read over rather than asked around, before each record.
const GAP_BYTES: u64 = 2048;

/// Verifies `claims`; the results are in their order. `now` is in unix seconds.
pub(super) async fn verify_all(
    ingest: &Ingest,
    domain: DomainId,
    claims: Vec<NarClaim>,
    now: i64,
) -> Vec<Result<VerifiedNar, VerifyError>> {
    let mut results: BTreeMap<usize, Result<VerifiedNar, VerifyError>> = BTreeMap::new();
    let most = SMALL_BYTES.min(ingest.limits.max_nar_size);
    let is_small =
        |claim: &NarClaim| claim.nar_size <= most && claim.manifest.names.len() <= FEW_CHUNKS;
    let (small, mut rest): (Vec<_>, Vec<_>) =
        claims.into_iter().enumerate().partition(|(_, claim)| is_small(claim));
    let ahead = ingest.limits.verify_threads.max(1) * 2;
    let batches = stream::iter(batches(small)).map(|batch| async move {
        // A task of its own, for the same reasons as `verify`'s.
        let task = verify_batch(ingest.clone(), domain, batch.clone()).in_current_span();
        (batch, AbortOnDropHandle::new(tokio::spawn(task)).await)
    });
    for (batch, done) in batches.buffer_unordered(ahead).collect::<Vec<_>>().await {
        match done {
            Ok(Ok(done)) => {
                for ((index, claim), result) in batch.into_iter().zip(done) {
                    match result {
                        Some(result) => drop(results.insert(index, result)),
                        None => rest.push((index, claim)),
                    }
                }
            }
            // Each finds out for itself what is wrong.
            Ok(Err(_)) | Err(_) => rest.extend(batch),
        }
    }
    let rest = stream::iter(rest)
        .map(|(index, claim)| async move { (index, verify(ingest, domain, claim, now).await) });
    results.extend(rest.buffer_unordered(ahead).collect::<Vec<_>>().await);
    results.into_values().collect()
}

fn batches(claims: Vec<(usize, NarClaim)>) -> Vec<Vec<(usize, NarClaim)>> {
    let mut batches: Vec<Vec<(usize, NarClaim)>> = Vec::new();
    let mut bytes = 0;
    for claim in claims {
        bytes += claim.1.nar_size;
        match batches.last_mut() {
            Some(batch) if bytes <= BATCH_BYTES => batch.push(claim),
            _ => {
                bytes = claim.1.nar_size;
                batches.push(vec![claim]);
            }
        }
    }
    batches
}

/// Results in the order of `claims`, `None` for a NAR that has to be verified by itself.
async fn verify_batch(
    ingest: Ingest,
    domain: DomainId,
    claims: Vec<(usize, NarClaim)>,
) -> Result<Vec<Option<Result<VerifiedNar, VerifyError>>>, VerifyError> {
    let bytes: u64 = claims.iter().map(|(_, claim)| claim.nar_size).sum();
    let chunks: usize = claims.iter().map(|(_, claim)| claim.manifest.names.len()).sum();
    // What is read, and what it decodes to.
    let permit =
        ingest.read_back.wait(2 * bytes + (RECORD_OVERHEAD + GAP_BYTES) * chunks as u64).await;
    let mut names: Vec<ChunkName> =
        claims.iter().flat_map(|(_, claim)| &claim.manifest.names).copied().collect();
    names.sort_unstable();
    names.dedup();
    let places =
        db::chunks::lookup_by_names(ingest.db.reader().await?.exec(), domain, &names).await?;
    let readable: Vec<bool> = claims.iter().map(|(_, claim)| is_readable(claim, &places)).collect();
    let wanted = claims.iter().zip(&readable).filter(|(_, readable)| **readable);
    let wanted = wanted
        .flat_map(|((_, claim), _)| &claim.manifest.names)
        .filter_map(|name| places.get(name));
    // As they lie in the packs, so that neighbours are read together.
    let by_place: BTreeMap<_, _> =
        wanted.map(|place| ((place.pack, place.offset), place.clone())).collect();
    let wanted: Vec<ChunkLocation> = by_place.into_values().collect();
    let chunks = read_chunks_over(&ingest.packs, &wanted, GAP_BYTES).await?;
    let chunks: HashMap<u64, StoredChunk> =
        wanted.iter().map(|place| place.id).zip(chunks).collect();
    ingest
        .on_cpu(move || {
            let mut decoder = FrameDecoder::new();
            let results = claims.iter().zip(readable).map(|((_, claim), readable)| {
                let missing = claim.manifest.names.iter().filter(|name| !places.contains_key(name));
                let mut missing: Vec<ChunkName> = missing.copied().collect();
                missing.sort_unstable();
                missing.dedup();
                if !missing.is_empty() {
                    return Some(Err(VerifyError::Missing(missing)));
                }
                let own = readable.then(|| chunks_of(claim, &places, &chunks)).flatten()?;
                Some(verify_whole(&mut decoder, own, claim))
            });
            let results = results.collect();
            drop(permit);
            results
        })
        .await
        .map_err(VerifyError::from)
}

/// Whether all chunks are there, and no longer than a NAR of that size explains: `verify` takes
/// others a piece at a time.
fn is_readable(claim: &NarClaim, places: &HashMap<ChunkName, ChunkLocation>) -> bool {
    let lens =
        claim.manifest.names.iter().map(|name| places.get(name).map(|place| u64::from(place.len)));
    let most = claim.nar_size + RECORD_OVERHEAD * claim.manifest.names.len() as u64;
    lens.sum::<Option<u64>>().is_some_and(|bytes| bytes <= most)
}

fn chunks_of(
    claim: &NarClaim,
    places: &HashMap<ChunkName, ChunkLocation>,
    chunks: &HashMap<u64, StoredChunk>,
) -> Option<Vec<(u64, StoredChunk)>> {
    let chunk = |name| {
        let id = places.get(name)?.id;
        chunks.get(&id).map(|StoredChunk { header, frame }| {
            // Slots are filled in place, and the next NAR has others.
            (id, StoredChunk { header: header.clone(), frame: frame.clone() })
        })
    };
    claim.manifest.names.iter().map(chunk).collect()
}
