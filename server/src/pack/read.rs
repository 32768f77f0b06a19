//! Reading chunks: locations become few large ranged reads, and each record is checked before its frame is used.
//!
//! Records of one push lie side by side, so the chunks of a NAR are usually one range. What is read between them (the
//! record heads, a chunk that is not wanted) costs less than another round trip as long as the gap is small.
//!
//! Invariant: a frame leaves here only when its record's checksum, id and name are those that the caller asked for.
//! C4: an object that is gone has been compacted; its chunks are looked up again by id, once.

use std::ops::Range;

use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::ChunkHeader;
use snowbank_core::pack::Record;
use thiserror::Error;

use super::{Packs, pack_object_key};
use crate::db::chunks::ChunkLocation;
use crate::db::packs::PackId;
use crate::db::{self, DbError};
use crate::storage::StorageError;

/// A gap up to this many bytes is read rather than asked around.
const MAX_GAP_BYTES: u64 = 64 * 1024;
/// No single ranged read is longer than this, unless one record alone is.
const MAX_READ_BYTES: u64 = 4 * 1024 * 1024;

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
    #[error("pack {object} is damaged at byte {offset} (chunk {chunk}): {reason}; run `snowbankd check --read-data`")]
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

/// One chunk's header and its frame within a shared buffer.
#[derive(Debug)]
pub struct ChunkBytes {
    /// What the pack says about the chunk, checked against its checksum.
    pub header: ChunkHeader,
    buffer: usize,
    frame: Range<usize>,
}

/// The result of one [`PackReader::read`]: frames in the order asked for, in buffers that the caller may write to.
#[derive(Debug, Default)]
pub struct PackReader {
    buffers: Vec<Vec<u8>>,
    chunks: Vec<ChunkBytes>,
}

impl PackReader {
    /// Reads the records at `locations`, in that order, with as few storage reads as their places allow.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when a record is not what the index says; otherwise what storage or database said.
    pub async fn read(packs: &Packs, locations: &[ChunkLocation]) -> Result<Self, ReadError> {
        match Self::read_once(packs, locations).await {
            Err(ReadError::Storage(StorageError::NotFound { .. })) => {
                let ids: Vec<u64> = locations.iter().map(|l| l.id).collect();
                let mut conn = packs.db().reader().await?;
                let found = db::chunks::lookup_by_ids(conn.exec(), &ids).await?;
                drop(conn);
                let moved: Vec<ChunkLocation> =
                    locations.iter().map(|old| found.get(&old.id).unwrap_or(old).clone()).collect();
                Self::read_once(packs, &moved).await
            }
            result => result,
        }
    }

    async fn read_once(packs: &Packs, locations: &[ChunkLocation]) -> Result<Self, ReadError> {
        let mut reader = Self { buffers: Vec::new(), chunks: Vec::with_capacity(locations.len()) };
        for group in coalesce(locations) {
            let members = &locations[group.clone()];
            let (pack, range) = span_of(members);
            let bytes = read_range(packs, pack, &members[0], range.clone()).await?;
            let buffer = reader.buffers.len();
            for location in members {
                let damaged = |reason: String| ReadError::Damaged {
                    object: pack_object_key(&location.pack_key),
                    offset: location.offset,
                    chunk: location.name,
                    reason,
                };
                let start = usize::try_from(u64::from(location.offset) - range.start).unwrap_or(usize::MAX);
                let end = start.saturating_add(location.len as usize);
                let slice = bytes.get(start..end).ok_or_else(|| damaged("the object ends before it".to_owned()))?;
                let record = Record::parse(slice).map_err(|error| damaged(error.to_string()))?;
                if record.id != location.id || record.header.name != location.name {
                    return Err(damaged("another chunk lies there".to_owned()));
                }
                let frame = start + record.frame_range.start..start + record.frame_range.end;
                reader.chunks.push(ChunkBytes { header: record.header, buffer, frame });
            }
            reader.buffers.push(bytes);
        }
        Ok(reader)
    }

