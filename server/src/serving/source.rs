//! The stored manifest as a stream of batches: a few chunks each, with the slot values that belong to them.
//!
//! One segment of the manifest is in memory at a time, whatever the NAR's size. A range begins at the segment that holds
//! its first byte, without reading those before it.

use std::collections::VecDeque;

use snowbank_core::manifest::{Segment, SegmentEntry};
use snowbank_core::store_path::StorePathHash;

use super::nar::{Representation, ServeError};
use crate::db::nars::Nar;
use crate::db::{self, Db, DbError};

/// A batch ends at this many stored bytes or this many chunks.
const BATCH_STORED_BYTES: u64 = 512 * 1024;
const BATCH_CHUNKS: usize = 64;

/// Some chunks of a NAR, one after the other.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<SegmentEntry>,
    pub(super) values: Vec<StorePathHash>,
    /// Where the first of them begins in the representation that is served.
    pub(super) start: u64,
}

/// Reads a manifest, segment by segment.
#[derive(Debug)]
pub(super) struct BatchSource {
    db: Db,
    nar: Nar,
    representation: Representation,
    /// Bytes before this one are not wanted.
    from: u64,
    /// Nor those from here on.
    to: u64,
    next_segment: Option<u32>,
    entries: VecDeque<SegmentEntry>,
    values: VecDeque<StorePathHash>,
    position: u64,
}

impl BatchSource {
    /// Batches that cover the bytes `from..to` of the representation.
    pub(super) fn new(db: Db, nar: Nar, representation: Representation, from: u64, to: u64) -> Self {
        let next_segment = (from < to).then_some(0);
        let (entries, values) = (VecDeque::new(), VecDeque::new());
        Self { db, nar, representation, from, to, next_segment, entries, values, position: 0 }
    }

    /// The next batch; `None` after the last one that is wanted.
    pub(super) async fn next(&mut self) -> Result<Option<Batch>, ServeError> {
        if self.position >= self.to {
            return Ok(None);
        }
        while self.entries.is_empty() {
            if !self.load_segment().await? {
                return Ok(None);
            }
            self.skip_to_start();
        }
        let mut batch = Batch { entries: Vec::new(), values: Vec::new(), start: self.position };
        let mut stored_bytes = 0;
        while let Some(entry) = self.entries.front() {
            let full = stored_bytes >= BATCH_STORED_BYTES || batch.entries.len() >= BATCH_CHUNKS;
            if full || self.position >= self.to {
                break;
            }
            stored_bytes += u64::from(entry.frame_len);
            self.position += self.representation.len_of(entry);
            batch.values.extend(self.values.drain(..(entry.slots as usize).min(self.values.len())));
            batch.entries.extend(self.entries.pop_front());
        }
        Ok(Some(batch))
    }

    /// Reads the next segment; `false` when there is none.
    async fn load_segment(&mut self) -> Result<bool, ServeError> {
        let Some(seq) = self.next_segment.filter(|seq| *seq < self.nar.segment_count) else {
            return Ok(false);
        };
        let mut conn = self.db.reader().await?;
        let (seq, data) = if seq == 0 && self.from > 0 && self.nar.segment_count > 1 {
            let found = match self.representation {
                Representation::Zstd => db::nars::segment_at_stored(conn.exec(), self.nar.id, self.from).await?,
                Representation::Raw => db::nars::segment_at_raw(conn.exec(), self.nar.id, self.from).await?,
            };
            found.ok_or_else(|| gone(seq))?
        } else {
            (seq, db::nars::segment(conn.exec(), self.nar.id, seq).await?.ok_or_else(|| gone(seq))?)
        };
        drop(conn);
        let segment = Segment::decode(&data).map_err(|error| ServeError::Manifest(error.to_string()))?;
        self.position = match self.representation {
            Representation::Zstd => segment.first_stored,
            Representation::Raw => segment.first_raw,
        };
        self.entries = segment.entries.into();
        self.values = segment.values.into();
        self.next_segment = Some(seq + 1);
        Ok(true)
    }

    /// Drops the chunks that lie before the first byte that is wanted.
    fn skip_to_start(&mut self) {
        while let Some(entry) = self.entries.front() {
            let end = self.position + self.representation.len_of(entry);
            if end > self.from {
                return;
            }
            self.values.drain(..(entry.slots as usize).min(self.values.len()));
            self.position = end;
            self.entries.pop_front();
        }
    }
}

fn gone(seq: u32) -> ServeError {
    ServeError::Database(DbError::corrupt(format!("segment {seq} of a manifest is not there")))
}
