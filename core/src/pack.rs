//! Packs: immutable objects of up to 16 MiB that hold chunks at rest. The chunk index can be
//! rebuilt from packs alone.
//!
//! ```text
//! head    magic "SNOWPACK" | version u32 | flags u32 (0) | domain u64 | pack key 16 (40 bytes)
//! record  id u64 | checksum u64 | chunk header | frame; any number of these
//! table   id u64 | record offset u32 | chunk header; one per record, in order
//! footer  table offset u32 | table bytes u32 | records u32 | BLAKE3 of head and table 32 |
//!         version u32 | "SNOWTAIL"
//! ```
//!
//! All numbers are little endian. The checksum is XXH3-64 of the encoded header and the frame with
//! the id as its seed, against bit rot. A writer adds nothing that would take the pack over its
//! limit. A reader is ready for any bytes.
//!
//! ```
//! use snowbank_core::chunk::Chunk;
//! use snowbank_core::frame::FrameEncoder;
//! use snowbank_core::pack::{PackIndex, PackKey, PackWriter, Record};
//!
//! let chunk = Chunk::closed(b"some bytes".to_vec());
//! let encoded = FrameEncoder::new(3).encode(&chunk, &chunk.name())?;
//! let mut writer = PackWriter::new(1, PackKey::from_bytes([9; 16]));
//! let span = writer.add(42, &encoded.header, &encoded.frame)?;
//! let pack = writer.finish();
//!
//! let index = PackIndex::parse(&pack)?;
//! assert_eq!((index.domain, index.entries[0].id, index.entries[0].span), (1, 42, span));
//! let record = Record::parse(&pack[span.offset as usize..][..span.len as usize])?;
//! assert_eq!(record.frame, encoded.frame);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod index;
mod record;

use std::{fmt, str::FromStr};

use thiserror::Error;

pub use self::{
    index::{Footer, PackEntry, PackIndex},
    record::{Record, RecordSpan},
};
use crate::frame::{ChunkHeader, HeaderError};

/// Most bytes of a pack.
pub const MAX_PACK_BYTES: usize = 16 << 20;
/// Bytes of a pack's head.
pub const HEAD_LEN: usize = 8 + 4 + 4 + 8 + 16;
/// Bytes of a pack's footer: what a reader fetches first.
pub const FOOTER_LEN: usize = 4 + 4 + 4 + 32 + 4 + 8;

const HEAD_MAGIC: &[u8; 8] = b"SNOWPACK";
const TAIL_MAGIC: &[u8; 8] = b"SNOWTAIL";
const VERSION: u32 = 1;
/// BLAKE3's context for the footer's hash.
const TABLE_CONTEXT: &str = "snowbank 2026 pack table v1";

/// Why bytes are no pack or no part of one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// The bytes end too early, or offsets point outside of them.
    #[error("the pack is cut off: {0}")]
    Truncated(&'static str),
    /// It does not begin or end as packs do.
    #[error("this is no pack: {0}")]
    NotAPack(&'static str),
    /// It was written by a later version.
    #[error("the pack has format version {0}; this program knows version {VERSION}: update it")]
    Version(u32),
    /// The footer's hash is not that of the head and the table.
    #[error("the pack's table is damaged: its hash differs")]
    Table,
    /// A record's checksum is not that of its bytes.
    #[error("the record of chunk {id} is damaged: its checksum differs")]
    Checksum {
        /// The chunk's id, as the record says.
        id: u64,
    },
    /// A record or table entry contradicts its place.
    #[error("the pack contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// A chunk header is not valid.
    #[error("the pack holds a bad chunk header: {0}")]
    Header(#[from] HeaderError),
    /// The pack would be over its limit.
    #[error(
        "with this chunk the pack would have {bytes} bytes; at most {MAX_PACK_BYTES} are allowed"
    )]
    Full {
        /// Bytes that it would have.
        bytes: usize,
    },
    /// The text is no pack key.
    #[error("`{0}` is no pack key: 32 lower-case hex digits are wanted")]
    Key(String),
}

/// A pack's key: 16 random bytes, never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackKey([u8; 16]);

impl PackKey {
    /// Takes the 16 bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for PackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PackKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackKey({self})")
    }
}

impl FromStr for PackKey {
    type Err = PackError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || PackError::Key(text.chars().take(60).collect());
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 32 || !digits {
            return Err(refused());
        }
        u128::from_str_radix(text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| refused())
    }
}

/// Changes the key that a whole pack was written for, as if it had been written for `key`.
///
/// # Errors
/// [`PackError`] when these bytes are no pack; they are unchanged then.
pub fn rekey(pack: &mut [u8], key: PackKey) -> Result<(), PackError> {
    index::rekey(pack, key)
}

/// Writes one pack in memory.
#[derive(Debug)]
pub struct PackWriter {
    /// The head and the records.
    bytes: Vec<u8>,
    table: Vec<u8>,
    records: u32,
}

impl PackWriter {
    /// Begins a pack of the dedup domain `domain`, to be stored under `key`.
    #[must_use]
    pub fn new(domain: u64, key: PackKey) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(HEAD_MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(&domain.to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        Self { bytes, table: Vec::new(), records: 0 }
    }

    /// Makes room for `bytes` more, so that a pack whose size is known is not moved as it grows.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes.min(MAX_PACK_BYTES));
    }

    /// Adds a chunk; gives where its record is in the pack.
    ///
    /// # Errors
    /// [`PackError::Full`] when the pack would be over its limit (the pack is then as it was);
    /// [`PackError::Inconsistent`] when `frame` is not as long as `header` says;
    /// [`PackError::Header`].
    pub fn add(
        &mut self,
        id: u64,
        header: &ChunkHeader,
        frame: &[u8],
    ) -> Result<RecordSpan, PackError> {
        header.check()?;
        if frame.len() != header.frame_len as usize {
            return Err(PackError::Inconsistent("a frame is not as long as its header says"));
        }
        let bytes = self.bytes_if_added(header);
        if bytes > MAX_PACK_BYTES {
            return Err(PackError::Full { bytes });
        }
        let start = self.bytes.len();
        record::write(&mut self.bytes, id, header, frame);
        // All of it is below MAX_PACK_BYTES, as was just seen.
        let as_u32 = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let span = RecordSpan { offset: as_u32(start), len: as_u32(self.bytes.len() - start) };
        index::write_entry(&mut self.table, id, span, header);
        self.records += 1;
        Ok(span)
    }

    /// Bytes of the pack if it were finished now.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len() + self.table.len() + FOOTER_LEN
    }

    /// Whether it has no records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// How many records it has.
    #[must_use]
    pub const fn records(&self) -> u32 {
        self.records
    }

    /// Bytes of the pack if a chunk of `header` were added and it were finished then.
    #[must_use]
    pub fn bytes_if_added(&self, header: &ChunkHeader) -> usize {
        self.len() + record::len(header) + index::entry_len(header)
    }

    /// The pack's bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let Self { mut bytes, table, records } = self;
        index::write_end(&mut bytes, &table, records);
        bytes
    }
}
