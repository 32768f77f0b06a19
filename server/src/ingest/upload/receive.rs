//! Receiving one NAR: its chunks are stored while it comes in (W1, W2), and when it has come it is
//! read back (W3) and has a row, under the name by which it was uploaded.
//!
//! A NAR that is cut off, or turns out to be another than was declared, leaves chunks that no NAR
//! names, as a push does that ends early. A NAR that has come is kept for a day though
//! no path has it: its narinfo is on its way.
//!
//! Memory, for each of the few uploads that there are at a time: its decoder, one buffer, the
//! chunker's windows, a batch of chunks that is cut while another one is compressed, and its
//! manifest so far. Frames wait for their pack in the pool of bodies. Where that has no room, what
//! there is becomes a pack at once: so an upload never waits for that pool while it has some of it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt};
use snowbank_core::chunk::{Chunk, ChunkName};
use snowbank_core::cut::CutParams;
use snowbank_core::frame::{EncodedChunk, FrameEncoder, FrameError};
use snowbank_core::hash::NarHash;
use snowbank_core::manifest::{MAX_MANIFEST_ENTRIES, WireManifest};
use snowbank_core::store_path::StorePathHash;
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::super::commit::{lost_chunks, nar_row};
use super::super::receive::{ReceiveError, ReceivedLot, known_chunks, store_unknown};
use super::super::{Ingest, NarClaim, VerifiedNar, VerifyError, WorkerStopped, verify};
use super::cutter::{Cut, Digests, NarCutter, NarUploadError};
use super::decompress::{Compression, HEAD_BYTES, MAX_WINDOW_BYTES};
use crate::admission::{Client, Hold, Place, Refusal};
use crate::chain::ChainError;
use crate::db::caches::Cache;
use crate::db::counters::Counter;
use crate::db::nars::NarId;
use crate::db::uploads::{self, NewUpload};
use crate::db::{self, DbError};
use crate::pack::NewRecord;

/// What a record takes besides its frame.
const RECORD_BYTES: u64 = 256;
/// How long frames wait for more of their upload when others want their memory.
const IDLE: Duration = Duration::from_secs(2);
/// Entries of a manifest above which its upload is one of the large ones, of which there is one at
/// a time: a NAR of some gigabytes.
const MAX_ORDINARY_ENTRIES: usize = 64 << 10;
/// How often a transaction is begun again that lost a race for a row.
const MAX_RACES: u32 = 8;
/// What an ordinary decoder may take.
const MAX_ORDINARY_DECODER: u64 = 12 << 20;

/// Why a NAR was not received. `B` is what the body fails with.
#[derive(Debug, Error)]
pub enum UploadError<B: std::error::Error + 'static> {
    /// The body could not be read to its end.
    #[error(transparent)]
    Body(B),
    /// It is no NAR, or not the one that was declared.
    #[error(transparent)]
    Nar(#[from] NarUploadError),
    /// Decompressing it would take more memory than the server has for that.
    #[error(
        "decompressing it takes {} MiB, and this server has {} MiB for that; choose a lower \
         `compression-level`",
        .wanted >> 20,
        MAX_WINDOW_BYTES >> 20
    )]
    Window {
        /// Bytes.
        wanted: u64,
    },
    /// Its chunks could not be stored.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// It could not be read back.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Chunks that it shares with others went while it came in.
    #[error("chunks that it shares with other NARs went meanwhile; send it again")]
    Lost,
    /// The server has no room for it now.
    #[error(transparent)]
    Busy(#[from] Refusal),
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

/// A NAR as it comes in.
#[derive(Debug)]
pub struct NarUpload<'a, S> {
    /// Whom memory is counted for.
    pub client: &'a Client,
    /// The name under which it is uploaded, such as `<hash>.nar.xz`.
    pub file: &'a str,
    /// Its bytes, compressed or not.
    pub body: S,
    /// How they are compressed; as their beginning says, where it is not known.
    pub compression: Option<Compression>,
    /// Its hash and size, where they are known beforehand.
    pub declared: Option<(NarHash, u64)>,
    /// How it is cut.
    pub params: CutParams,
}

