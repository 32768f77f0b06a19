//! A NAR as a stream of filled frames, or of the raw bytes that they decode to, with read-ahead.
//!
//! A batch is read by one storage request where its chunks lie together, and is as large as the
//! storage likes and memory allows. Every batch has permits of the shared budget until its last
//! byte has left: no byte is loaded without.
//!
//! Invariant: a client that does not read holds up nobody, and holds no more than it has permits
//! for. So a response that finds no permit free goes over the [`Bench`]: one chunk is loaded there,
//! a piece of it is copied, and the chunk is dropped before the client is waited for. That costs
//! the loading of a chunk per piece, and is how everybody goes on while a few keep the budget;
//! `admission` ends those who keep it, once it is lacking.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, FuturesOrdered, Stream, StreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::bench::Bench;
use super::error::ServeError;
use super::load::{Holdings, held_bytes, load};
use super::lookups::FoundNar;
use super::representation::Representation;
use super::source::{Batch, BatchSource};
use crate::admission::ResponsePlace;
use crate::db::Db;
use crate::pack::{Packs, ReadBudget};

/// Batches of one response that may be in flight, the first included.
const MAX_AHEAD: usize = 6;
/// Bytes that are handed over at once, and that a response without a permit holds.
const MAX_PIECE_BYTES: usize = 64 * 1024;
/// Of a chunk that is loaded again for each piece.
const BENCH_PIECE_BYTES: usize = 32 * 1024;

/// What serving a NAR needs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NarBody {
    /// Manifests and chunk locations.
    pub db: Db,
    /// Chunk bytes.
    pub packs: Packs,
    /// Memory for batches, over all responses.
    pub read_ahead: ReadBudget,
    /// Memory for those that find none there.
    pub bench: Bench,
}

type Loading = BoxFuture<'static, Result<VecDeque<Bytes>, ServeError>>;

struct State {
    body: NarBody,
    place: Option<ResponsePlace>,
    source: BatchSource,
    representation: Representation,
    wanted: Range<u64>,
    in_flight: FuturesOrdered<Loading>,
    /// What is left of the batch that is being sent.
    pieces: VecDeque<Bytes>,
    /// A chunk without a permit, and how much of it has been handed over.
    chunk: Option<(Batch, usize)>,
    exhausted: bool,
}

/// The bytes `range` of a NAR, in pieces of at most 64 KiB. `place` is told what its client is
/// handed and takes.
pub fn nar_stream(
    body: NarBody,
    place: Option<ResponsePlace>,
    found: FoundNar,
    representation: Representation,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, ServeError>> + Send + 'static {
    let source = BatchSource::new(&body.db, found, representation, range.clone());
    let (in_flight, pieces, wanted) = (FuturesOrdered::new(), VecDeque::new(), range);
    let (chunk, exhausted) = (None, false);
    let state =
        State { body, place, source, representation, wanted, in_flight, pieces, chunk, exhausted };
    stream::try_unfold(state, |mut state| async move {
        if let Some(place) = &state.place {
            place.note_taken();
        }
        let piece = state.next_piece().await?;
        if let (Some(place), Some(piece)) = (&state.place, &piece) {
            place.note_handed(piece.len() as u64);
        }
        Ok(piece.map(|piece| (piece, state)))
    })
}

impl State {
    async fn next_piece(&mut self) -> Result<Option<Bytes>, ServeError> {
        loop {
            if let Some(mut piece) = self.pieces.pop_front() {
                if piece.len() > MAX_PIECE_BYTES {
                    self.pieces.push_front(piece.split_off(MAX_PIECE_BYTES));
                }
                return Ok(Some(piece));
            }
            if let Some((chunk, sent)) = self.chunk.take() {
                return self.piece_of(chunk, sent).await.map(Some);
            }
            self.top_up().await?;
            // While the storage is waited for, the client is not to blame for what is held.
            self.note_held(0);
            let Some(loaded) = self.in_flight.next().await else {
                match &self.chunk {
                    Some(_) => continue,
                    None => return Ok(None),
                }
            };
            self.pieces = loaded?;
            self.note_held(self.pieces.iter().map(|piece| piece.len() as u64).sum());
            // While this batch is sent, the next one is read.
            self.top_up().await?;
        }
    }

