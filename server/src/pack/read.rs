//! Reading chunks: locations become few large ranged reads, and each record is checked before its
//! frame is used.
//!
//! Records of one push lie side by side, so the chunks of a NAR are usually one range. What is read
//! between them (the record heads, a chunk that is not wanted) costs less than another round trip
//! as long as the gap is small. Ranges that one read cannot serve are read at the same time.
//!
//! Invariant: a frame leaves here only when its record's checksum, id and name are those that the
//! caller asked for. C4: an object that is gone has been compacted; its chunks are looked up again
//! by id, once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::ChunkHeader;
use snowbank_core::pack::{PackKey, Record};
use thiserror::Error;

use super::{Packs, pack_object_key, pack_of_object};
use crate::db::chunks::ChunkLocation;
use crate::db::{self, DbError};
use crate::storage::StorageError;

/// A gap up to this many bytes is read rather than asked around. On a storage with latency more
/// would be faster, and would take memory that another read has better use for.
const MAX_GAP_BYTES: u64 = 64 * 1024;
/// No single ranged read is longer than this, unless one record alone is: a little more than a full
/// pack of a default bundle. How much is asked for at once is the caller's business.
const MAX_READ_BYTES: u64 = 9 * 1024 * 1024;
/// Ranged reads of one call at the same time.
const READS_AT_ONCE: usize = 8;

/// Why a chunk could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The object storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database failed while a moved chunk was looked up again.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The bytes are not the chunk that the index says they are.
    #[error(
        "pack {object} is damaged at byte {offset} (chunk {chunk}): {reason}; run `snowbankd check \
         --read-data`"
    )]
    Damaged {
        /// Storage key of the pack.
        object: String,
        /// Where its record starts.
        offset: u32,
        /// The chunk that should be there.
        chunk: ChunkName,
        /// What is wrong with it.
        reason: String,
    },
}

impl ReadError {
    /// The pack whose object may be damaged or gone, where that is what the failure looks like.
    #[must_use]
    pub fn suspect(&self) -> Option<PackKey> {
        match self {
            Self::Storage(StorageError::NotFound { key } | StorageError::Short { key, .. })
            | Self::Damaged { object: key, .. } => pack_of_object(key),
            Self::Storage(_) | Self::Database(_) => None,
        }
    }
}

/// A chunk as it is stored, whose record's checksum holds.
#[derive(Debug)]
pub struct StoredChunk {
    /// What the pack says about the chunk.
    pub header: ChunkHeader,
    /// The frame, to be filled in place. It is a part of what was read together, all of which is
    /// freed with the last part; a record that was asked for twice is there twice.
    pub frame: BytesMut,
}

/// Reads the records at `locations`, in that order, with as few storage reads as their places
/// allow. Takes about as much memory as [`read_cost`] says.
///
/// # Errors
/// [`ReadError::Damaged`] when a record is not what the index says; otherwise what storage or
/// database said.
pub async fn read_chunks(
    packs: &Packs,
    locations: &[ChunkLocation],
) -> Result<Vec<StoredChunk>, ReadError> {
    read_chunks_over(packs, locations, MAX_GAP_BYTES).await
}

/// As [`read_chunks`], but what lies between two records is read only up to `gap` bytes: for
/// records that are small themselves. Takes as much more memory for each.
///
/// # Errors
/// As [`read_chunks`].
pub async fn read_chunks_over(
    packs: &Packs,
    locations: &[ChunkLocation],
    gap: u64,
) -> Result<Vec<StoredChunk>, ReadError> {
    match read_once(packs, locations, gap).await {
        Err(ReadError::Storage(StorageError::NotFound { .. })) => {
            let ids: Vec<u64> = locations.iter().map(|l| l.id).collect();
            let mut conn = packs.db().reader().await?;
            let found = db::chunks::lookup_by_ids(conn.exec(), &ids).await?;
            drop(conn);
            let moved: Vec<ChunkLocation> =
                locations.iter().map(|old| found.get(&old.id).unwrap_or(old).clone()).collect();
            read_once(packs, &moved, gap).await
        }
        result => result,
    }
}

/// Bytes that reading `next` after `last` takes: its record, and the gap before it that is read as
/// well.
#[must_use]
pub fn read_cost(last: Option<&ChunkLocation>, next: &ChunkLocation) -> u64 {
    u64::from(next.len) + last.and_then(|last| gap(last, next)).unwrap_or(0)
}

async fn read_once(
    packs: &Packs,
    locations: &[ChunkLocation],
    gap: u64,
) -> Result<Vec<StoredChunk>, ReadError> {
    let groups: Vec<Vec<ChunkLocation>> =
        coalesce(locations, gap).into_iter().map(|group| locations[group].to_vec()).collect();
    if let [group] = &groups[..] {
        return read_group(packs, group).await;
    }
    let chunks = Vec::with_capacity(locations.len());
    stream::iter(groups)
        .map(|group| async move { read_group(packs, &group).await })
        .buffered(READS_AT_ONCE)
        .try_fold(chunks, |mut chunks, group| async move {
            chunks.extend(group);
            Ok(chunks)
        })
        .await
}

async fn read_group(packs: &Packs, group: &[ChunkLocation]) -> Result<Vec<StoredChunk>, ReadError> {
    parse(read_range(packs, group).await?, group)
}

