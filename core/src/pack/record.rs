//! One chunk's record in a pack, as ranged reads bring it.

use std::ops::Range;

use twox_hash::XxHash3_64;

use super::PackError;
use crate::frame::ChunkHeader;

/// Bytes before the chunk header.
const PREFIX_LEN: usize = 8 + 8;

/// Where a record is in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordSpan {
    /// Where it begins.
    pub offset: u32,
    /// Its bytes.
    pub len: u32,
}

impl RecordSpan {
    /// Where it ends.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset as u64 + self.len as u64
    }
}

/// A record whose checksum holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The chunk's id.
    pub id: u64,
    /// The chunk's header.
    pub header: ChunkHeader,
    /// The chunk's frame.
    pub frame: &'a [u8],
    /// Where the frame is in the bytes that were parsed.
    pub frame_range: Range<usize>,
}

impl<'a> Record<'a> {
    /// Parses exactly one record.
    ///
    /// # Errors
    /// [`PackError`] when the bytes are damaged, or are fewer or more than a record.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PackError> {
        let (record, consumed) = Self::parse_prefix(bytes)?;
        if consumed == bytes.len() {
            Ok(record)
        } else {
            Err(PackError::Inconsistent("bytes follow the record"))
        }
    }

    /// Parses the record at the beginning of `bytes`; gives it and its length.
    ///
    /// # Errors
    /// [`PackError`] when the bytes are damaged, or are fewer than a record.
    pub fn parse_prefix(bytes: &'a [u8]) -> Result<(Self, usize), PackError> {
        const CUT_OFF: PackError = PackError::Truncated("a record is incomplete");
        let (id, rest) = bytes.split_first_chunk().ok_or(CUT_OFF)?;
        let (checksum, rest) = rest.split_first_chunk().ok_or(CUT_OFF)?;
        let id = u64::from_le_bytes(*id);
        let (header, header_len) = ChunkHeader::decode(rest)?.ok_or(CUT_OFF)?;
        let checked_len = header_len + header.frame_len as usize;
        let checked = rest.get(..checked_len).ok_or(CUT_OFF)?;
        if XxHash3_64::oneshot_with_seed(id, checked) != u64::from_le_bytes(*checksum) {
            return Err(PackError::Checksum { id });
        }
        let frame_range = PREFIX_LEN + header_len..PREFIX_LEN + checked_len;
        let consumed = frame_range.end;
        Ok((Self { id, header, frame: &checked[header_len..], frame_range }, consumed))
    }
}

/// Bytes of the record of a chunk.
pub(super) fn len(header: &ChunkHeader) -> usize {
    PREFIX_LEN + header.encoded_len() + header.frame_len as usize
}

/// Appends a record.
pub(super) fn write(out: &mut Vec<u8>, id: u64, header: &ChunkHeader, frame: &[u8]) {
    out.reserve(len(header));
    out.extend_from_slice(&id.to_le_bytes());
    let checksum_at = out.len();
    out.extend_from_slice(&[0; 8]);
    let checked_at = out.len();
    header.encode_into(out);
    out.extend_from_slice(frame);
    let checksum = XxHash3_64::oneshot_with_seed(id, &out[checked_at..]);
    out[checksum_at..checked_at].copy_from_slice(&checksum.to_le_bytes());
}
