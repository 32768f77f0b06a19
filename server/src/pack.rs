//! Chunks ↔ packs: immutable objects that hold many chunk frames, written once and read by range.
//!
//! Invariant: a pack object never changes and its key is never used again, so a range of it may be
//! cached for ever. This layer knows where bytes lie; what they mean to a NAR is `ingest`'s and
//! `serving`'s business.

mod ahead;
mod budget;
mod ids;
mod read;
mod write;

pub use ahead::FetchPlan;
pub use budget::{ReadBudget, ReadPermit};
pub use ids::ChunkIds;
pub use read::{ReadError, StoredChunk, read_chunks, read_chunks_over, read_cost};
pub use write::{MovedRecord, NewRecord, PackWriteError, Packs, RewriteOutcome};

use snowbank_core::pack::PackKey;

/// The storage key of a pack object: `packs/<first two hex digits>/<32 hex digits>`.
#[must_use]
pub fn pack_object_key(key: &PackKey) -> String {
    let hex = key.to_string();
    format!("packs/{}/{hex}", &hex[..2])
}

/// The inverse of [`pack_object_key`]; `None` for a key that no pack has.
#[must_use]
pub fn pack_of_object(object: &str) -> Option<PackKey> {
    let key = object.rsplit('/').next()?.parse().ok()?;
    (pack_object_key(&key) == object).then_some(key)
}

#[cfg(test)]
mod tests {
    use snowbank_core::chunk::ChunkName;

    use super::*;
    use crate::db::chunks::ChunkLocation;
    use crate::db::packs::PackId;

    /// A chunk of some pack.
    pub(super) fn at(pack: u8, offset: u32, len: u32) -> ChunkLocation {
        ChunkLocation {
            id: u64::from(offset),
            name: ChunkName::from_bytes([0; 32]),
            pack: PackId(pack.into()),
            pack_key: PackKey::from_bytes([pack; 16]),
            offset,
            len,
        }
    }

    #[test]
    fn an_objects_key_is_that_of_one_pack() {
        let key = PackKey::from_bytes([0xab; 16]);
        let object = pack_object_key(&key);
        assert_eq!(pack_of_object(&object), Some(key));
        for other in [
            "snowbank-instance",
            "packs/ab",
            "packs/ac/abababababababababababababababab",
            &format!("x/{object}"),
        ] {
            assert_eq!(pack_of_object(other), None, "{other}");
        }
    }
}
