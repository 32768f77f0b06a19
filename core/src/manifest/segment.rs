//! The manifest that a server keeps: a sequence of segments, each of which can be read without the
//! others.
//!
//! ```text
//! version u8 (1) | first raw varint | first stored varint | chunks varint
//! id runs until all chunks have ids:
//!     first id less the last run's end, zigzag varint | chunks in the run varint
//! chunks × (raw length varint | frame length varint | slots varint)
//! values as in `values.rs`; as many as the slots together
//! ```
//! Runs are as long as they can be. Where a segment begins in the NAR and in what is served is part
//! of it, so that a Range is found by looking at segments' beginnings.

use super::{ManifestError, read::Fields, values};
use crate::{store_path::StorePathHash, varint};

const VERSION: u8 = 1;
/// Most chunks of a segment.
pub const SEGMENT_CHUNKS: usize = 1024;
/// Most slots of a segment of more than one chunk.
pub const SEGMENT_SLOTS: usize = 8192;

/// A chunk in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// The chunk's id.
    pub id: u64,
    /// Bytes of the chunk.
    pub raw_len: u32,
    /// Bytes of its frame.
    pub frame_len: u32,
    /// Its slots.
    pub slots: u32,
}

/// A piece of a stored manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Bytes of the NAR before it.
    pub first_raw: u64,
    /// Bytes of frames before it.
    pub first_stored: u64,
    /// Its chunks, in order.
    pub entries: Vec<SegmentEntry>,
    /// The values of the first chunk's slots, then of the second's, …
    pub values: Vec<StorePathHash>,
}

impl Segment {
    /// Bytes of the NAR up to its end.
    #[must_use]
    pub fn end_raw(&self) -> u64 {
        self.first_raw + self.entries.iter().map(|entry| u64::from(entry.raw_len)).sum::<u64>()
    }

    /// Bytes of frames up to its end.
    #[must_use]
    pub fn end_stored(&self) -> u64 {
        self.first_stored + self.entries.iter().map(|entry| u64::from(entry.frame_len)).sum::<u64>()
    }

    /// The binary form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::put(&mut out, self.first_raw);
        varint::put(&mut out, self.first_stored);
        varint::put(&mut out, self.entries.len() as u64);
        let mut end = 0_u64;
        for run in self.entries.chunk_by(|one, next| one.id.checked_add(1) == Some(next.id)) {
            let first = run.first().map_or(0, |entry| entry.id);
            varint::put(&mut out, varint::zigzag(first.wrapping_sub(end).cast_signed()));
            varint::put(&mut out, run.len() as u64);
            end = first.wrapping_add(run.len() as u64);
        }
        for entry in &self.entries {
            varint::put(&mut out, entry.raw_len.into());
            varint::put(&mut out, entry.frame_len.into());
            varint::put(&mut out, entry.slots.into());
        }
        values::encode(&mut out, &self.values);
        out
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// [`ManifestError`] when it is over a limit, cut off or not in its only form.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut fields = Fields(bytes);
        fields.version(VERSION)?;
        let (first_raw, first_stored) = (fields.varint()?, fields.varint()?);
        let chunks = fields.count(3)?;
        if chunks > SEGMENT_CHUNKS {
            return Err(ManifestError::NotCanonical("a segment has too many chunks"));
        }
        let ids = decode_ids(&mut fields, chunks)?;
        let mut entries = Vec::with_capacity(chunks);
        let (mut slots, mut end_raw, mut end_stored) = (0_u64, first_raw, first_stored);
        for id in ids {
            let entry = SegmentEntry {
                id,
                raw_len: fields.varint_u32()?,
                frame_len: fields.varint_u32()?,
                slots: fields.varint_u32()?,
            };
            slots += u64::from(entry.slots);
            let ends = end_raw
                .checked_add(entry.raw_len.into())
                .zip(end_stored.checked_add(entry.frame_len.into()));
            (end_raw, end_stored) =
                ends.ok_or(ManifestError::NotCanonical("its lengths overflow"))?;
            entries.push(entry);
        }
        let values = values::decode(&mut fields)?;
        fields.end()?;
        if values.len() as u64 != slots {
            return Err(ManifestError::NotCanonical("there are not as many values as slots"));
        }
        if chunks > 1 && values.len() > SEGMENT_SLOTS {
            return Err(ManifestError::NotCanonical("a segment has too many slots"));
        }
        Ok(Self { first_raw, first_stored, entries, values })
    }
}

fn decode_ids(fields: &mut Fields<'_>, chunks: usize) -> Result<Vec<u64>, ManifestError> {
    const BAD_RUN: ManifestError =
        ManifestError::NotCanonical("a run of ids is not in its only form");
    let mut ids = Vec::with_capacity(chunks);
    let mut end = 0_u64;
    while ids.len() < chunks {
        let gap = varint::unzigzag(fields.varint()?).cast_unsigned();
        let len = fields.varint()?;
        let longest = (chunks - ids.len()) as u64;
        // A run that begins where the last one ended would have been its continuation.
        if len == 0 || len > longest || (gap == 0 && !ids.is_empty() && end != 0) {
            return Err(BAD_RUN);
        }
        let first = end.wrapping_add(gap);
        let last = first.checked_add(len - 1).ok_or(BAD_RUN)?;
        ids.extend(first..=last);
        end = last.wrapping_add(1);
    }
    Ok(ids)
}

/// Puts a NAR's chunks into segments.
#[derive(Clone, Debug, Default)]
pub struct SegmentBuilder {
    segment: Segment,
}

impl SegmentBuilder {
    /// A builder at the beginning of a NAR.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the NAR's next chunk, with the values of its slots (as many as it has); gives the
    /// segment before it when that is full.
    pub fn push(&mut self, entry: SegmentEntry, values: &[StorePathHash]) -> Option<Segment> {
        let Segment { entries, values: held, .. } = &self.segment;
        let full = entries.len() == SEGMENT_CHUNKS || held.len() + values.len() > SEGMENT_SLOTS;
        let done = if full { self.take() } else { None };
        self.segment.entries.push(entry);
        self.segment.values.extend_from_slice(values);
        done
    }

    /// The last segment, unless there was no chunk at all.
    #[must_use]
    pub fn finish(mut self) -> Option<Segment> {
        self.take()
    }

    fn take(&mut self) -> Option<Segment> {
        if self.segment.entries.is_empty() {
            return None;
        }
        let (first_raw, first_stored) = (self.segment.end_raw(), self.segment.end_stored());
        let next = Segment { first_raw, first_stored, entries: Vec::new(), values: Vec::new() };
        Some(std::mem::replace(&mut self.segment, next))
    }
}