/// A NAR that has come.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedNar {
    /// SHA-256 of the NAR.
    pub nar_hash: NarHash,
    /// Its length.
    pub nar_size: u64,
    /// Bytes of new chunks at rest.
    pub stored_bytes: u64,
    /// Bytes of the NAR in chunks that were new.
    pub new_bytes: u64,
}

/// Receives a NAR for `cache`. `now` gives unix seconds.
///
/// # Errors
/// See [`UploadError`]; in every case nothing is visible, and there is no NAR of this name.
#[tracing::instrument(name = "nar", skip_all, fields(cache = %cache.name, file = upload.file))]
pub async fn receive_nar<B, S>(
    ingest: &Ingest,
    cache: &Cache,
    upload: NarUpload<'_, S>,
    now: impl Fn() -> i64,
) -> Result<ReceivedNar, UploadError<B>>
where
    B: std::error::Error + Send + 'static,
    S: Stream<Item = Result<Bytes, B>> + Send,
{
    let NarUpload { client, file, body, compression, declared, params } = upload;
    let place = ingest.budgets.upload(client).await?;
    let mut body = std::pin::pin!(body);
    let head = read_head(&mut body).await?;
    let compression = compression.unwrap_or_else(|| Compression::detect(&head, file));
    let memory = compression.memory(&head);
    if memory > MAX_WINDOW_BYTES + (4 << 20) {
        return Err(UploadError::Window { wanted: memory });
    }
    let large = match memory {
        0..=MAX_ORDINARY_DECODER => None,
        _ => Some(ingest.budgets.large_upload(client).await?),
    };
    let limit = declared
        .map_or(ingest.limits.max_nar_size, |(_, size)| size.min(ingest.limits.max_nar_size));
    let cut = Cut { store_dir: &cache.store_dir, params, limit };
    let cutter = NarCutter::new(compression, memory, &cut)?;
    let mut store = ChunkStore::new(ingest, cache, client, now());
    store.large = large;
    let (store, digests) = store_all(ingest, body, head, cutter, store).await?;
    let Digests { nar_hash, nar_size, file_hash, file_size } = digests;
    if let Some((declared_hash, declared_size)) = declared
        && (declared_hash, declared_size) != (nar_hash, nar_size)
    {
        let (actual_hash, actual_size) = (nar_hash, nar_size);
        return Err(NarUploadError::Mismatch {
            actual_hash,
            actual_size,
            declared_hash,
            declared_size,
        }
        .into());
    }
    let ChunkStore { manifest, stored_bytes, new_bytes, large, .. } = store;
    let claim = NarClaim { manifest: Arc::new(manifest), nar_hash, nar_size };
    let upload = NewUpload { cache: cache.id, file, file_hash, file_size, created: now() };
    add_row(ingest, cache, claim, upload, params.id).await?;
    drop((large, place));
    Ok(ReceivedNar { nar_hash, nar_size, stored_bytes, new_bytes })
}

/// The first bytes of a body, at least [`HEAD_BYTES`] of them where it has as many.
async fn read_head<B: std::error::Error + 'static>(
    body: &mut std::pin::Pin<&mut impl Stream<Item = Result<Bytes, B>>>,
) -> Result<Bytes, UploadError<B>> {
    let mut head = Bytes::new();
    while head.len() < HEAD_BYTES {
        let Some(next) = body.next().await.transpose().map_err(UploadError::Body)? else { break };
        head = if head.is_empty() { next } else { Bytes::from([&head[..], &next].concat()) };
    }
    Ok(head)
}

