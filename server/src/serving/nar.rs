//! A NAR as a stream of filled frames, or of the raw bytes that they decode to, with read-ahead.
//!
//! Memory: one batch per open response, plus batches read ahead for which a permit of the shared pool was free. A slow
//! reader keeps what it has and gets no more; it cannot keep others from their first batch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesOrdered, Stream, StreamExt};
use snowbank_core::frame::{FrameDecoder, FrameError, fill};
use snowbank_core::manifest::SegmentEntry;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::source::{Batch, BatchSource};
use crate::db::nars::Nar;
use crate::db::{self, Db, DbError};
use crate::pack::{PackReader, Packs, ReadError};

/// Batches of one response that may be in flight, the first included.
const MOST_AHEAD: usize = 6;

/// Which of the two forms of a NAR is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// A chunk could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A frame cannot be filled or decoded.
    #[error(transparent)]
    Frame(#[from] FrameError),
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

/// What serving a NAR needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NarBody {
    /// Manifests and chunk locations.
    pub db: Db,
    /// Chunk bytes.
    pub packs: Packs,
    /// One permit per batch that may be read ahead, over all responses.
    pub read_ahead: Arc<Semaphore>,
}

type Loading = BoxFuture<'static, Result<(Bytes, Option<OwnedSemaphorePermit>), ServeError>>;

struct State {
    body: NarBody,
    source: BatchSource,
    representation: Representation,
    wanted: Range<u64>,
    in_flight: FuturesOrdered<Loading>,
    exhausted: bool,
}

/// The bytes `range` of `nar`, in pieces of about half a megabyte.
pub fn nar_stream(
    body: NarBody,
    nar: Nar,
    representation: Representation,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, ServeError>> + Send + 'static {
    let source = BatchSource::new(body.db.clone(), nar, representation, range.start, range.end);
    let state =
        State { body, source, representation, wanted: range, in_flight: FuturesOrdered::new(), exhausted: false };
    stream::try_unfold(state, |mut state| async move {
        state.top_up().await?;
        match state.in_flight.next().await {
            None => Ok(None),
            Some(loaded) => {
                let (bytes, permit) = loaded?;
                drop(permit);
                Ok(Some((bytes, state)))
            }
        }
    })
}

impl State {
    /// Starts as many batches as may be in flight: one always, more while the shared pool has permits.
    async fn top_up(&mut self) -> Result<(), ServeError> {
        while !self.exhausted && self.in_flight.len() < MOST_AHEAD {
            let permit = match Arc::clone(&self.body.read_ahead).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) if self.in_flight.is_empty() => None,
                Err(_) => break,
            };
            match self.source.next().await? {
                Some(batch) => {
                    let (body, representation, wanted) = (self.body.clone(), self.representation, self.wanted.clone());
                    // A task of its own: when the client stops reading, a batch half loaded goes on, and gives back
                    // its database connection.
                    let loading =
                        tokio::spawn(async move { Ok((load(&body, batch, representation, wanted).await?, permit)) });
                    let loading = AbortOnDropHandle::new(loading);
                    self.in_flight.push_back(Box::pin(async move { loading.await.map_err(|_| ServeError::Stopped)? }));
                }
                None => self.exhausted = true,
            }
        }
        Ok(())
    }
}

async fn load(
    body: &NarBody,
    batch: Batch,
    representation: Representation,
    wanted: Range<u64>,
) -> Result<Bytes, ServeError> {
    let reader = read_batch(body, &batch.entries).await?;
    let start = batch.start;
    let bytes = match representation {
        Representation::Zstd => filled_frames(reader, batch)?,
        Representation::Raw => {
            tokio::task::spawn_blocking(move || raw_bytes(reader, batch)).await.map_err(|_| ServeError::Stopped)??
        }
    };
    Ok(cut_to(bytes, start, &wanted))
}

async fn read_batch(body: &NarBody, entries: &[SegmentEntry]) -> Result<PackReader, ServeError> {
    let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
    let mut conn = body.db.reader().await?;
    let found = db::chunks::lookup_by_ids(conn.exec(), &ids).await?;
    drop(conn);
    let locations =
        ids.iter().map(|id| found.get(id).cloned().ok_or(ServeError::Chunk(*id))).collect::<Result<Vec<_>, _>>()?;
    Ok(PackReader::read(&body.packs, &locations).await?)
}

/// The frames with their slots filled: what the client gets, without decompressing anything.
fn filled_frames(reader: PackReader, batch: Batch) -> Result<Bytes, ServeError> {
    let mut out = BytesMut::with_capacity(reader.buffered_bytes());
    each_filled(reader, batch, |_, frame| {
        out.extend_from_slice(frame);
        Ok(())
    })?;
    Ok(out.freeze())
}

fn raw_bytes(reader: PackReader, batch: Batch) -> Result<Bytes, ServeError> {
    let mut out = Vec::with_capacity(reader.raw_bytes());
    let mut decoder = FrameDecoder::new();
    each_filled(reader, batch, |entry, frame| Ok(decoder.decode_into(frame, entry.raw_len, &mut out)?))?;
    Ok(Bytes::from(out))
}

fn each_filled(
    reader: PackReader,
    batch: Batch,
    mut visit: impl FnMut(&SegmentEntry, &[u8]) -> Result<(), ServeError>,
) -> Result<(), ServeError> {
    let mut entries = VecDeque::from(batch.entries);
    let mut values = batch.values.as_slice();
    reader.for_each(|header, frame| {
        let entry = entries.pop_front().ok_or(ServeError::Stopped)?;
        let same = header.frame_len == entry.frame_len
            && header.raw_len == entry.raw_len
            && header.slots.len() == entry.slots as usize
            && header.slots.len() <= values.len();
        if !same {
            return Err(ServeError::Chunk(entry.id));
        }
        let (own, later) = values.split_at(header.slots.len());
        values = later;
        fill(frame, &header.slots, own)?;
        visit(&entry, frame)
    })
}

/// The part of `bytes`, which begin at `start`, that lies within `wanted`.
fn cut_to(mut bytes: Bytes, start: u64, wanted: &Range<u64>) -> Bytes {
    let end = start + bytes.len() as u64;
    if wanted.end < end {
        bytes.truncate(usize::try_from(wanted.end.saturating_sub(start)).unwrap_or(0));
    }
    if wanted.start > start {
        let skip = usize::try_from(wanted.start - start).unwrap_or(usize::MAX).min(bytes.len());
        bytes = bytes.slice(skip..);
    }
    bytes
}