    /// Each chunk's header and its frame, to be filled in place.
    ///
    /// A record that was asked for twice is in here twice and has bytes of its own each time, so that filling one
    /// does not show in the other.
    ///
    /// # Errors
    /// The first error of `visit`.
    pub fn for_each<E>(mut self, mut visit: impl FnMut(&ChunkHeader, &mut [u8]) -> Result<(), E>) -> Result<(), E> {
        for chunk in &self.chunks {
            visit(&chunk.header, &mut self.buffers[chunk.buffer][chunk.frame.clone()])?;
        }
        Ok(())
    }

    /// Slots of all chunks together.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.header.slots.len()).sum()
    }

    /// Raw bytes that the frames decode to.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.header.raw_len as usize).sum()
    }

    /// Bytes that the buffers take.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffers.iter().map(Vec::len).sum()
    }
}

/// Index ranges of `locations` that one read serves: same pack, ascending, small gaps, bounded length.
fn coalesce(locations: &[ChunkLocation]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, next) in locations.iter().enumerate() {
        if let Some(group) = groups.last_mut() {
            let first = &locations[group.start];
            let last = &locations[group.end - 1];
            let last_end = u64::from(last.offset) + u64::from(last.len);
            let next_end = u64::from(next.offset) + u64::from(next.len);
            let joins = next.pack == last.pack
                && u64::from(next.offset) >= last_end
                && u64::from(next.offset) - last_end <= MAX_GAP_BYTES
                && next_end - u64::from(first.offset) <= MAX_READ_BYTES;
            if joins {
                group.end = index + 1;
                continue;
            }
        }
        groups.push(index..index + 1);
    }
    groups
}

fn span_of(members: &[ChunkLocation]) -> (PackId, Range<u64>) {
    let first = &members[0];
    let last = &members[members.len() - 1];
    (first.pack, u64::from(first.offset)..u64::from(last.offset) + u64::from(last.len))
}

async fn read_range(
    packs: &Packs,
    pack: PackId,
    location: &ChunkLocation,
    range: Range<u64>,
) -> Result<Vec<u8>, ReadError> {
    if let Some(object) = packs.recent(pack) {
        let slice = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        if let Some(bytes) = slice.and_then(|(start, end)| object.get(start..end)) {
            return Ok(bytes.to_vec());
        }
    }
    let key = pack_object_key(&location.pack_key);
    Ok(packs.storage().get_range(&key, range.start, range.end - range.start).await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use snowbank_core::pack::PackKey;

    fn at(pack: i64, offset: u32, len: u32) -> ChunkLocation {
        ChunkLocation {
            id: u64::from(offset),
            name: ChunkName::from_bytes([0; 32]),
            pack: PackId(pack),
            pack_key: PackKey::from_bytes([0; 16]),
            offset,
            len,
        }
    }

    #[test]
    fn neighbours_are_read_together() {
        assert_eq!(coalesce(&[at(1, 100, 50), at(1, 150, 50), at(1, 260, 10)]), vec![0..3]);
    }

    #[test]
    fn other_packs_large_gaps_and_backward_steps_start_a_read_of_their_own() {
        assert_eq!(coalesce(&[at(1, 100, 50), at(2, 150, 50)]), vec![0..1, 1..2]);
        assert_eq!(coalesce(&[at(1, 100, 50), at(1, 100_000, 50)]), vec![0..1, 1..2]);
        assert_eq!(coalesce(&[at(1, 100, 50), at(1, 100, 50)]), vec![0..1, 1..2]);
    }

    #[test]
    fn one_read_stays_within_its_bound() {
        let megabyte = 1024 * 1024;
        let run: Vec<_> = (0..10).map(|i| at(1, i * megabyte, megabyte)).collect();
        assert_eq!(coalesce(&run), vec![0..4, 4..8, 8..10]);
    }
}
