//! The stored manifest as a stream of batches: some chunks each, where they lie, and the slot
//! values that belong to them.
//!
//! One segment of the manifest is in memory at a time, whatever the NAR's size, and where its
//! chunks lie is looked up at once. A range begins at the segment that holds its first byte,
//! without reading those before it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use snowbank_core::manifest::{Segment, SegmentEntry};
use snowbank_core::store_path::StorePathHash;

use super::error::ServeError;
use super::lookups::{FoundNar, ShortManifest};
use super::representation::Representation;
use crate::db::chunks::ChunkLocation;
use crate::db::nars::Nar;
use crate::db::{self, Db, DbError};
use crate::pack::{FetchPlan, Packs, read_cost};

/// A batch of at least this many bytes ends where the next chunk lies in another pack: the rest of
/// that pack and the beginning of the next one would be two reads in any case.
const ENOUGH_OF_A_PACK: u64 = 512 * 1024;

/// Some chunks of a NAR, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) entries: Vec<SegmentEntry>,
    pub(super) locations: Vec<ChunkLocation>,
    pub(super) values: Vec<StorePathHash>,
    /// Where the first of them begins in the representation that is served.
    pub(super) start: u64,
    /// Memory that it takes while it is read and waits.
    pub(super) cost: u64,
}

impl BatchSource {
    /// What to fetch of packs before `batch` is read, in parts of at most `most_bytes`.
    pub(super) fn ahead(&self, packs: &Packs, batch: &Batch, most_bytes: u64) -> FetchPlan {
        packs.plan_ahead(
            &batch.locations,
            self.chunks.iter().map(|(_, location)| location),
            most_bytes,
        )
    }
}

/// Reads a manifest, segment by segment.
#[derive(Debug)]
pub(super) struct BatchSource {
    db: Db,
    nar: Nar,
    known: Option<Arc<ShortManifest>>,
    representation: Representation,
    /// Bytes before this one are not wanted.
    from: u64,
    /// Nor those from here on.
    to: u64,
    next_segment: Option<u32>,
    chunks: VecDeque<(SegmentEntry, ChunkLocation)>,
    values: VecDeque<StorePathHash>,
    position: u64,
}

impl BatchSource {
    /// Batches that cover the bytes `from..to` of the representation.
    pub(super) fn new(
        db: &Db,
        found: FoundNar,
        representation: Representation,
        wanted: Range<u64>,
    ) -> Self {
        let FoundNar { nar, known, .. } = found;
        let Range { start: from, end: to } = wanted;
        let next_segment = (from < to).then_some(0);
        let (db, chunks, values) = (db.clone(), VecDeque::new(), VecDeque::new());
        Self { db, nar, known, representation, from, to, next_segment, chunks, values, position: 0 }
    }

    /// What the next batch costs at least; `None` after the last one that is wanted.
    pub(super) async fn next_cost(&mut self) -> Result<Option<u64>, ServeError> {
        if self.position >= self.to {
            return Ok(None);
        }
        loop {
            if let Some((entry, location)) = self.chunks.front() {
                return Ok(Some(self.representation.cost_of(entry) + read_cost(None, location)));
            }
            if !self.load_segment().await? {
                return Ok(None);
            }
        }
    }

    /// The next batch, of one chunk or of as many as cost at most `most_bytes`; `None` after the
    /// last one that is wanted.
    pub(super) async fn next(&mut self, most_bytes: u64) -> Result<Option<Batch>, ServeError> {
        if self.next_cost().await?.is_none() {
            return Ok(None);
        }
        let (entries, locations, values) = (Vec::new(), Vec::new(), Vec::new());
        let mut batch = Batch { entries, locations, values, start: self.position, cost: 0 };
        while let Some((entry, location)) = self.chunks.front() {
            let last = batch.locations.last();
            let cost = self.representation.cost_of(entry) + read_cost(last, location);
            let turns = last.is_some_and(|last| last.pack != location.pack)
                && batch.cost >= ENOUGH_OF_A_PACK;
            let full = turns || batch.cost + cost > most_bytes;
            if self.position >= self.to || (full && !batch.entries.is_empty()) {
                break;
            }
            batch.cost += cost;
            self.position += self.representation.len_of(entry);
            batch.values.extend(self.values.drain(..(entry.slots as usize).min(self.values.len())));
            if let Some((entry, location)) = self.chunks.pop_front() {
                batch.entries.push(entry);
                batch.locations.push(location);
            }
        }
        Ok(Some(batch))
    }

