//! Chunks: pieces of a masked NAR stream, and their names.
//!
//! A chunk with slots is *open*: its bytes are masked, and the values of its slots travel beside
//! it. A chunk without slots is *closed*: its bytes are those of the NAR. The name is a BLAKE3 hash
//! over the bytes and the places of the slots. It does not cover the values, so a rebuild that
//! differs in store hashes alone has chunks of the same names.
//!
//! ```
//! use snowbank_core::chunk::{Chunk, Chunker, CutParams};
//! use snowbank_core::store_path::StoreDir;
//!
//! let open = |bytes: &[u8]| {
//!     let mut chunks = Vec::new();
//!     let mut chunker = Chunker::new(&StoreDir::default(), CutParams::DEFAULT).unwrap();
//!     chunker.feed(bytes, &mut |chunk| chunks.push(chunk));
//!     chunker.finish(&mut |chunk| chunks.push(chunk));
//!     chunks.remove(0)
//! };
//! let one = open(b"/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello");
//! let two = open(b"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello");
//! assert!(one.is_open() && one.values != two.values);
//! assert_eq!(one.name(), two.name());
//! assert_ne!(one.name(), Chunk::closed(one.true_bytes()).name());
//! ```

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

pub use crate::{
    cut::{Chunker, CutParams},
    mask::SLOT_LEN,
};
use crate::{mask::MASK, store_path::StorePathHash};

/// Most bytes of a chunk.
pub const MAX_CHUNK_RAW_LEN: u32 = 4 << 20;

/// Most slots of a chunk: twice what the density rule leaves of [`MAX_CHUNK_RAW_LEN`].
pub const MAX_SLOTS_PER_CHUNK: usize = 4096;

/// A chunk with no more slots than this stays open however dense they are: it cannot cost more than
/// some 500 bytes. Above it, a small file of many store paths (a derivation, an environment's
/// links) would grow to one and a half times its size.
const FEW_SLOTS: usize = 16;

/// A slot for fewer bytes than this is too many. An open slot costs 20 to 35 bytes more than zstd
/// needs for its hash: of Python and of shared libraries with a slot per 1,024 bytes, open frames
/// took 1.13 to 1.15 times plain zstd's at levels 3 and 9, with one per 2,048 bytes 1.06 to 1.08
/// times.
const BYTES_PER_SLOT: usize = 2048;

/// The format's version, as BLAKE3 wants it.
const NAME_CONTEXT: &str = "snowbank 2026 chunk name v1";

/// Text that is no chunk name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no chunk name: 64 lower-case hex digits are wanted")]
pub struct ChunkNameError(String);

/// A chunk's name: BLAKE3 in key derivation mode over its bytes, its slots' offsets and their count
/// (u32, little endian). The count at the end says where the offsets begin, so that no two chunks
/// give the same input.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkName([u8; 32]);

impl ChunkName {
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

    /// The name of a chunk of these masked `bytes`, whose slots begin at the offsets `slots`.
    #[must_use]
    pub fn of(bytes: &[u8], slots: impl IntoIterator<Item = u32>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(NAME_CONTEXT);
        hasher.update(bytes);
        let mut tail = Vec::new();
        let mut count = 0_u32;
        for slot in slots {
            tail.extend_from_slice(&slot.to_le_bytes());
            count += 1;
        }
        tail.extend_from_slice(&count.to_le_bytes());
        hasher.update(&tail);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkName({self})")
    }
}

impl FromStr for ChunkName {
    type Err = ChunkNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ChunkNameError(text.chars().take(80).collect());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refused());
        }
        blake3::Hash::from_hex(text).map(|hash| Self(hash.into())).map_err(|_| refused())
    }
}

impl Serialize for ChunkName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChunkName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// One chunk in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// At most [`MAX_CHUNK_RAW_LEN`] bytes: masked when the chunk is open, true when it is closed.
    pub bytes: Vec<u8>,
    /// Where its slots begin in `bytes`, ascending, never overlapping; empty when it is closed.
    pub slots: Vec<u32>,
    /// What its slots hold, in the same order.
    pub values: Vec<StorePathHash>,
}

impl Chunk {
    /// A closed chunk of true bytes.
    #[must_use]
    pub const fn closed(bytes: Vec<u8>) -> Self {
        Self { bytes, slots: Vec::new(), values: Vec::new() }
    }

