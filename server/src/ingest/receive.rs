//! One bundle: verified frame by frame as it arrives, stripped of what is known, stored as one pack
//! (W1, W2).
//!
//! Memory: frames are kept as they came, and their hold grows with them before the next piece of
//! the body is taken. Raw bytes exist for one frame per thread, and count as what is read back. A
//! pack waits for memory of its own before it is made; while it is, the frames go and give theirs
//! back. A bundle is refused as a whole at the first bad record, and nothing of it is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesOrdered, Stream, StreamExt};
use snowbank_core::bundle::{BundleError, BundleReader};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::{FrameError, FrameSampler, FrameVerifier};
use snowbank_core::wire::StoredChunks;
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::recode::recode;
use super::{Ingest, WorkerStopped};
use crate::admission::{Client, Hold, Refusal};
use crate::chain::ChainError;
use crate::db::caches::{Cache, DomainId};
use crate::db::{self, DbError};
use crate::pack::{NewRecord, PackWriteError};

/// Frames are handed to a verifying thread in lots of about this many stored bytes.
const LOT_BYTES: usize = 512 * 1024;
/// What a record takes besides its frame.
const RECORD_BYTES: u64 = 256;
/// What it takes while it is stored: in sets of names, in the pack's table, and as a row.
const STORED_RECORD_BYTES: u64 = 512;
/// Memory is asked for in steps of so many bytes, and waited for so long.
const STEP_BYTES: u64 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);
/// Chunks that take more memory than this to be verified are verified one at a time: of those that
/// a chunker makes, none.
const MAX_VERIFIED_BYTES: u64 = 3 << 20;
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
    /// The server has no memory for it now.
    #[error(transparent)]
    Busy(#[from] Refusal),
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
    Stopped(#[from] WorkerStopped),
}

/// Reads a bundle from `body` and stores the chunks that `cache`'s domain does not have yet. `now`
/// is in unix seconds.
///
/// # Errors
/// See [`ReceiveError`]; in every case the domain is as it was.
#[tracing::instrument(name = "bundle", skip_all, fields(cache = %cache.name))]
pub async fn receive_bundle<B, S>(
    ingest: &Ingest,
    cache: &Cache,
    bundle: Bundle<S>,
    now: i64,
) -> Result<StoredChunks, ReceiveError<B>>
where
    B: std::error::Error + Send + 'static,
    S: Stream<Item = Result<Bytes, B>> + Send,
{
    let Bundle { client, body, mut hold } = bundle;
    let records = read_and_verify(ingest, body, &mut hold).await?;
    hold.settle();
    let total = count(records.len());
    let (stored, stored_bytes) =
        store_unknown(ingest, cache, ReceivedLot { client, records, hold }, now).await?;
    Ok(StoredChunks { stored, known: total - stored, stored_bytes })
}

/// A bundle as it comes in.
#[derive(Debug)]
pub struct Bundle<S> {
    /// Whom memory is counted for.
    pub client: Client,
    /// Its bytes.
    pub body: S,
    /// The memory that it takes, nothing so far.
    pub hold: Hold,
}

/// Verified records, and the memory that they take.
pub(super) struct ReceivedLot {
    pub(super) client: Client,
    pub(super) records: Vec<NewRecord>,
    pub(super) hold: Hold,
}

async fn read_and_verify<B, S>(
    ingest: &Ingest,
    body: S,
    hold: &mut Hold,
) -> Result<Vec<NewRecord>, ReceiveError<B>>
where
    B: std::error::Error + Send + 'static,
    S: Stream<Item = Result<Bytes, B>> + Send,
{
    let mut body = std::pin::pin!(body);
    let mut reader = Some(BundleReader::new());
    let mut verifying = FuturesOrdered::new();
    // Once one frame of a bundle was found to waste room, all that follow are looked at.
    let is_wasteful = Arc::new(AtomicBool::new(false));
    let mut verified: Vec<NewRecord> = Vec::new();
    let mut lot: Vec<NewRecord> = Vec::new();
    let (mut body_open, mut arrived, mut records) = (true, 0, 0);
    while body_open || !verifying.is_empty() {
        tokio::select! {
            Some(done) = verifying.next(), if !verifying.is_empty() => verified.append(&mut done?),
            bytes = body.next(), if body_open && verifying.len() <= LOTS_AHEAD => {
                if let Some(bytes) = bytes {
                    let bytes = bytes.map_err(ReceiveError::Body)?;
                    arrived += bytes.len() as u64;
                    let needed = arrived + RECORD_BYTES * records;
                    if needed > hold.bytes() {
                        hold.grow_within(needed.next_multiple_of(STEP_BYTES), PATIENCE).await?;
                    }
                    let mut complete = take_records(&mut reader, &bytes)?;
                    records += complete.len() as u64;
                    lot.append(&mut complete);
                } else {
                    body_open = false;
                    reader.take().map_or(Ok(()), BundleReader::finish)?;
                }
                let lot_bytes: usize = lot.iter().map(|record| record.frame.len()).sum();
                if lot_bytes >= LOT_BYTES || (!body_open && lot_bytes > 0) {
                    let lot = std::mem::take(&mut lot);
                    verifying.push_back(verify_lot(ingest, lot, Arc::clone(&is_wasteful)));
                }
            }
        }
    }
    Ok(verified)
}

/// The records that `bytes` complete.
fn take_records(
    reader: &mut Option<BundleReader>,
    bytes: &[u8],
) -> Result<Vec<NewRecord>, BundleError> {
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
    is_wasteful: Arc<AtomicBool>,
) -> Result<Vec<NewRecord>, ReceiveError<B>> {
    // The slots are filled with bytes that the sender cannot foresee: a frame that copies from a
    // slot shows itself.
    let mut entropy = [0; 32];
    getrandom::fill(&mut entropy).map_err(ReceiveError::Random)?;
    // A task of its own: it goes on while the caller waits for memory, which others have that wait
    // for what this one has.
    let ingest = ingest.clone();
    let task = async move {
        match verify_frames(&ingest, lot, entropy, is_wasteful.load(Ordering::Relaxed)).await? {
            Ok(VerifiedLot { lot, suspects }) if suspects.is_empty() => Ok(Ok(lot)),
            Ok(VerifiedLot { lot, suspects }) => {
                recode(&ingest, lot, suspects, entropy, &is_wasteful).await.map(Ok)
            }
            Err(refused) => Ok(Err(refused)),
        }
    };
    let verified = AbortOnDropHandle::new(tokio::spawn(task.in_current_span()))
        .await
        .map_err(|_| WorkerStopped)??;
    verified.map_err(|(name, source)| ReceiveError::Chunk { name, source })
}

/// A lot that is what its headers say, and the indexes of frames that may waste room.
struct VerifiedLot {
    lot: Vec<NewRecord>,
    suspects: Vec<usize>,
}

async fn verify_frames(
    ingest: &Ingest,
    lot: Vec<NewRecord>,
    entropy: [u8; 32],
    is_wasteful: bool,
) -> Result<Result<VerifiedLot, (ChunkName, FrameError)>, WorkerStopped> {
    let bytes = lot.iter().map(verifying_bytes).max().unwrap_or_default();
    let _one_at_a_time = match &ingest.oversized {
        oversized if bytes > MAX_VERIFIED_BYTES => {
            Some(Arc::clone(oversized).acquire_owned().await.map_err(|_| WorkerStopped)?)
        }
        _ => None,
    };
    let memory = ingest.read_back.wait(bytes).await;
    let verify = move || {
        let (mut verifier, mut sampler) = (FrameVerifier::new(), FrameSampler::new());
        let mut suspects = Vec::new();
        for (index, NewRecord { header, frame }) in lot.iter().enumerate() {
            verifier.verify(header, frame, &entropy).map_err(|error| (header.name, error))?;
            if is_wasteful || sampler.suspects(header, verifier.proved(header), &entropy) {
                suspects.push(index);
            }
        }
        drop(memory);
        Ok(VerifiedLot { lot, suspects })
    };
    ingest.on_cpu(verify).await
}

/// What verifying a chunk takes: its bytes, and for an open one those of a second decode, and a
/// frame to fill.
fn verifying_bytes(NewRecord { header, .. }: &NewRecord) -> u64 {
    let raw_bytes = u64::from(header.raw_len);
    if header.is_open() { 2 * raw_bytes + u64::from(header.frame_len) } else { raw_bytes }
}

/// Stores what the domain lacks; gives how many chunks and stored bytes that was.
pub(super) async fn store_unknown<B: std::error::Error + 'static>(
    ingest: &Ingest,
    cache: &Cache,
    received: ReceivedLot,
    now: i64,
) -> Result<(u32, u64), ReceiveError<B>> {
    let ReceivedLot { client, records, mut hold } = received;
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
        // Before anything is claimed: whoever waits for a claim must not keep the memory that its
        // owner waits for.
        let mut room = ingest.budgets.packs.open(&client);
        room.grow(packed_bytes(pending.values())).await;
        room.settle();
        let claim = ingest.in_flight.claim(domain, order.iter().copied());
        let known = known_chunks(ingest, domain, &order).await?;
        order.retain(|name| !known.contains(name));
        let mine: HashSet<&ChunkName> = claim.names().iter().collect();
        let (claimed, others): (Vec<ChunkName>, Vec<ChunkName>) =
            order.iter().partition(|name| mine.contains(name));
        let new: Vec<NewRecord> = claimed.iter().filter_map(|name| pending.remove(name)).collect();
        if !new.is_empty() {
            let new_bytes: u64 = new.iter().map(|record| u64::from(record.header.frame_len)).sum();
            let new_count = count(new.len());
            ingest.chain.confirm_lately().await?;
            room.shrink(packed_bytes(&new));
            let left = memory_bytes(pending.values());
            ingest.packs.store(domain, cache.id, new, now, || hold.shrink(left)).await?;
            stored += new_count;
            stored_bytes += new_bytes;
            metrics::counter!("snowbank_received_chunks_total").increment(u64::from(new_count));
            metrics::counter!("snowbank_received_chunk_bytes_total").increment(new_bytes);
        }
        drop((claim, room));
        ingest.in_flight.wait_for(domain, &others).await;
        order = others;
    }
    Ok((stored, stored_bytes))
}

/// What records take as they were received.
fn memory_bytes<'a>(records: impl IntoIterator<Item = &'a NewRecord>) -> u64 {
    let bytes = |record: &NewRecord| {
        RECORD_BYTES + (record.frame.len() + record.header.encoded_len()) as u64
    };
    records.into_iter().map(bytes).sum()
}

/// What the pack that is made of them takes, and what is looked up and added for them.
fn packed_bytes<'a>(records: impl IntoIterator<Item = &'a NewRecord>) -> u64 {
    let bytes = |record: &NewRecord| {
        STORED_RECORD_BYTES + (record.frame.len() + 2 * record.header.encoded_len()) as u64
    };
    records.into_iter().map(bytes).sum()
}

/// Those of these names that the domain has.
pub(super) async fn known_chunks(
    ingest: &Ingest,
    domain: DomainId,
    names: &[ChunkName],
) -> Result<HashSet<ChunkName>, DbError> {
    let mut conn = ingest.db.reader().await?;
    db::chunks::present(conn.exec(), domain, names).await
}

fn count(records: usize) -> u32 {
    u32::try_from(records).unwrap_or(u32::MAX)
}