    /// Reads the next segment; `false` when there is none.
    async fn load_segment(&mut self) -> Result<bool, ServeError> {
        let Some(seq) = self.next_segment.filter(|seq| *seq < self.nar.segment_count) else {
            return Ok(false);
        };
        let (seq, segment) = match &self.known {
            Some(known) => (seq, known.manifest.clone()),
            None => self.read_segment(seq).await?,
        };
        self.position = match self.representation {
            Representation::Zstd => segment.first_stored,
            Representation::Raw => segment.first_raw,
        };
        self.values = segment.values.into();
        self.next_segment = Some(seq + 1);
        let wanted = self.wanted_of(segment.entries);
        self.chunks = self.locate(wanted).await?;
        Ok(true)
    }

    /// The segment `seq` and its number, or, at the beginning, the one that holds the first byte
    /// that is wanted.
    async fn read_segment(&self, seq: u32) -> Result<(u32, Segment), ServeError> {
        let (seq, data) = self.read_segment_bytes(seq).await?;
        Ok((seq, Segment::decode(&data).map_err(|error| ServeError::Manifest(error.to_string()))?))
    }

    async fn read_segment_bytes(&self, seq: u32) -> Result<(u32, Vec<u8>), ServeError> {
        let mut conn = self.db.reader().await?;
        if seq == 0 && self.from > 0 && self.nar.segment_count > 1 {
            let found = match self.representation {
                Representation::Zstd => {
                    db::nars::segment_at_stored(conn.exec(), self.nar.id, self.from).await?
                }
                Representation::Raw => {
                    db::nars::segment_at_raw(conn.exec(), self.nar.id, self.from).await?
                }
            };
            return found.ok_or_else(|| gone(seq));
        }
        let data = db::nars::segment(conn.exec(), self.nar.id, seq).await?;
        Ok((seq, data.ok_or_else(|| gone(seq))?))
    }

    /// Drops the chunks that lie before the first byte that is wanted, and those after the last
    /// one.
    fn wanted_of(&mut self, entries: Vec<SegmentEntry>) -> Vec<SegmentEntry> {
        let mut wanted = Vec::with_capacity(entries.len());
        let mut end = self.position;
        for entry in entries {
            let start = end;
            end += self.representation.len_of(&entry);
            if end <= self.from {
                self.values.drain(..(entry.slots as usize).min(self.values.len()));
                self.position = end;
            } else if start < self.to {
                wanted.push(entry);
            }
        }
        wanted
    }

    /// Where `entries` lie, by one question to the database, unless that is known.
    async fn locate(
        &self,
        entries: Vec<SegmentEntry>,
    ) -> Result<VecDeque<(SegmentEntry, ChunkLocation)>, ServeError> {
        let known = self.known.as_ref().map(|known| &known.places);
        let is_known =
            known.is_some_and(|places| entries.iter().all(|entry| places.contains_key(&entry.id)));
        let looked_up;
        let places = if let Some(places) = known.filter(|_| is_known) {
            places
        } else {
            let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
            looked_up = db::chunks::lookup_by_ids(self.db.reader().await?.exec(), &ids).await?;
            &looked_up
        };
        let locate = |entry: SegmentEntry| {
            let location = places.get(&entry.id).cloned().ok_or(ServeError::Chunk(entry.id))?;
            Ok((entry, location))
        };
        entries.into_iter().map(locate).collect()
    }
}

fn gone(seq: u32) -> ServeError {
    ServeError::Database(DbError::corrupt(format!("segment {seq} of a manifest is not there")))
}
