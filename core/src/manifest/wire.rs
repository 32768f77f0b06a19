//! The manifest that a client sends.
//!
//! ```text
//! version u8 (1) | chunks varint | chunks × 32-byte name | values as in `values.rs`
//! ```

use super::{
    ContentDigest, ContentDigester, MAX_MANIFEST_BYTES, MAX_MANIFEST_ENTRIES, MAX_MANIFEST_SLOTS,
    ManifestError, read::Fields, values,
};
use crate::{chunk::ChunkName, mask::SLOT_LEN, store_path::StorePathHash, varint};

const VERSION: u8 = 1;

/// How much a wire manifest says of itself before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestCounts {
    /// Chunks.
    pub chunks: u64,
    /// Slot values.
    pub slots: u64,
}

impl ManifestCounts {
    fn check(self, nar_size: u64) -> Result<Self, ManifestError> {
        let entries = self.slots.saturating_add(self.chunks);
        if entries > MAX_MANIFEST_ENTRIES as u64 || self.slots > MAX_MANIFEST_SLOTS as u64 {
            return Err(ManifestError::Entries(entries));
        }
        if self.chunks > nar_size || self.slots > nar_size / SLOT_LEN as u64 {
            return Err(ManifestError::Room(nar_size));
        }
        Ok(self)
    }
}

/// A NAR as its chunks' names and all its slots' values, both in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireManifest {
    /// The chunks' names.
    pub names: Vec<ChunkName>,
    /// The values of the first chunk's slots, then of the second's, …
    pub values: Vec<StorePathHash>,
}

impl WireManifest {
    /// The binary form. One above the limits is written too, and refused by whoever reads it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 32 * self.names.len() + 2 * self.values.len());
        out.push(VERSION);
        varint::put(&mut out, self.names.len() as u64);
        for name in &self.names {
            out.extend_from_slice(name.as_bytes());
        }
        values::encode(&mut out, &self.values);
        out
    }

    /// Reads the binary form.
    ///
    /// # Errors
    /// [`ManifestError`] when it is over a limit, cut off or not in its only form.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::decode_for(bytes, u64::MAX)
    }

    /// As [`Self::decode`], for a NAR that is said to have `nar_size` bytes: one with more chunks
    /// than bytes, or more slots than find room, is refused before it takes memory.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_for(bytes: &[u8], nar_size: u64) -> Result<Self, ManifestError> {
        // Looked at before anything is allocated by them.
        Self::counts(bytes, nar_size)?;
        let mut fields = Fields(bytes);
        fields.version(VERSION)?;
        let chunks = fields.count(32)?;
        let names = fields.arrays::<32>(chunks)?;
        let values = values::decode(&mut fields)?;
        fields.end()?;
        Ok(Self { names: names.iter().copied().map(ChunkName::from_bytes).collect(), values })
    }

    /// How many chunks and slot values the binary form has, within the limits; nothing is
    /// allocated. See [`Self::decode_for`].
    ///
    /// # Errors
    /// As [`Self::decode`], as far as that shows.
    pub fn counts(bytes: &[u8], nar_size: u64) -> Result<ManifestCounts, ManifestError> {
        Self::counts_from(bytes.len(), nar_size, |start| {
            bytes.get(start..).ok_or(ManifestError::Truncated)
        })
    }

    /// As [`Self::counts`], of a form of `len` bytes, of which `part` gives at least 11 from a
    /// place on, or what there is.
    pub(crate) fn counts_from<B: AsRef<[u8]>>(
        len: usize,
        nar_size: u64,
        part: impl Fn(usize) -> Result<B, ManifestError>,
    ) -> Result<ManifestCounts, ManifestError> {
        if len > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Bytes(len));
        }
        let head = part(0)?;
        let mut fields = Fields(head.as_ref());
        fields.version(VERSION)?;
        let chunks = fields.varint()?;
        let names_at = head.as_ref().len() - fields.0.len();
        let values_at = usize::try_from(chunks)
            .ok()
            .and_then(|chunks| chunks.checked_mul(32)?.checked_add(names_at));
        let values_at = values_at.filter(|at| *at < len).ok_or(ManifestError::Truncated)?;
        let slots = Fields(part(values_at)?.as_ref()).varint()?;
        ManifestCounts { chunks, slots }.check(nar_size)
    }

    /// The digest of the content.
    #[must_use]
    pub fn content_digest(&self) -> ContentDigest {
        let mut digester = ContentDigester::new();
        self.names.iter().for_each(|name| digester.name(name));
        self.values.iter().for_each(|value| digester.value(value));
        digester.finish()
    }
}
