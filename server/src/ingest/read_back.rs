//! The chunks of a manifest as they are stored, in order: large reads, several of them ahead of
//! decoding.
//!
//! Memory, over all requests: a verification waits for its share of one budget before it reads
//! anything, and keeps it to its end: what it decodes, and one read that may always be under way.
//! Reads beyond that one are made when the budget has room for them at that moment. So many
//! verifications at once wait for each other rather than add up, each that has begun can end, and
//! none of them depends on its client (`verify` is a task of its own).
//!
//! A chunk that is in a bucket is fetched once, as far as the cache on disk reaches: packs that
//! were just stored are in it, and of others a read fetches all that the manifest names next, one
//! read at a time over all requests.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use snowbank_core::manifest::WireManifest;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use super::locate::{LOOKUP_NAMES, all_missing, lookup};
use super::verify_error::VerifyError;
use super::{Ingest, WorkerStopped};
use crate::db::caches::DomainId;
use crate::db::chunks::ChunkLocation;
use crate::pack::{ReadPermit, StoredChunk, read_chunks, read_cost};

/// Raw bytes of a group of chunks that one thread decodes, unless one chunk alone has more.
const GROUP_RAW_BYTES: u64 = 512 * 1024;
/// Groups of one NAR that are decoded, or decoded and waiting, at the same time.
pub(super) const GROUPS_AHEAD: usize = 2;
/// Reads of one NAR at the same time.
const READS_AHEAD: usize = 4;
/// A read that has as many bytes as this takes no longer than the decoding of what was read before
/// it.
const MAX_READ_BYTES: u64 = 2 * 1024 * 1024;

/// Chunks for one thread to decode.
pub(super) struct Group {
    pub(super) chunks: Vec<(u64, StoredChunk)>,
    /// For the memory that they, and what was read with them, take.
    pub(super) permit: Arc<ReadPermit>,
}

/// What [`ReadBack::next`] has.
pub(super) enum ReadOutcome {
    /// Chunks to decode.
    Group(Group),
    /// Nothing before memory comes free that groups handed out earlier hold; so there are such
    /// groups.
    Busy,
    /// Nothing any more.
    End,
}

struct LoadedChunks {
    chunks: VecDeque<(u64, StoredChunk)>,
    permit: Arc<ReadPermit>,
}

/// Reads a manifest's chunks, group by group.
pub(super) struct ReadBack {
    ingest: Ingest,
    domain: DomainId,
    manifest: Arc<WireManifest>,
    next_name: usize,
    located: VecDeque<ChunkLocation>,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<LoadedChunks, VerifyError>>>,
    loaded: Option<LoadedChunks>,
    read_bytes: u64,
    /// This verification's share; held by a read while nobody else holds it.
    own: Arc<ReadPermit>,
    /// What was located so far.
    pub(super) ids: Vec<u64>,
}

impl ReadBack {
    /// Waits for memory; `nar_size` is what the NAR is said to have.
    pub(super) async fn start(
        ingest: &Ingest,
        domain: DomainId,
        manifest: Arc<WireManifest>,
        nar_size: u64,
    ) -> Self {
        // A small NAR takes little. One that turns out larger than it was said to be ends where
        // that shows.
        let decoding = (GROUPS_AHEAD as u64 + 1) * GROUP_RAW_BYTES;
        let read_bytes = ingest.packs.read_window().min(MAX_READ_BYTES);
        let own = ingest.read_back.wait(decoding.min(nar_size) + read_bytes.min(nar_size)).await;
        Self {
            ingest: ingest.clone(),
            domain,
            ids: Vec::with_capacity(manifest.names.len()),
            manifest,
            next_name: 0,
            located: VecDeque::new(),
            in_flight: FuturesOrdered::new(),
            loaded: None,
            read_bytes,
            own: Arc::new(own),
        }
    }

    /// The next group. May be dropped at any moment: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<ReadOutcome, VerifyError> {
        loop {
            self.top_up().await?;
            if let Some(group) = self.loaded.as_mut().and_then(LoadedChunks::next_group) {
                return Ok(ReadOutcome::Group(group));
            }
            self.loaded = None;
            self.top_up().await?;
            match self.in_flight.next().await {
                None if self.located.is_empty() => return Ok(ReadOutcome::End),
                None => return Ok(ReadOutcome::Busy),
                Some(loaded) => self.loaded = Some(loaded?),
            }
        }
    }

    async fn top_up(&mut self) -> Result<(), VerifyError> {
        while self.in_flight.len() < READS_AHEAD {
            if self.located.is_empty() && !self.locate().await? {
                return Ok(());
            }
            // Held once: by nothing that is read, waits or is decoded.
            let permit = if Arc::strong_count(&self.own) == 1 {
                Arc::clone(&self.own)
            } else if let Some(permit) = self.ingest.read_back.try_all(self.read_bytes) {
                Arc::new(permit)
            } else {
                return Ok(());
            };
            let (packs, locations) = (self.ingest.packs.clone(), self.next_read());
            let ahead = packs.plan_ahead(&locations, self.located.iter(), u64::MAX);
            let turn = Arc::clone(&self.ingest.ahead);
            let reading = async move {
                if !ahead.is_empty() {
                    // Whoever has the turn waits for the storage alone.
                    let _turn = turn.acquire().await.map_err(|_| WorkerStopped)?;
                    packs.fetch_ahead(&ahead).await;
                }
                let chunks = read_chunks(&packs, &locations).await?;
                let chunks = locations.iter().map(|location| location.id).zip(chunks).collect();
                Ok::<_, VerifyError>(LoadedChunks { chunks, permit })
            };
            let reading = AbortOnDropHandle::new(tokio::spawn(reading.in_current_span()));
            self.in_flight
                .push_back(Box::pin(async move { reading.await.map_err(|_| WorkerStopped)? }));
        }
        Ok(())
    }

    /// Looks up the next chunks; `false` when there are no more.
    async fn locate(&mut self) -> Result<bool, VerifyError> {
        let names = &self.manifest.names[self.next_name..];
        let (names, rest) = names.split_at(names.len().min(LOOKUP_NAMES));
        if names.is_empty() {
            return Ok(false);
        }
        let locations = match lookup(&self.ingest, self.domain, names).await? {
            Ok(locations) => locations,
            Err(missing) => {
                return Err(VerifyError::Missing(
                    all_missing(&self.ingest, self.domain, missing, rest).await?,
                ));
            }
        };
        self.next_name += names.len();
        self.ids.extend(locations.iter().map(|location| location.id));
        self.located = locations.into();
        Ok(true)
    }

    fn next_read(&mut self) -> Vec<ChunkLocation> {
        let mut bytes = 0;
        let mut batch: Vec<ChunkLocation> = Vec::new();
        while let Some(next) = self.located.front() {
            bytes += read_cost(batch.last(), next);
            if bytes > self.read_bytes && !batch.is_empty() {
                break;
            }
            batch.extend(self.located.pop_front());
        }
        batch
    }
}

impl LoadedChunks {
    fn next_group(&mut self) -> Option<Group> {
        let mut raw_bytes = 0;
        let mut chunks = Vec::new();
        while let Some((_, next)) = self.chunks.front() {
            raw_bytes += u64::from(next.header.raw_len);
            if raw_bytes > GROUP_RAW_BYTES && !chunks.is_empty() {
                break;
            }
            chunks.extend(self.chunks.pop_front());
        }
        (!chunks.is_empty()).then(|| Group { chunks, permit: Arc::clone(&self.permit) })
    }
}
