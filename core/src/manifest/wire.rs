//! The manifest that a client sends.
//!
//! ```text
//! version u8 (1) | chunks varint | chunks × 32-byte name | values as in `values.rs`
//! ```

use super::{
    ContentDigest, ContentDigester, MAX_MANIFEST_BYTES, MAX_MANIFEST_ENTRIES, ManifestError, read::Fields, values,
};
use crate::{chunk::ChunkName, mask::SLOT_LEN, store_path::StorePathHash, varint};

const VERSION: u8 = 1;

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

    /// As [`Self::decode`], for a NAR that is said to have `nar_size` bytes: one with more chunks than bytes, or more slots than
    /// find room, is refused before it takes memory.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_for(bytes: &[u8], nar_size: u64) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Bytes(bytes.len()));
        }
        let mut fields = Fields(bytes);
        fields.version(VERSION)?;
        let chunks = fields.count(32)?;
        let names = fields.arrays::<32>(chunks)?;
        // The values' count comes next; looked at before anything is allocated by it.
        let slots = Fields(fields.0).varint()?;
        let entries = slots.saturating_add(chunks as u64);
        if entries > MAX_MANIFEST_ENTRIES as u64 {
            return Err(ManifestError::Entries(entries));
        }
        if chunks as u64 > nar_size || slots > nar_size / SLOT_LEN as u64 {
            return Err(ManifestError::Room(nar_size));
        }
        let values = values::decode(&mut fields)?;
        fields.end()?;
        Ok(Self { names: names.iter().copied().map(ChunkName::from_bytes).collect(), values })
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
