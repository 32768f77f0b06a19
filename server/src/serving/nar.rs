//! A NAR as a stream of filled frames, or of the raw bytes that they decode to, with read-ahead.
//!
//! A batch is read by one storage request where its chunks lie together, and is as large as the storage likes and memory
//! allows. Memory: every batch has permits of the shared budget until its last byte has left, except that a response of
//! which nothing is under way may always read one of the least size. A slow reader keeps what it has and gets no more; it
//! cannot keep others from their next batch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesOrdered, Stream, StreamExt};
use snowbank_core::frame::{FrameDecoder, FrameError, fill};
use snowbank_core::manifest::SegmentEntry;
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;

use super::lookups::FoundNar;
use super::source::{Batch, BatchSource};
use crate::damage::Suspect;
use crate::db::nars::Nar;
use crate::db::{Db, DbError};
use crate::pack::{Packs, ReadBudget, ReadError, ReadPermit, StoredChunk, read_chunks};

/// Batches of one response that may be in flight, the first included.
const MOST_AHEAD: usize = 6;
/// Raw batches are counted with what they decode to, and so may be this many times as large.
const RAW_WINDOWS: u64 = 4;

/// Which of the two forms of a NAR is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Representation {
    /// `.nar.zst`: the filled frames, one after the other.
    Zstd,
    /// `.nar`: what they decode to.
    Raw,
}

impl Representation {
    /// Bytes of the whole NAR in this form.
    #[must_use]
    pub fn len(self, nar: &Nar) -> u64 {
        match self {
            Self::Zstd => nar.file_size,
            Self::Raw => nar.nar_size,
        }
    }

    /// Memory that a chunk takes beside what is read of it.
    pub(super) fn cost_of(self, entry: &SegmentEntry) -> u64 {
        match self {
            Self::Zstd => 0,
            Self::Raw => entry.raw_len.into(),
        }
    }

    fn windows(self) -> u64 {
        match self {
            Self::Zstd => 1,
            Self::Raw => RAW_WINDOWS,
        }
    }

    pub(super) fn len_of(self, entry: &SegmentEntry) -> u64 {
        u64::from(match self {
            Self::Zstd => entry.frame_len,
            Self::Raw => entry.raw_len,
        })
    }
}

/// Why a NAR could not be served to its end. The connection is broken off, so that no client takes it for complete.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The database failed or contradicts itself.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The same, told to all that asked together.
    #[error(transparent)]
    Shared(#[from] Arc<DbError>),
    /// A chunk could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A frame cannot be filled or decoded.
    #[error("chunk {chunk}: {source}")]
    Frame {
        /// The chunk's id.
        chunk: u64,
        /// Why.
        source: FrameError,
    },
    /// The manifest does not parse.
    #[error("the manifest is damaged: {0}")]
    Manifest(String),
    /// Manifest and chunk disagree.
    #[error("chunk {0} is not as long as the manifest says, or is gone")]
    Chunk(u64),
    /// A worker thread stopped.
    #[error("a worker thread stopped before it had finished")]
    Stopped,
}

impl ServeError {
    /// What may be damaged, where that is what the failure looks like.
    #[must_use]
    pub fn suspect(&self) -> Option<Suspect> {
        match self {
            Self::Frame { chunk, .. } | Self::Chunk(chunk) => Some(Suspect::Chunk(*chunk)),
            Self::Manifest(_)
            | Self::Database(DbError::Corrupt(_))
            | Self::Read(ReadError::Database(DbError::Corrupt(_))) => Some(Suspect::Manifest),
            Self::Read(error) => error.suspect().map(Suspect::Pack),
            Self::Database(_) | Self::Shared(_) | Self::Stopped => None,
        }
    }
}

/// What serving a NAR needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NarBody {
    /// Manifests and chunk locations.
    pub db: Db,
    /// Chunk bytes.
    pub packs: Packs,
    /// Memory for batches, over all responses.
    pub read_ahead: ReadBudget,
}

type Loading = BoxFuture<'static, Result<VecDeque<Bytes>, ServeError>>;

struct State {
    body: NarBody,
    source: BatchSource,
    representation: Representation,
    wanted: Range<u64>,
    in_flight: FuturesOrdered<Loading>,
    /// What is left of the batch that is being sent.
    pieces: VecDeque<Bytes>,
    exhausted: bool,
}

/// The bytes `range` of a NAR, in pieces of at most a few megabytes.
pub fn nar_stream(
    body: NarBody,
    found: FoundNar,
    representation: Representation,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, ServeError>> + Send + 'static {
    let source = BatchSource::new(&body.db, found, representation, range.clone());
    let (in_flight, pieces) = (FuturesOrdered::new(), VecDeque::new());
    let state = State { body, source, representation, wanted: range, in_flight, pieces, exhausted: false };
    stream::try_unfold(state, |mut state| async move {
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                return Ok(Some((piece, state)));
            }
            state.top_up().await?;
            match state.in_flight.next().await {
                None => return Ok(None),
                Some(loaded) => state.pieces = loaded?,
            }
            // While this batch is sent, the next one is read.
            state.top_up().await?;
        }
    })
}

