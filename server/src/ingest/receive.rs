//! One bundle: verified frame by frame as it arrives, stripped of what is known, stored as one pack (W1, W2).
//!
//! Memory is bounded by the bundle's own limit: frames are kept as they came, raw bytes exist for one frame per thread.
//! A bundle is refused as a whole at the first bad record, and nothing of it is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, Stream, StreamExt};
use snowbank_core::bundle::{BundleError, BundleReader};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::{FrameError, FrameVerifier};
use snowbank_core::wire::StoredChunks;
use thiserror::Error;

use super::{Ingest, Stopped};
use crate::chain::ChainError;
use crate::db::caches::{Cache, DomainId};
use crate::db::{self, DbError};
use crate::pack::{NewRecord, PackWriteError};

/// Frames are handed to a verifying thread in lots of about this many stored bytes.
const LOT_BYTES: usize = 512 * 1024;
/// Lots of one bundle that may be verified at the same time.
const LOTS_AHEAD: usize = 2;

/// Why a bundle was refused. `B` is what the body stream fails with.
#[derive(Debug, Error)]
pub enum ReceiveError<B: std::error::Error + 'static> {
    /// The body could not be read to its end.
    #[error(transparent)]
    Body(B),
    /// The records are malformed, too many or too large.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A frame is not the chunk that its header says.
    #[error("chunk {name}: {source}")]
    Chunk {
        /// The name that the client gave.
        name: ChunkName,
        /// What is wrong with its frame.
        source: FrameError,
    },
    /// The system gave no random bytes to verify with.
    #[error("the system's random number generator failed: {0}")]
    Random(getrandom::Error),
    /// The pack could not be stored.
    #[error(transparent)]
    Store(#[from] PackWriteError),
    /// The storage is not known to be the database's.
    #[error(transparent)]
    Chain(#[from] Arc<ChainError>),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The server is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Reads a bundle from `body` and stores the chunks that `cache`'s domain does not have yet. `now` is in unix seconds.
///
/// # Errors
/// See [`ReceiveError`]; in every case the domain is as it was.
pub async fn receive_bundle<B, S>(
    ingest: &Ingest,
    cache: &Cache,
    body: S,
    now: i64,
) -> Result<StoredChunks, ReceiveError<B>>
where
    B: std::error::Error + Send + 'static,
    S: Stream<Item = Result<Bytes, B>> + Send,
{
    let records = read_and_verify(ingest, body).await?;
    let total = count(records.len());
    let (stored, stored_bytes) = store_unknown(ingest, cache, records, now).await?;
    Ok(StoredChunks { stored, known: total - stored, stored_bytes })
}

async fn read_and_verify<B, S>(ingest: &Ingest, body: S) -> Result<Vec<NewRecord>, ReceiveError<B>>
where
    B: std::error::Error + Send + 'static,
    S: Stream<Item = Result<Bytes, B>> + Send,
{
    let mut body = std::pin::pin!(body);
    let mut reader = Some(BundleReader::new());
    let mut verifying = FuturesOrdered::new();
    let mut verified: Vec<NewRecord> = Vec::new();
    let mut lot: Vec<NewRecord> = Vec::new();
    let mut body_open = true;
    while body_open || !verifying.is_empty() {
        tokio::select! {
            Some(done) = verifying.next(), if !verifying.is_empty() => verified.append(&mut done?),
            bytes = body.next(), if body_open && verifying.len() <= LOTS_AHEAD => {
                if let Some(bytes) = bytes {
                    lot.append(&mut take_records(&mut reader, &bytes.map_err(ReceiveError::Body)?)?);
                } else {
                    body_open = false;
                    reader.take().map_or(Ok(()), BundleReader::finish)?;
                }
                let lot_bytes: usize = lot.iter().map(|record| record.frame.len()).sum();
                if lot_bytes >= LOT_BYTES || (!body_open && lot_bytes > 0) {
                    verifying.push_back(verify_lot(ingest, std::mem::take(&mut lot)));
                }
            }
        }
    }
    Ok(verified)
}

/// The records that `bytes` complete.
fn take_records(reader: &mut Option<BundleReader>, bytes: &[u8]) -> Result<Vec<NewRecord>, BundleError> {
    let mut records = Vec::new();
    if let Some(reader) = reader {
        reader.feed(bytes);
        while let Some((header, frame)) = reader.next()? {
            records.push(NewRecord { header, frame });
        }
    }
    Ok(records)
}

async fn verify_lot<B: std::error::Error + Send + 'static>(
    ingest: &Ingest,
    lot: Vec<NewRecord>,
) -> Result<Vec<NewRecord>, ReceiveError<B>> {
    // The slots are filled with bytes that the sender cannot foresee: a frame that copies from a slot shows itself.
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(ReceiveError::Random)?;
    let verify = move || -> Result<Vec<NewRecord>, (ChunkName, FrameError)> {
        let mut verifier = FrameVerifier::new();
        for NewRecord { header, frame } in &lot {
            verifier.verify(header, frame, &entropy).map_err(|error| (header.name, error))?;
        }
        Ok(lot)
    };
    ingest.on_cpu(verify).await?.map_err(|(name, source)| ReceiveError::Chunk { name, source })
}

/// Stores what the domain lacks; gives how many chunks and stored bytes that was.
async fn store_unknown<B: std::error::Error + 'static>(
    ingest: &Ingest,
    cache: &Cache,
    records: Vec<NewRecord>,
    now: i64,
) -> Result<(u32, u64), ReceiveError<B>> {
    let domain = cache.domain;
    let mut order: Vec<ChunkName> = Vec::with_capacity(records.len());
    let mut pending: HashMap<ChunkName, NewRecord> = HashMap::with_capacity(records.len());
    for record in records {
        let name = record.header.name;
        if pending.insert(name, record).is_none() {
            order.push(name);
        }
    }
    let (mut stored, mut stored_bytes) = (0, 0);
    while !order.is_empty() {
        let claim = ingest.in_flight.claim(domain, order.iter().copied());
        let known = known_chunks(ingest, domain, &order).await?;
        order.retain(|name| !known.contains(name));
        let mine: HashSet<&ChunkName> = claim.names().iter().collect();
        let (claimed, others): (Vec<ChunkName>, Vec<ChunkName>) = order.iter().partition(|name| mine.contains(name));
        let new: Vec<NewRecord> = claimed.iter().filter_map(|name| pending.remove(name)).collect();
        if !new.is_empty() {
            let new_bytes: u64 = new.iter().map(|record| u64::from(record.header.frame_len)).sum();
            let new_count = count(new.len());
            ingest.chain.confirm_lately().await?;
            ingest.packs.store(domain, cache.id, new, now).await?;
            stored += new_count;
            stored_bytes += new_bytes;
            metrics::counter!("snowbank_received_chunks_total").increment(u64::from(new_count));
            metrics::counter!("snowbank_received_chunk_bytes_total").increment(new_bytes);
        }
        drop(claim);
        ingest.in_flight.wait_for(domain, &others).await;
        order = others;
    }
    Ok((stored, stored_bytes))
}

async fn known_chunks(ingest: &Ingest, domain: DomainId, names: &[ChunkName]) -> Result<HashSet<ChunkName>, DbError> {
    let mut conn = ingest.db.reader().await?;
    db::chunks::present(conn.exec(), domain, names).await
}

fn count(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}