/// Cuts and stores all of the body.
async fn store_all<'a, B, S>(
    ingest: &Ingest,
    mut body: std::pin::Pin<&mut S>,
    head: Bytes,
    cutter: NarCutter,
    mut store: ChunkStore<'a>,
) -> Result<(ChunkStore<'a>, Digests), UploadError<B>>
where
    B: std::error::Error + Send + 'static,
    S: Stream<Item = Result<Bytes, B>> + Send,
{
    let mut cutter = Some(cutter);
    let mut piece = head;
    loop {
        let mut own = cutter.take().ok_or(WorkerStopped)?;
        own.count(&piece);
        loop {
            let cut = move || {
                let mut rest = &piece[..];
                let cut = own.advance(&mut rest);
                let left = piece.slice(piece.len() - rest.len()..);
                cut.map(|()| (own, left))
            };
            let (next, left) = ingest.on_cpu(cut).await??;
            (own, piece) = (next, left);
            if !own.has_batch() {
                break;
            }
            store.add(own.take_batch()).await?;
        }
        cutter = Some(own);
        let next = loop {
            match tokio::time::timeout(IDLE, body.next()).await {
                Ok(next) => break next.transpose().map_err(UploadError::Body)?,
                // Its client is slow: others may need what it has.
                Err(_) => store.flush().await?,
            }
        };
        match next {
            Some(next) => piece = next,
            None => break,
        }
    }
    let own = cutter.take().ok_or(WorkerStopped)?;
    let (batch, digests) = ingest.on_cpu(move || own.finish()).await??;
    store.add(batch).await?;
    store.finish().await?;
    Ok((store, digests))
}

/// A batch that was compressed.
struct EncodedBatch {
    /// Of all its chunks, in order.
    names: Vec<ChunkName>,
    values: Vec<StorePathHash>,
    records: Vec<NewRecord>,
    new_bytes: u64,
}

impl EncodedBatch {
    fn add(&mut self, made: EncodedChunk, known: &mut HashSet<ChunkName>) {
        known.insert(made.header.name);
        self.new_bytes += u64::from(made.header.raw_len);
        self.records.push(NewRecord { header: made.header, frame: made.frame });
    }
}

/// The chunks of one upload on their way into packs, and its manifest so far.
struct ChunkStore<'a> {
    ingest: &'a Ingest,
    cache: &'a Cache,
    client: Client,
    now: i64,
    encoding: Option<AbortOnDropHandle<Result<EncodedBatch, StoreFailure>>>,
    manifest: WireManifest,
    /// Frames that have no pack yet, their names, and their memory.
    records: Vec<NewRecord>,
    pending: HashSet<ChunkName>,
    hold: Hold,
    bytes: u64,
    encoders: Encoders,
    stored_bytes: u64,
    new_bytes: u64,
    /// The place for large uploads, once it is one.
    large: Option<Place>,
}