impl State {
    /// Starts as many batches as may be in flight: one always, more while the budget has room for whole ones.
    async fn top_up(&mut self) -> Result<(), ServeError> {
        let window = self.body.packs.read_window() * self.representation.windows();
        while !self.exhausted && self.in_flight.len() < MOST_AHEAD {
            let permit = if self.in_flight.is_empty() && self.pieces.is_empty() {
                self.body.read_ahead.try_some(window)
            } else if let Some(permit) = self.body.read_ahead.try_all(window) {
                Some(permit)
            } else {
                break;
            };
            let most_bytes = permit.as_ref().map_or(ReadPermit::LEAST_BYTES, ReadPermit::bytes);
            let Some(batch) = self.source.next(most_bytes).await? else {
                self.exhausted = true;
                break;
            };
            let (packs, representation, wanted) = (self.body.packs.clone(), self.representation, self.wanted.clone());
            // A task of its own: when the client stops reading, a batch half loaded goes on, and gives back its permit
            // or its database connection.
            let loading = tokio::spawn(load(packs, batch, permit, representation, wanted));
            let loading = AbortOnDropHandle::new(loading);
            self.in_flight.push_back(Box::pin(async move { loading.await.map_err(|_| ServeError::Stopped)? }));
        }
        Ok(())
    }
}

pub(super) async fn load(
    packs: Packs,
    batch: Batch,
    permit: Option<ReadPermit>,
    representation: Representation,
    wanted: Range<u64>,
) -> Result<VecDeque<Bytes>, ServeError> {
    let permit = permit.map(|mut permit| {
        permit.shrink_to(batch.cost);
        Arc::new(permit)
    });
    let chunks = read_chunks(&packs, &batch.locations).await?;
    let start = batch.start;
    let pieces = match representation {
        Representation::Zstd => filled_frames(chunks, &batch, permit.as_ref())?,
        Representation::Raw => {
            let raw = tokio::task::spawn_blocking(move || raw_bytes(chunks, &batch));
            let raw = raw.await.map_err(|_| ServeError::Stopped)??;
            VecDeque::from([Piece::bytes(raw, permit)])
        }
    };
    Ok(cut_to(pieces, start, &wanted))
}

/// Bytes that keep their permit until the last of them has left.
struct Piece<T> {
    bytes: T,
    _permit: Option<Arc<ReadPermit>>,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Piece<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

impl<T: AsRef<[u8]> + Send + 'static> Piece<T> {
    fn bytes(bytes: T, permit: Option<Arc<ReadPermit>>) -> Bytes {
        Bytes::from_owner(Self { bytes, _permit: permit })
    }
}

/// The frames with their slots filled: what the client gets, without decompressing or copying anything.
fn filled_frames(
    chunks: Vec<StoredChunk>,
    batch: &Batch,
    permit: Option<&Arc<ReadPermit>>,
) -> Result<VecDeque<Bytes>, ServeError> {
    let mut pieces = VecDeque::with_capacity(chunks.len());
    each_filled(chunks, batch, |_, chunk| {
        pieces.push_back(Piece::bytes(chunk.frame, permit.cloned()));
        Ok(())
    })?;
    Ok(pieces)
}

fn raw_bytes(chunks: Vec<StoredChunk>, batch: &Batch) -> Result<Vec<u8>, ServeError> {
    let mut out = Vec::with_capacity(batch.entries.iter().map(|entry| entry.raw_len as usize).sum());
    let mut decoder = FrameDecoder::new();
    each_filled(chunks, batch, |entry, chunk| {
        let outcome = decoder.decode_into(&chunk.frame, entry.raw_len, &mut out);
        outcome.map_err(|source| ServeError::Frame { chunk: entry.id, source })
    })?;
    Ok(out)
}

fn each_filled(
    chunks: Vec<StoredChunk>,
    batch: &Batch,
    mut visit: impl FnMut(&SegmentEntry, StoredChunk) -> Result<(), ServeError>,
) -> Result<(), ServeError> {
    let mut values = batch.values.as_slice();
    for (entry, mut chunk) in batch.entries.iter().zip(chunks) {
        let header = &chunk.header;
        let same = header.frame_len == entry.frame_len
            && header.raw_len == entry.raw_len
            && header.slots.len() == entry.slots as usize
            && header.slots.len() <= values.len();
        if !same {
            return Err(ServeError::Chunk(entry.id));
        }
        let (own, later) = values.split_at(header.slots.len());
        values = later;
        let filled = fill(&mut chunk.frame, &chunk.header.slots, own);
        filled.map_err(|source| ServeError::Frame { chunk: entry.id, source })?;
        visit(entry, chunk)?;
    }
    Ok(())
}

/// The parts of `pieces`, which begin at `start`, that lie within `wanted`.
fn cut_to(pieces: VecDeque<Bytes>, mut start: u64, wanted: &Range<u64>) -> VecDeque<Bytes> {
    let cut = |mut piece: Bytes| {
        let end = start + piece.len() as u64;
        if wanted.end < end {
            piece.truncate(usize::try_from(wanted.end.saturating_sub(start)).unwrap_or(0));
        }
        if wanted.start > start {
            let skip = usize::try_from(wanted.start - start).unwrap_or(usize::MAX).min(piece.len());
            piece = piece.slice(skip..);
        }
        start = end;
        piece
    };
    pieces.into_iter().map(cut).filter(|piece| !piece.is_empty()).collect()
}
