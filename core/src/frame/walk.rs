//! Walking a frame's blocks without decoding them: what must hold of a frame before zstd may touch
//! it.
//!
//! Refused are: another magic number; a dictionary, a checksum, a reserved bit; a content size that
//! is absent or not the chunk's length; a window above [`MAX_WINDOW`]; a reserved block type, a
//! block above zstd's own bound, an empty block other than a last Raw one, more blocks than the
//! slots and the length explain; anything behind the last block; a slot that is not exactly the
//! payload of a Raw block of 32 bytes.

use super::{ChunkHeader, FrameError, Slot};
use crate::mask::SLOT_LEN;

/// Most bytes of window that a frame may ask for: what RFC 8878 (3.1.1.1.2) wants every decoder to
/// have.
pub(super) const MAX_WINDOW: u64 = 8 << 20;
/// zstd's magic number, little endian.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Most bytes of a block, compressed or not (RFC 8878, 3.1.1.2.4).
const MAX_BLOCK: u64 = 128 << 10;

/// Most blocks that an honest encoder makes: two per slot, and zstd's own splits, which are far
/// above 256 bytes.
fn max_blocks(header: &ChunkHeader) -> usize {
    2 * header.slots.len() + header.raw_len as usize / 256 + 16
}

/// Walks the blocks of `frame` and holds them against `header`, which must have passed
/// [`ChunkHeader::check`].
pub(super) fn walk(header: &ChunkHeader, frame: &[u8]) -> Result<(), FrameError> {
    let (window, mut at) = frame_header(header, frame)?;
    let block_max = window.min(MAX_BLOCK);
    let mut slots = header.slots.iter().enumerate().peekable();
    let mut plain_len = 0_u64;
    for index in 0..max_blocks(header) {
        let refused = |reason| FrameError::Block { index, reason };
        let truncated = refused("the frame ends inside of it");
        let block_header = frame.get(at..at + 3).ok_or_else(|| truncated.clone())?;
        let block_header =
            u32::from_le_bytes([block_header[0], block_header[1], block_header[2], 0]);
        let (last, kind, size) = (block_header & 1 == 1, block_header >> 1 & 3, block_header >> 3);
        let payload = at + 3;
        let stored = if kind == RLE { 1 } else { size as usize };
        let content = frame.get(payload..payload + stored).ok_or(truncated)?;
        if u64::from(size) > block_max {
            return Err(refused("it is larger than a block may be"));
        }
        match kind {
            RAW | RLE => {
                if size == 0 && !(last && kind == RAW) {
                    return Err(refused("it is empty"));
                }
                plain_len += u64::from(size);
            }
            COMPRESSED if is_empty(content) => return Err(refused("it is empty")),
            COMPRESSED => {}
            _ => return Err(refused("its type is reserved")),
        }
        at = payload + stored;
        if let Some((slot, _)) = slots.next_if(|(_, slot)| (slot.frame as usize) < at) {
            let Slot { frame: start, .. } = header.slots[slot];
            if kind != RAW || start as usize != payload || stored != SLOT_LEN {
                return Err(FrameError::SlotBlock(slot));
            }
        }
        if plain_len > u64::from(header.raw_len) {
            return Err(refused("the blocks hold more than the frame's content"));
        }
        if last {
            return match slots.next() {
                Some((slot, _)) => Err(FrameError::SlotBlock(slot)),
                None if at != frame.len() => Err(refused("bytes follow the last block")),
                None => Ok(()),
            };
        }
    }
    Err(FrameError::Block {
        index: max_blocks(header),
        reason: "there are more blocks than the chunk's length and slots explain",
    })
}

/// Block types (RFC 8878, 3.1.1.2.2); the first two are also types of a block's literals.
const RAW: u32 = 0;
const RLE: u32 = 1;
const COMPRESSED: u32 = 2;

/// Checks zstd's frame header; gives the window in bytes and where the first block begins.
fn frame_header(header: &ChunkHeader, frame: &[u8]) -> Result<(u64, usize), FrameError> {
    let refused = FrameError::FrameHeader;
    let rest = frame.strip_prefix(&MAGIC).ok_or(FrameError::NotZstd)?;
    let (&descriptor, rest) = rest.split_first().ok_or(refused("it is cut off"))?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x18 != 0 {
        return Err(refused("a reserved bit is set"));
    }
    if descriptor & 0x04 != 0 {
        return Err(refused("it announces a checksum, which open slots would break"));
    }
    if descriptor & 0x03 != 0 {
        return Err(refused("it wants a dictionary"));
    }
    let (window, rest) = if single_segment {
        (None, rest)
    } else {
        let (&byte, rest) = rest.split_first().ok_or(refused("it is cut off"))?;
        let base = 1_u64 << (10 + (byte >> 3));
        (Some(base + base / 8 * u64::from(byte & 7)), rest)
    };
    let (size_len, bias) = match descriptor >> 6 {
        0 if !single_segment => return Err(refused("it does not say its content's size")),
        0 => (1, 0),
        1 => (2, 256),
        2 => (4, 0),
        _ => (8, 0),
    };
    let size = rest.get(..size_len).ok_or(refused("it is cut off"))?;
    let mut bytes = [0; 8];
    bytes[..size_len].copy_from_slice(size);
    let declared = u64::from_le_bytes(bytes).saturating_add(bias);
    if declared != u64::from(header.raw_len) {
        return Err(FrameError::ContentSize { declared, raw_len: header.raw_len });
    }
    let window = window.unwrap_or(declared);
    if window > MAX_WINDOW {
        return Err(FrameError::Window { window, limit: MAX_WINDOW });
    }
    Ok((window, MAGIC.len() + 1 + usize::from(!single_segment) + size_len))
}

/// Whether a compressed block decodes to nothing: no literals, and no sequences behind them (RFC
/// 8878, 3.1.1.3).
fn is_empty(block: &[u8]) -> bool {
    let mut start = [0; 4];
    for (place, byte) in start.iter_mut().zip(block) {
        *place = *byte;
    }
    let bits = u32::from_le_bytes(start);
    let size_at = |at: u32, len: u32| bits >> at & ((1 << len) - 1);
    let (literals, sequences_at) = match (bits & 3, bits >> 2 & 3) {
        (RAW, 0 | 2) => (size_at(3, 5), 1),
        (RAW, 1) => (size_at(4, 12), 2),
        (RAW, _) => (size_at(4, 20), 3),
        (RLE, 0 | 2) => (size_at(3, 5), 2),
        (RLE, 1) => (size_at(4, 12), 3),
        (RLE, _) => (size_at(4, 20), 4),
        // Behind Huffman-coded literals anything may come: none of them is no use to anyone but a
        // forger.
        (_, 0 | 1) => return size_at(4, 10) == 0,
        (_, 2) => return size_at(4, 14) == 0,
        (_, _) => return size_at(4, 18) == 0,
    };
    literals == 0 && block.get(sequences_at).is_none_or(|&sequences| sequences == 0)
}
