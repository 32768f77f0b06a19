//! The header of a chunk: its name, its two lengths, and where its slots are in both. It stands
//! before the frame in bundles and packs.
//!
//! ```text
//! name 32 | raw_len u32 | frame_len u32 | slot count u16 | slot table bytes u16 | slot table
//! slot table, per slot: varint of the raw offset less the last slot's raw end (0 for the first),
//!                       varint of the frame offset less the last slot's frame end
//! ```
//! All numbers are little endian. A header that decodes is within all bounds, its slots ascend and
//! do not overlap, and it has no other encoding.

use thiserror::Error;

use crate::{
    chunk::{ChunkName, MAX_CHUNK_RAW_LEN, MAX_SLOTS_PER_CHUNK, SLOT_LEN},
    varint,
};

/// Bytes before the slot table.
const FIXED_LEN: usize = 32 + 4 + 4 + 2 + 2;
/// A slot's bytes, as offsets count them.
const SLOT: u32 = 32;
const _: () = assert!(SLOT as usize == SLOT_LEN);

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Where it begins in the chunk's bytes.
    pub raw: u32,
    /// Where it begins in the frame: the payload of its Raw block.
    pub frame: u32,
}

/// What stands before a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// The chunk's name.
    pub name: ChunkName,
    /// Bytes of the chunk, 1 to [`MAX_CHUNK_RAW_LEN`].
    pub raw_len: u32,
    /// Bytes of its frame.
    pub frame_len: u32,
    /// Its slots, ascending in both offsets; empty for a closed chunk.
    pub slots: Vec<Slot>,
}

/// Why bytes are no chunk header.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The chunk's length is 0 or too large.
    #[error("a chunk of {0} bytes: 1 to {MAX_CHUNK_RAW_LEN} are allowed")]
    RawLen(u32),
    /// The frame's length is 0 or more than a chunk of that length can need.
    #[error(
        "a frame of {frame_len} bytes for a chunk of {raw_len} bytes: at most {limit} can be needed"
    )]
    FrameLen {
        /// The chunk's length.
        raw_len: u32,
        /// The frame's length.
        frame_len: u32,
        /// The most that is allowed.
        limit: u32,
    },
    /// Too many slots.
    #[error("{0} slots: at most {MAX_SLOTS_PER_CHUNK} are allowed")]
    SlotCount(usize),
    /// A slot ends behind the chunk or the frame.
    #[error("slot {0} does not lie within its chunk and frame")]
    SlotBounds(usize),
    /// The slot table is not the one encoding of its slots.
    #[error("the slot table is not in its only form")]
    SlotTable,
}

impl ChunkHeader {
    /// Whether the chunk has slots.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Bytes that [`Self::encode_into`] appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        FIXED_LEN
            + self.gaps().map(|(raw, frame)| varint::len(raw) + varint::len(frame)).sum::<usize>()
    }

    /// Appends the binary form. Only a header that [`Self::check`] accepts decodes again.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&self.frame_len.to_le_bytes());
        out.extend_from_slice(&u16::try_from(self.slots.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        for (raw, frame) in self.gaps() {
            varint::put(out, raw);
            varint::put(out, frame);
        }
        // 4,096 slots of at most 4 + 4 bytes are less than 65,536.
        let table_len = u16::try_from(out.len() - start - FIXED_LEN).unwrap_or(u16::MAX);
        out[start + FIXED_LEN - 2..start + FIXED_LEN].copy_from_slice(&table_len.to_le_bytes());
    }

    /// Reads a header off the front of `input`: it and its length, or nothing when more bytes are
    /// needed.
    ///
    /// # Errors
    /// [`HeaderError`] when no bytes to come can make it a header.
    pub fn decode(input: &[u8]) -> Result<Option<(Self, usize)>, HeaderError> {
        let Some((fixed, rest)) = input.split_first_chunk::<FIXED_LEN>() else {
            return Ok(None);
        };
        let u32_at = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
        let name: [u8; 32] = std::array::from_fn(|at| fixed[at]);
        let (raw_len, frame_len) = (u32_at(32), u32_at(36));
        let (slot_count, table_len) = (u16_at(40), u16_at(42));
        check_lengths(raw_len, frame_len, slot_count)?;
        // Each slot takes at least a byte for each of its gaps.
        if table_len < 2 * slot_count {
            return Err(HeaderError::SlotTable);
        }
        let Some(table) = rest.get(..table_len) else {
            return Ok(None);
        };
        let slots = decode_slots(table, slot_count, raw_len, frame_len)?;
        let name = ChunkName::from_bytes(name);
        Ok(Some((Self { name, raw_len, frame_len, slots }, FIXED_LEN + table_len)))
    }

    /// Whether the lengths are within their bounds, and the slots ascend within them without
    /// overlap.
    ///
    /// # Errors
    /// [`HeaderError`] when a length or a slot is out of its bounds.
    pub fn check(&self) -> Result<(), HeaderError> {
        check_lengths(self.raw_len, self.frame_len, self.slots.len())?;
        let (mut raw_end, mut frame_end) = (0, 0);
        for (index, slot) in self.slots.iter().enumerate() {
            let ends = [slot.raw, slot.frame].map(|start| start.checked_add(SLOT));
            let [Some(raw), Some(frame)] = ends else {
                return Err(HeaderError::SlotBounds(index));
            };
            if slot.raw < raw_end
                || slot.frame < frame_end
                || raw > self.raw_len
                || frame > self.frame_len
            {
                return Err(HeaderError::SlotBounds(index));
            }
            (raw_end, frame_end) = (raw, frame);
        }
        Ok(())
    }

    /// The gaps before each slot in the chunk and in the frame.
    fn gaps(&self) -> impl Iterator<Item = (u64, u64)> {
        let ends = self
            .slots
            .iter()
            .map(|slot| (slot.raw.saturating_add(SLOT), slot.frame.saturating_add(SLOT)));
        self.slots.iter().zip(std::iter::once((0, 0)).chain(ends)).map(
            |(slot, (raw_end, frame_end))| {
                (
                    u64::from(slot.raw.saturating_sub(raw_end)),
                    u64::from(slot.frame.saturating_sub(frame_end)),
                )
            },
        )
    }
}

