//! From a batch of chunks to the bytes that a client gets, which keep what they are charged to
//! until they have left.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use snowbank_core::frame::{FrameDecoder, fill};
use snowbank_core::manifest::SegmentEntry;

use super::error::ServeError;
use super::representation::Representation;
use super::source::Batch;
use crate::admission::ResponsePlace;
use crate::pack::{Packs, ReadPermit, StoredChunk, read_chunks};

/// Reads the chunks of `batch`, and makes of them what lies within `wanted`.
pub(super) async fn load(
    packs: Packs,
    batch: Batch,
    mut held: Holdings,
    representation: Representation,
    wanted: Range<u64>,
) -> Result<VecDeque<Bytes>, ServeError> {
    if let Some(permit) = &mut held.permit {
        permit.shrink_to(batch.cost);
    }
    let held = Arc::new(held);
    let chunks = read_chunks(&packs, &batch.locations).await?;
    let start = batch.start;
    let pieces = match representation {
        Representation::Zstd => filled_frames(chunks, &batch, &held)?,
        Representation::Raw => {
            let raw = tokio::task::spawn_blocking(move || raw_bytes(chunks, &batch));
            let raw = raw.await.map_err(|_| ServeError::Stopped)??;
            VecDeque::from([held_bytes(raw, held)])
        }
    };
    Ok(cut_to(pieces, start, &wanted))
}

/// What a response holds for the bytes that it sends.
#[derive(Debug)]
pub(super) struct Holdings {
    /// Memory; none for what was copied.
    pub(super) permit: Option<ReadPermit>,
    /// The response's place, while any of its bytes is here.
    pub(super) _place: Option<ResponsePlace>,
}

struct Piece<T> {
    bytes: T,
    _held: Arc<Holdings>,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Piece<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// Bytes with which `held` goes, once the last of them has left.
pub(super) fn held_bytes<T: AsRef<[u8]> + Send + 'static>(bytes: T, held: Arc<Holdings>) -> Bytes {
    Bytes::from_owner(Piece { bytes, _held: held })
}

/// The frames with their slots filled: what the client gets, without decompressing or copying
/// anything.
fn filled_frames(
    chunks: Vec<StoredChunk>,
    batch: &Batch,
    held: &Arc<Holdings>,
) -> Result<VecDeque<Bytes>, ServeError> {
    let mut pieces = VecDeque::with_capacity(chunks.len());
    each_filled(chunks, batch, |_, chunk| {
        pieces.push_back(held_bytes(chunk.frame, Arc::clone(held)));
        Ok(())
    })?;
    Ok(pieces)
}

fn raw_bytes(chunks: Vec<StoredChunk>, batch: &Batch) -> Result<Vec<u8>, ServeError> {
    let mut out =
        Vec::with_capacity(batch.entries.iter().map(|entry| entry.raw_len as usize).sum());
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
