//! Bundles: the body of a request that brings chunks. It is a sequence of chunk headers, each
//! followed by its frame, and nothing else.
//!
//! [`BundleReader`] takes the body as it comes in, in pieces of any size, and keeps no more than
//! one record and one piece. It checks lengths and limits.
//! [`FrameVerifier`](crate::frame::FrameVerifier) checks the frames.
//!
//! ```
//! use snowbank_core::bundle::{BundleReader, BundleWriter};
//! use snowbank_core::chunk::Chunk;
//! use snowbank_core::frame::FrameEncoder;
//!
//! let chunk = Chunk::closed(b"some bytes".to_vec());
//! let encoded = FrameEncoder::new(3).encode(&chunk, &chunk.name())?;
//! let mut writer = BundleWriter::new();
//! assert!(writer.fits(&encoded.header));
//! writer.add(&encoded.header, &encoded.frame);
//!
//! let mut reader = BundleReader::new();
//! let mut frames = Vec::new();
//! for piece in writer.finish().chunks(10) {
//!     reader.feed(piece);
//!     while let Some((header, frame)) = reader.next()? {
//!         frames.push((header.name, frame));
//!     }
//! }
//! reader.finish()?;
//! assert_eq!(frames, [(chunk.name(), encoded.frame)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use thiserror::Error;

use crate::frame::{ChunkHeader, HeaderError};

/// Most bytes of a bundle.
pub const MAX_BUNDLE_BYTES: usize = 16 << 20;
/// Most chunks in a bundle.
pub const MAX_BUNDLE_ENTRIES: usize = 8192;
/// Most bytes that a bundle's chunks have together.
pub const MAX_BUNDLE_RAW_BYTES: u64 = 512 << 20;
/// What a client makes its bundles until a server says otherwise.
pub const DEFAULT_BUNDLE_BYTES: usize = 8 << 20;
/// What a client does not go below when a proxy refuses larger bodies.
pub const MIN_BUNDLE_BYTES: usize = 512 << 10;

/// Why a bundle is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BundleError {
    /// It has too many bytes.
    #[error("the bundle is over the limit of {MAX_BUNDLE_BYTES} bytes")]
    Bytes,
    /// It has too many chunks.
    #[error("the bundle is over the limit of {MAX_BUNDLE_ENTRIES} chunks")]
    Entries,
    /// Its chunks are too long together.
    #[error("the bundle's chunks are over the limit of {MAX_BUNDLE_RAW_BYTES} uncompressed bytes")]
    RawBytes,
    /// A chunk's header is not valid.
    #[error("chunk {index} of the bundle has a bad header")]
    Header {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// It ends inside of a record.
    #[error("the bundle ends inside of chunk {index}")]
    Truncated {
        /// Which, from 0.
        index: usize,
    },
}

/// What a bundle has used of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BundleSize {
    bytes: usize,
    entries: usize,
    raw_bytes: u64,
}

impl BundleSize {
    fn with(self, header: &ChunkHeader) -> Result<Self, BundleError> {
        let bytes = header.encoded_len() + header.frame_len as usize;
        self.and(Self { bytes, entries: 1, raw_bytes: u64::from(header.raw_len) })
    }

    fn and(self, more: Self) -> Result<Self, BundleError> {
        let bytes = self.bytes + more.bytes;
        let entries = self.entries + more.entries;
        let raw_bytes = self.raw_bytes + more.raw_bytes;
        if bytes > MAX_BUNDLE_BYTES {
            Err(BundleError::Bytes)
        } else if entries > MAX_BUNDLE_ENTRIES {
            Err(BundleError::Entries)
        } else if raw_bytes > MAX_BUNDLE_RAW_BYTES {
            Err(BundleError::RawBytes)
        } else {
            Ok(Self { bytes, entries, raw_bytes })
        }
    }
}

/// Writes one bundle in memory.
#[derive(Clone, Debug, Default)]
pub struct BundleWriter {
    bytes: Vec<u8>,
    used: BundleSize,
}

impl BundleWriter {
    /// An empty bundle.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a chunk of `header` may be added without any limit being passed.
    #[must_use]
    pub fn fits(&self, header: &ChunkHeader) -> bool {
        self.used.with(header).is_ok()
    }

    /// Adds a chunk. Whoever writes asks [`Self::fits`] first: a reader refuses a bundle that is
    /// over a limit.
    pub fn add(&mut self, header: &ChunkHeader, frame: &[u8]) {
        header.encode_into(&mut self.bytes);
        self.bytes.extend_from_slice(frame);
        self.used = BundleSize {
            bytes: self.bytes.len(),
            entries: self.used.entries + 1,
            raw_bytes: self.used.raw_bytes + u64::from(header.raw_len),
        };
    }

    /// Moves all chunks of `other` to the end of this one, unless a limit would be passed; whether
    /// it did.
    pub fn append(&mut self, other: &mut Self) -> bool {
        let Ok(used) = self.used.and(other.used) else { return false };
        self.bytes.append(&mut other.bytes);
        self.used = used;
        other.used = BundleSize::default();
        true
    }

    /// Bytes so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Chunks so far.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.used.entries
    }

    /// The bundle's bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads one bundle as it comes in.
#[derive(Debug, Default)]
pub struct BundleReader {
    /// What came in and was not yet given out, after `start` bytes that were.
    buffer: Vec<u8>,
    start: usize,
    /// The header of the record under way; its bytes are given out already.
    header: Option<ChunkHeader>,
    used: BundleSize,
}

impl BundleReader {
    /// A reader at the beginning of a bundle.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece of the bundle. Call [`Self::next`] until it gives nothing before
    /// feeding more.
    pub fn feed(&mut self, input: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(input);
    }

    /// The next chunk that is complete: its header, and its frame, which is as long as the header
    /// says.
    ///
    /// # Errors
    /// [`BundleError`] when a header is bad or a limit is passed, which is seen at the header,
    /// before the frame came in. The reader is of no more use then.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator cannot say that more must be fed first"
    )]
    pub fn next(&mut self) -> Result<Option<(ChunkHeader, Vec<u8>)>, BundleError> {
        let header = match self.header.take() {
            Some(header) => header,
            None => match self.next_header()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let end = self.start + header.frame_len as usize;
        let Some(frame) = self.buffer.get(self.start..end) else {
            self.header = Some(header);
            return Ok(None);
        };
        let frame = frame.to_vec();
        self.start = end;
        Ok(Some((header, frame)))
    }

    /// Ends the bundle.
    ///
    /// # Errors
    /// [`BundleError::Truncated`] when it ends inside of a record.
    pub fn finish(self) -> Result<(), BundleError> {
        if self.header.is_some() {
            Err(BundleError::Truncated { index: self.used.entries - 1 })
        } else if self.start < self.buffer.len() {
            Err(BundleError::Truncated { index: self.used.entries })
        } else {
            Ok(())
        }
    }

    fn next_header(&mut self) -> Result<Option<ChunkHeader>, BundleError> {
        let index = self.used.entries;
        let decoded = ChunkHeader::decode(&self.buffer[self.start..])
            .map_err(|source| BundleError::Header { index, source })?;
        let Some((header, consumed)) = decoded else {
            return Ok(None);
        };
        self.used = self.used.with(&header)?;
        self.start += consumed;
        Ok(Some(header))
    }
}
