//! Manifests: the chunks, and the values in their slots, that make up a NAR.
//!
//! The *wire* manifest has the names of the chunks, as a client knows them. The *stored* manifest
//! is kept with the NAR's row. It has the chunks' ids and lengths, in segments that can be read one
//! by one. Both are binary and have one encoding each. A decoder never allocates more than a small
//! multiple of the bytes that it was given, and at most [`MAX_MANIFEST_ENTRIES`].
//!
//! The [`ContentDigest`] is the same for both: it covers names and values, and no id.
//!
//! ```
//! use snowbank_core::chunk::Chunk;
//! use snowbank_core::manifest::WireManifest;
//!
//! let chunks = [b"first ", b"second"].map(|bytes| Chunk::closed(bytes.to_vec()));
//! let manifest =
//!     WireManifest { names: chunks.iter().map(Chunk::name).collect(), values: vec![] };
//! let bytes = manifest.encode();
//! assert_eq!(WireManifest::decode(&bytes)?, manifest);
//! assert!(WireManifest::decode(&bytes[..40]).is_err());
//! # Ok::<(), snowbank_core::manifest::ManifestError>(())
//! ```

mod digest;
mod read;
mod segment;
mod values;
mod wire;

use thiserror::Error;

pub use self::{
    digest::{ContentDigest, ContentDigester},
    segment::{SEGMENT_CHUNKS, SEGMENT_SLOTS, Segment, SegmentBuilder, SegmentEntry},
    wire::{ManifestCounts, WireManifest},
};

/// Most bytes of an encoded manifest.
pub const MAX_MANIFEST_BYTES: usize = 16 << 20;
/// Most chunks and slot values together in a wire manifest.
pub const MAX_MANIFEST_ENTRIES: usize = 2_000_000;
/// Most slot values of a manifest. A chunker leaves no more open in one NAR: what comes then is
/// closed.
pub const MAX_MANIFEST_SLOTS: usize = 1 << 20;
/// Most bytes of a wire manifest that a chunker spends on slot values; the rest is for chunk names.
pub const SLOT_BUDGET_BYTES: usize = MAX_MANIFEST_BYTES / 2;

/// Why a manifest is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ManifestError {
    /// It was written by a later version.
    #[error("the manifest has format version {0}, which is not known here: update this program")]
    Version(u8),
    /// It has too many bytes.
    #[error("the manifest has {0} bytes; at most {MAX_MANIFEST_BYTES} are allowed")]
    Bytes(usize),
    /// It has too many chunks and slot values.
    #[error(
        "the manifest has {0} chunks and slot values; at most {MAX_MANIFEST_ENTRIES} are allowed, \
         of which {MAX_MANIFEST_SLOTS} slot values"
    )]
    Entries(u64),
    /// It has more chunks or slot values than the NAR that it is said to describe.
    #[error("the manifest has more chunks or slots than a NAR of {0} bytes has room for")]
    Room(u64),
    /// It ends too early.
    #[error("the manifest is cut off")]
    Truncated,
    /// It is not in its only form.
    #[error("the manifest is not in its only form: {0}")]
    NotCanonical(&'static str),
    /// The text that should carry it is no base64.
    #[error("the manifest is no standard base64")]
    Base64(#[source] base64::DecodeError),
}