    fn note_held(&self, bytes: u64) {
        if let Some(place) = &self.place {
            place.note_held(bytes);
        }
    }

    /// Starts as many batches as may be in flight: one where the budget has room for a chunk, more
    /// while it has room for whole ones. Where there is no room at all and nothing to send, the
    /// next chunk is to go over the bench.
    async fn top_up(&mut self) -> Result<(), ServeError> {
        let window = self.body.packs.read_window() * self.representation.windows();
        while !self.exhausted && self.in_flight.len() < MAX_AHEAD {
            let Some(least) = self.source.next_cost().await? else {
                self.exhausted = true;
                break;
            };
            let has_more = !self.in_flight.is_empty() || !self.pieces.is_empty();
            let budget = &self.body.read_ahead;
            let permit = if has_more {
                budget.try_all(window).filter(|permit| permit.bytes() >= least)
            } else {
                budget.try_some(window, least)
            };
            let Some(permit) = permit else {
                if !has_more {
                    if let Some(place) = &self.place {
                        place.note_held(0);
                        place.note_lack();
                    }
                    self.chunk = self.source.next(0).await?.map(|chunk| (chunk, 0));
                }
                break;
            };
            let Some(batch) = self.source.next(permit.bytes()).await? else {
                self.exhausted = true;
                break;
            };
            self.note_held(batch.cost);
            // In the memory that the batch takes afterwards.
            let ahead = self.source.ahead(&self.body.packs, &batch, permit.bytes());
            let held = Holdings { permit: Some(permit), _place: self.place.clone() };
            let (packs, representation, wanted) =
                (self.body.packs.clone(), self.representation, self.wanted.clone());
            // A task of its own: when the client stops reading, a batch half loaded goes on, and
            // gives back its permit or its database connection.
            let loading = tokio::spawn(async move {
                if ahead.is_needed() {
                    packs.fetch_ahead(&ahead).await;
                }
                load(packs, batch, held, representation, wanted).await
            });
            let loading = AbortOnDropHandle::new(loading);
            self.in_flight.push_back(Box::pin(async move {
                loading.await.map_err(|_| ServeError::Stopped)?
            }));
        }
        Ok(())
    }

    /// The next piece of a chunk of which `sent` bytes have been handed over. All the rest, where
    /// there is memory for it now.
    async fn piece_of(&mut self, chunk: Batch, sent: usize) -> Result<Bytes, ServeError> {
        let permit = self.body.read_ahead.try_some(chunk.cost, chunk.cost);
        let place = self.place.clone();
        if let (Some(place), Some(_)) = (&place, &permit) {
            place.note_held(chunk.cost);
        }
        let is_held = permit.is_some();
        // Given back before the client is waited for.
        let bench = if is_held { None } else { Some(self.body.bench.wait(chunk.cost).await) };
        let held = Holdings { permit, _place: place.clone() };
        let (packs, wanted) = (self.body.packs.clone(), self.wanted.clone());
        let mut pieces = load(packs, chunk.clone(), held, self.representation, wanted).await?;
        // One chunk of which something is wanted is one piece, and as long each time.
        let Some(rest) =
            pieces.pop_front().filter(|bytes| bytes.len() > sent).map(|bytes| bytes.slice(sent..))
        else {
            return Err(ServeError::Manifest("a chunk is shorter than it was".to_owned()));
        };
        if is_held {
            return Ok(self.first_of(rest));
        }
        let length = rest.len().min(BENCH_PIECE_BYTES);
        let copy =
            held_bytes(rest[..length].to_vec(), Arc::new(Holdings { permit: None, _place: place }));
        if length < rest.len() {
            self.chunk = Some((chunk, sent + length));
        }
        drop((rest, bench));
        Ok(copy)
    }

    /// A piece of `bytes`; what is too much comes before all others.
    fn first_of(&mut self, mut bytes: Bytes) -> Bytes {
        if bytes.len() > MAX_PIECE_BYTES {
            self.pieces.push_front(bytes.split_off(MAX_PIECE_BYTES));
        }
        bytes
    }
}