    /// The chunk's name.
    #[must_use]
    pub fn name(&self) -> ChunkName {
        ChunkName::of(&self.bytes, self.slots.iter().copied())
    }

    /// Whether it has slots.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The same chunk with its values written back and without slots; its name is another.
    #[must_use]
    pub fn close(mut self) -> Self {
        write_values(&mut self.bytes, &self.slots, &self.values);
        Self::closed(self.bytes)
    }

    /// The bytes of the stream that it was cut from.
    #[must_use]
    pub fn true_bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        write_values(&mut bytes, &self.slots, &self.values);
        bytes
    }

    /// Whether slots are too dense for an open frame to pay: more than 16, and more than one per
    /// 2,048 bytes.
    #[must_use]
    pub const fn is_dense(&self) -> bool {
        let slots = self.slots.len();
        slots > MAX_SLOTS_PER_CHUNK
            || (slots > FEW_SLOTS && slots * BYTES_PER_SLOT > self.bytes.len())
    }
}

/// Writes each value over its slot; slots outside of `bytes` are passed over.
fn write_values(bytes: &mut [u8], slots: &[u32], values: &[StorePathHash]) {
    for (&slot, value) in slots.iter().zip(values) {
        let start = slot as usize;
        if let Some(place) = bytes.get_mut(start..start + SLOT_LEN) {
            place.copy_from_slice(&value.to_chars());
        }
    }
}

/// Writes the mask over the slot at `start`; gives the bytes that were there, or nothing when it is
/// outside.
pub(crate) fn mask_slot(bytes: &mut [u8], start: usize) -> Option<[u8; SLOT_LEN]> {
    let place = bytes.get_mut(start..start.checked_add(SLOT_LEN)?)?;
    let was = <[u8; SLOT_LEN]>::try_from(&*place).ok()?;
    place.copy_from_slice(&MASK);
    Some(was)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Chunk {
        let values = vec![StorePathHash::from_bytes([7; 20]), StorePathHash::from_bytes([9; 20])];
        Chunk { bytes: [&MASK[..], b"abc", &MASK[..]].concat(), slots: vec![0, 35], values }
    }

    #[test]
    fn closing_writes_the_values_back() {
        let chunk = open();
        let expected =
            [&chunk.values[0].to_chars()[..], b"abc", &chunk.values[1].to_chars()].concat();
        assert_eq!(chunk.true_bytes(), expected);
        assert_eq!(chunk.close(), Chunk::closed(expected));
    }

    #[test]
    fn names_bind_bytes_and_slots_but_not_values() {
        let chunk = open();
        let name = chunk.name();
        let other_values =
            Chunk { values: vec![chunk.values[1], chunk.values[0]], ..chunk.clone() };
        assert_eq!(other_values.name(), name);
        let fewer_slots = Chunk { slots: vec![0], ..chunk.clone() };
        assert_ne!(fewer_slots.name(), name);
        let other_slots = Chunk { slots: vec![0, 34], ..chunk.clone() };
        assert_ne!(other_slots.name(), name);
        // The offsets' bytes at the end of a closed chunk are not the slots of an open one.
        let offsets: Vec<u8> = chunk.slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        assert_ne!(Chunk::closed([chunk.bytes, offsets].concat()).name(), name);
    }

    #[test]
    fn names_are_written_as_hex_and_read_back() {
        let name = open().name();
        assert_eq!(name.to_string().parse(), Ok(name));
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(serde_json::from_str::<ChunkName>(&json).unwrap(), name);
        assert!(name.to_string().to_uppercase().parse::<ChunkName>().is_err());
        assert!(name.to_string()[1..].parse::<ChunkName>().is_err());
        assert!("ü".repeat(32).parse::<ChunkName>().is_err());
    }

    #[test]
    fn density_begins_above_16_slots_and_one_per_2048_bytes() {
        let with = |slots: u32, len| Chunk {
            bytes: vec![0; len],
            slots: (0..slots).collect(),
            values: vec![],
        };
        assert!(!with(16, 2048).is_dense());
        assert!(with(17, 17 * 2048 - 1).is_dense());
        assert!(!with(17, 17 * 2048).is_dense());
    }
}
