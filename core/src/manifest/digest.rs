//! The digest of a NAR's content: its chunks' names and its slots' values, without ids or places.
//!
//! BLAKE3 in key derivation mode over: the BLAKE3 hash of all names one after the other, that of
//! all values, the count of names and the count of values (u64, little endian). Names and values
//! are hashed apart, so that a stream of segments, which brings them interleaved, gives the same.

use std::fmt;

use crate::{chunk::ChunkName, store_path::StorePathHash};

const CONTEXT: &str = "snowbank 2026 nar content v1";

/// What a NAR's chunks and slot values give.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Takes the 32 bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentDigest({self})")
    }
}

/// Computes a [`ContentDigest`] piece by piece. Names and values may come in turns; the order among
/// each is what counts.
#[derive(Clone, Debug, Default)]
pub struct ContentDigester {
    names: blake3::Hasher,
    name_count: u64,
    values: blake3::Hasher,
    value_count: u64,
}

impl ContentDigester {
    /// A digester of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next chunk's name.
    pub fn name(&mut self, name: &ChunkName) {
        self.names.update(name.as_bytes());
        self.name_count += 1;
    }

    /// The next slot's value.
    pub fn value(&mut self, value: &StorePathHash) {
        self.values.update(value.as_bytes());
        self.value_count += 1;
    }

    /// The digest of what was given.
    #[must_use]
    pub fn finish(&self) -> ContentDigest {
        let digest = blake3::Hasher::new_derive_key(CONTEXT)
            .update(self.names.finalize().as_bytes())
            .update(self.values.finalize().as_bytes())
            .update(&self.name_count.to_le_bytes())
            .update(&self.value_count.to_le_bytes())
            .finalize();
        ContentDigest(*digest.as_bytes())
    }
}