fn check_lengths(raw_len: u32, frame_len: u32, slots: usize) -> Result<(), HeaderError> {
    if raw_len == 0 || raw_len > MAX_CHUNK_RAW_LEN {
        return Err(HeaderError::RawLen(raw_len));
    }
    if slots > MAX_SLOTS_PER_CHUNK {
        return Err(HeaderError::SlotCount(slots));
    }
    let limit = max_frame_len(raw_len, slots);
    if frame_len == 0 || frame_len > limit {
        return Err(HeaderError::FrameLen { raw_len, frame_len, limit });
    }
    Ok(())
}

fn decode_slots(
    mut table: &[u8],
    count: usize,
    raw_len: u32,
    frame_len: u32,
) -> Result<Vec<Slot>, HeaderError> {
    let mut slots = Vec::with_capacity(count);
    let (mut raw_end, mut frame_end) = (0, 0);
    for index in 0..count {
        let raw = next_offset(&mut table, raw_end, raw_len, index)?;
        let frame = next_offset(&mut table, frame_end, frame_len, index)?;
        slots.push(Slot { raw, frame });
        (raw_end, frame_end) = (raw + SLOT, frame + SLOT);
    }
    if table.is_empty() { Ok(slots) } else { Err(HeaderError::SlotTable) }
}

/// Where slot `index` begins, whose gap from `end` is next in `table`, in something of `len` bytes.
fn next_offset(table: &mut &[u8], end: u32, len: u32, index: usize) -> Result<u32, HeaderError> {
    let gap = varint::take(table).map_err(|_| HeaderError::SlotTable)?;
    u32::try_from(gap)
        .ok()
        .and_then(|gap| end.checked_add(gap))
        .filter(|start| start.checked_add(SLOT).is_some_and(|slot_end| slot_end <= len))
        .ok_or(HeaderError::SlotBounds(index))
}

/// Most bytes that an honest encoder's frame of `raw_len` bytes and `slots` slots can have: zstd's
/// bound for one piece, and for each slot the headers of its block and of the next.
#[must_use]
pub fn max_frame_len(raw_len: u32, slots: usize) -> u32 {
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let small = (128_u32 << 10).saturating_sub(raw_len) >> 11;
    raw_len
        .saturating_add(raw_len >> 8)
        .saturating_add(small)
        .saturating_add(slots.saturating_mul(6))
        .saturating_add(64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = ChunkHeader> {
        let gaps = proptest::collection::vec((0_u32..300, 3_u32..300), 0..60);
        (any::<[u8; 32]>(), gaps, 1_u32..5000, 1_u32..2000).prop_map(
            |(name, gaps, raw_rest, frame_rest)| {
                let (mut raw, mut frame) = (0, 0);
                let mut slots = Vec::new();
                for (raw_gap, frame_gap) in gaps {
                    let slot = Slot { raw: raw + raw_gap, frame: frame + frame_gap };
                    (raw, frame) = (slot.raw + SLOT, slot.frame + SLOT);
                    slots.push(slot);
                }
                let raw_len = (raw + raw_rest).max(frame);
                let frame_len = (frame + frame_rest).min(max_frame_len(raw_len, slots.len()));
                ChunkHeader { name: ChunkName::from_bytes(name), raw_len, frame_len, slots }
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip(header in header(), tail: Vec<u8>) {
            prop_assert_eq!(header.check(), Ok(()));
            let mut bytes = Vec::new();
            header.encode_into(&mut bytes);
            let len = bytes.len();
            prop_assert_eq!(header.encoded_len(), len);
            for cut in [0, 1, FIXED_LEN - 1, len - 1] {
                prop_assert_eq!(ChunkHeader::decode(&bytes[..cut]), Ok(None));
            }
            bytes.extend(tail);
            prop_assert_eq!(ChunkHeader::decode(&bytes), Ok(Some((header, len))));
        }

        #[test]
        fn what_decodes_is_canonical(header in header(), at in 32_usize..200, byte: u8) {
            let mut bytes = Vec::new();
            header.encode_into(&mut bytes);
            let at = 32 + (at - 32) % (bytes.len() - 32);
            bytes[at] = byte;
            if let Ok(Some((decoded, len))) = ChunkHeader::decode(&bytes) {
                prop_assert_eq!(decoded.check(), Ok(()));
                let mut again = Vec::new();
                decoded.encode_into(&mut again);
                prop_assert_eq!(&again[..], &bytes[..len]);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = ChunkHeader::decode(&bytes);
        }
    }

    #[test]
    fn the_widest_slot_table_fits_its_length_field() {
        let slots: Vec<_> =
            (0..4096).map(|index| Slot { raw: index * 1024, frame: index * 1024 }).collect();
        let raw_len = MAX_CHUNK_RAW_LEN;
        let header = ChunkHeader {
            name: ChunkName::from_bytes([1; 32]),
            raw_len,
            frame_len: raw_len,
            slots,
        };
        let mut bytes = Vec::new();
        header.encode_into(&mut bytes);
        assert_eq!(ChunkHeader::decode(&bytes), Ok(Some((header, bytes.len()))));
    }
}