/// Why the chunks of an upload were not stored.
#[derive(Debug, Error)]
pub enum StoreFailure {
    /// There are more of them than a manifest may have.
    #[error(
        "it has more than {MAX_MANIFEST_ENTRIES} chunks and slots, the most that a NAR may have"
    )]
    Entries,
    /// A pack of them could not be stored.
    #[error(transparent)]
    Pack(#[from] ReceiveError<Infallible>),
    /// A chunk could not be compressed.
    #[error("a chunk could not be compressed: {0}")]
    Frame(#[from] FrameError),
    /// The server has no room for so many.
    #[error(transparent)]
    Busy(#[from] Refusal),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The server is stopping.
    #[error(transparent)]
    Stopped(#[from] WorkerStopped),
}

/// The one encoder of an upload, while no thread uses it.
#[derive(Clone)]
struct Encoders {
    idle: Arc<Mutex<Encoding>>,
    level: i32,
}

#[derive(Default)]
struct Encoding {
    encoder: Option<FrameEncoder>,
    /// Chunks whose slots do not stay open. There are next to none of them.
    to_close: HashSet<ChunkName>,
}

impl Encoders {
    fn take(&self) -> Encoding {
        std::mem::take(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, encoding: Encoding) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = encoding;
    }
}

impl<'a> ChunkStore<'a> {
    fn new(ingest: &'a Ingest, cache: &'a Cache, client: &Client, now: i64) -> Self {
        Self {
            ingest,
            cache,
            client: client.clone(),
            now,
            encoding: None,
            manifest: WireManifest { names: Vec::new(), values: Vec::new() },
            records: Vec::new(),
            pending: HashSet::new(),
            hold: ingest.budgets.bodies.open(client),
            bytes: 0,
            encoders: Encoders { idle: Arc::default(), level: cache.compression_level },
            stored_bytes: 0,
            new_bytes: 0,
            large: None,
        }
    }

    /// Takes the place for large uploads, or refuses, where the manifest asks for that.
    async fn admit_entries(&mut self) -> Result<(), StoreFailure> {
        let entries = self.manifest.names.len() + self.manifest.values.len();
        if entries > MAX_MANIFEST_ENTRIES {
            return Err(StoreFailure::Entries);
        }
        if self.large.is_none() && entries > MAX_ORDINARY_ENTRIES {
            self.large = Some(self.ingest.budgets.large_upload(&self.client).await?);
        }
        Ok(())
    }

    /// Adds the next chunks. While they are compressed, more can be cut.
    async fn add(&mut self, batch: Vec<Chunk>) -> Result<(), StoreFailure> {
        let named: Vec<(ChunkName, Chunk)> = self
            .ingest
            .on_cpu(move || batch.into_iter().map(|chunk| (chunk.name(), chunk)).collect())
            .await?;
        // What the batch before had has a name in `pending` from then on.
        self.settle_batch().await?;
        let mut wanted: Vec<ChunkName> = named.iter().map(|(name, _)| *name).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut known = known_chunks(self.ingest, self.cache.domain, &wanted).await?;
        known.extend(wanted.iter().filter(|name| self.pending.contains(*name)));
        let (ingest, encoders) = (self.ingest.clone(), self.encoders.clone());
        let encode = async move {
            ingest.on_cpu(move || encode(&encoders, named, known)).await?.map_err(Into::into)
        };
        self.encoding = Some(AbortOnDropHandle::new(tokio::spawn(encode.in_current_span())));
        Ok(())
    }

    /// Waits for the batch that is being compressed, and takes its frames.
    async fn settle_batch(&mut self) -> Result<(), StoreFailure> {
        let Some(encoding) = self.encoding.take() else { return Ok(()) };
        let batch = encoding.await.map_err(|_| WorkerStopped)??;
        self.manifest.names.extend(batch.names);
        self.manifest.values.extend(batch.values);
        self.admit_entries().await?;
        self.new_bytes += batch.new_bytes;
        let record_bytes = |record: &NewRecord| {
            RECORD_BYTES + (record.frame.len() + record.header.encoded_len()) as u64
        };
        for record in batch.records {
            let wanted = self.bytes + record_bytes(&record);
            if !self.hold.try_grow(wanted) {
                self.flush().await?;
                // It fits alone, once there is room.
                self.hold.grow(record_bytes(&record)).await;
            }
            self.bytes += record_bytes(&record);
            self.pending.insert(record.header.name);
            self.records.push(record);
            if self.bytes >= self.ingest.limits.bundle_bytes || self.hold.is_revoked() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Makes a pack of what there is.
    async fn flush(&mut self) -> Result<(), StoreFailure> {
        if self.records.is_empty() {
            return Ok(());
        }
        let next = self.ingest.budgets.bodies.open(&self.client);
        let hold = std::mem::replace(&mut self.hold, next);
        hold.settle();
        let records = std::mem::take(&mut self.records);
        let lot = ReceivedLot { client: self.client.clone(), records, hold };
        let (_, stored_bytes) = store_unknown(self.ingest, self.cache, lot, self.now).await?;
        self.stored_bytes += stored_bytes;
        self.pending.clear();
        self.bytes = 0;
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), StoreFailure> {
        self.settle_batch().await?;
        self.flush().await
    }
}

/// Compresses those chunks of a batch that are not `known`.
fn encode(
    encoders: &Encoders,
    batch: Vec<(ChunkName, Chunk)>,
    mut known: HashSet<ChunkName>,
) -> Result<EncodedBatch, FrameError> {
    let Encoding { encoder, mut to_close } = encoders.take();
    let mut encoder = encoder.unwrap_or_else(|| FrameEncoder::new(encoders.level));
    let mut done = EncodedBatch {
        names: Vec::with_capacity(batch.len()),
        values: Vec::new(),
        records: Vec::new(),
        new_bytes: 0,
    };
    for (mut name, mut chunk) in batch {
        if !known.contains(&name) && !to_close.contains(&name) {
            match encoder.encode(&chunk, &name) {
                Ok(made) => done.add(made, &mut known),
                Err(FrameError::WillNotStayOpen) => {
                    to_close.insert(name);
                }
                Err(error) => return Err(error),
            }
        }
        if to_close.contains(&name) {
            chunk = chunk.close();
            name = chunk.name();
            if !known.contains(&name) {
                let made = encoder.encode(&chunk, &name)?;
                done.add(made, &mut known);
            }
        }
        done.names.push(name);
        done.values.append(&mut chunk.values);
    }
    encoders.put(Encoding { encoder: Some(encoder), to_close });
    Ok(done)
}

/// Reads the NAR back, and gives it a row and its name.
async fn add_row<B: std::error::Error + 'static>(
    ingest: &Ingest,
    cache: &Cache,
    claim: NarClaim,
    upload: NewUpload<'_>,
    cut: u16,
) -> Result<(), UploadError<B>> {
    ingest.chain.confirm_lately().await?;
    let (domain, now) = (cache.domain, upload.created);
    let known = |found: &db::nars::Nar| {
        found.nar_size == claim.nar_size && found.content_digest == claim.manifest.content_digest()
    };
    let found = {
        let mut conn = ingest.db.reader().await?;
        db::nars::lookup_many(conn.exec(), domain, &[claim.nar_hash]).await?
    };
    let mut verified = None;
    if !found.get(&claim.nar_hash).is_some_and(known) {
        verified = Some(verify(ingest, domain, claim.clone(), now).await?);
    }
    let mut races = 0;
    loop {
        match add_row_now(ingest, cache, &claim, verified.as_ref(), upload, cut).await {
            Ok(RowOutcome::Added) => return Ok(()),
            Ok(RowOutcome::Lost) => return Err(UploadError::Lost),
            // It was known once and is gone.
            Ok(RowOutcome::Unknown) => {
                verified = Some(verify(ingest, domain, claim.clone(), now).await?);
            }
            // Another replica has added the same row; the next transaction finds it.
            Err(DbError::Constraint(_)) if races < MAX_RACES => races += 1,
            Err(error) => return Err(error.into()),
        }
        ingest.chain.confirm_lately().await?;
    }
}

/// What came of the transaction that gives a NAR its row.
enum RowOutcome {
    Added,
    /// A chunk that was read back has gone.
    Lost,
    /// It has no row, and was not read back.
    Unknown,
}

async fn add_row_now(
    ingest: &Ingest,
    cache: &Cache,
    claim: &NarClaim,
    verified: Option<&VerifiedNar>,
    upload: NewUpload<'_>,
    cut: u16,
) -> Result<RowOutcome, DbError> {
    let (domain, now) = (cache.domain, upload.created);
    let mut tx = ingest.db.commit_tx().await?;
    let there = db::nars::ids(tx.exec(), domain, &[claim.nar_hash]).await?;
    let id = match (there.get(&claim.nar_hash), verified) {
        (Some(id), _) => *id,
        (None, Some(nar)) => {
            if !lost_chunks(&mut tx, &claim.manifest, nar).await?.is_empty() {
                return Ok(RowOutcome::Lost);
            }
            let id = NarId(tx.reserve(Counter::Nar, 1).await?);
            let row = nar_row(domain, id, nar, Some(u32::from(cut)), now);
            db::nars::add(tx.exec(), &[row]).await?;
            id
        }
        (None, None) => return Ok(RowOutcome::Unknown),
    };
    uploads::put(tx.exec(), &upload, id).await?;
    tx.commit().await?;
    Ok(RowOutcome::Added)
}