/// Checks the records of one range and takes it apart.
fn parse(mut bytes: BytesMut, group: &[ChunkLocation]) -> Result<Vec<StoredChunk>, ReadError> {
    let mut chunks = Vec::with_capacity(group.len());
    let mut position = span_of(group).start;
    for location in group {
        let damaged = |reason: String| ReadError::Damaged {
            object: pack_object_key(&location.pack_key),
            offset: location.offset,
            chunk: location.name,
            reason,
        };
        let gap = usize::try_from(u64::from(location.offset) - position).unwrap_or(usize::MAX);
        let len = location.len as usize;
        if bytes.len() < gap.saturating_add(len) {
            return Err(damaged("the object ends before it".to_owned()));
        }
        drop(bytes.split_to(gap));
        let mut frame = bytes.split_to(len);
        position = end_of(location);
        let record = Record::parse(&frame).map_err(|error| damaged(error.to_string()))?;
        // The name binds the content. The id is another one where caches of several domains share
        // the record.
        if record.header.name != location.name {
            return Err(damaged("another chunk lies there".to_owned()));
        }
        let (header, range) = (record.header, record.frame_range);
        frame.truncate(range.end);
        drop(frame.split_to(range.start));
        chunks.push(StoredChunk { header, frame });
    }
    Ok(chunks)
}

/// Index ranges of `locations` that one read serves: same pack, ascending, small gaps, bounded
/// length.
fn coalesce(locations: &[ChunkLocation], most_between: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, next) in locations.iter().enumerate() {
        if let Some(group) = groups.last_mut() {
            let joins = gap(&locations[group.end - 1], next)
                .is_some_and(|between| between <= most_between)
                && end_of(next) - u64::from(locations[group.start].offset) <= MAX_READ_BYTES;
            if joins {
                group.end = index + 1;
                continue;
            }
        }
        groups.push(index..index + 1);
    }
    groups
}

/// The bytes between the two, when they are so few that one read may serve both.
fn gap(last: &ChunkLocation, next: &ChunkLocation) -> Option<u64> {
    let between = u64::from(next.offset).checked_sub(end_of(last))?;
    (next.pack == last.pack && between <= MAX_GAP_BYTES).then_some(between)
}

fn end_of(location: &ChunkLocation) -> u64 {
    u64::from(location.offset) + u64::from(location.len)
}

fn span_of(group: &[ChunkLocation]) -> Range<u64> {
    group.first().map_or(0, |first| u64::from(first.offset))..group.last().map_or(0, end_of)
}

async fn read_range(packs: &Packs, group: &[ChunkLocation]) -> Result<BytesMut, ReadError> {
    let range = span_of(group);
    let Some(first) = group.first() else {
        return Ok(BytesMut::new());
    };
    if let Some(object) = packs.recent(first.pack) {
        let slice = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        if let Some(bytes) = slice.and_then(|(start, end)| object.get(start..end)) {
            return Ok(BytesMut::from(bytes));
        }
    }
    let (key, len) = (pack_object_key(&first.pack_key), range.end - range.start);
    let bytes = if packs.is_direct() {
        let bytes = packs.storage().get_up_to(&key, range.start, len).await?;
        if (bytes.len() as u64) < len {
            return Err(StorageError::Short { key, wanted: range.end }.into());
        }
        bytes
    } else {
        packs.storage().get_range(&key, range.start, len).await?
    };
    // Nobody else has these bytes, so that nothing is copied.
    Ok(BytesMut::from(Bytes::from(bytes)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        let neighbours = [at(1, 100, 50), at(1, 150, 50), at(1, 260, 10)];
        assert_eq!(coalesce(&neighbours, MAX_GAP_BYTES), vec![0..3]);
        assert_eq!(coalesce(&neighbours, 60), vec![0..3]);
        assert_eq!(coalesce(&neighbours, 59), vec![0..2, 2..3]);
    }

    #[test]
    fn other_packs_large_gaps_and_backward_steps_start_a_read_of_their_own() {
        assert_eq!(coalesce(&[at(1, 100, 50), at(2, 150, 50)], MAX_GAP_BYTES), vec![0..1, 1..2]);
        assert_eq!(
            coalesce(&[at(1, 100, 50), at(1, 100_000, 50)], MAX_GAP_BYTES),
            vec![0..1, 1..2]
        );
        assert_eq!(coalesce(&[at(1, 100, 50), at(1, 100, 50)], MAX_GAP_BYTES), vec![0..1, 1..2]);
    }

    #[test]
    fn one_read_stays_within_its_bound() {
        let megabyte = 1024 * 1024;
        let run: Vec<_> = (0..20).map(|i| at(1, i * megabyte, megabyte)).collect();
        assert_eq!(coalesce(&run, MAX_GAP_BYTES), vec![0..9, 9..18, 18..20]);
    }

    #[test]
    fn a_gap_costs_what_is_read_over() {
        assert_eq!(read_cost(None, &at(1, 150, 50)), 50);
        assert_eq!(read_cost(Some(&at(1, 100, 50)), &at(1, 160, 50)), 60);
        assert_eq!(read_cost(Some(&at(1, 100, 50)), &at(2, 160, 50)), 50);
        assert_eq!(read_cost(Some(&at(1, 100, 50)), &at(1, 100_000, 50)), 50);
    }
}
