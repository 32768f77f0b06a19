//! Chunks ↔ packs: immutable objects that hold many chunk frames, written once and read by range.
//!
//! Invariant: a pack object never changes and its key is never used again, so a range of it may be cached for ever.
//! This layer knows where bytes lie; what they mean to a NAR is `ingest`'s and `serving`'s business.

mod blocks;
mod budget;
mod ids;
mod read;
mod write;

pub use budget::{ReadBudget, ReadPermit};
pub use ids::ChunkIds;
pub use read::{ReadError, StoredChunk, read_chunks, read_chunks_over, read_cost};
pub use write::{NewRecord, PackWriteError, Packs};

use snowbank_core::pack::PackKey;

/// The storage key of a pack object: `packs/<first two hex digits>/<32 hex digits>`.
#[must_use]
pub fn pack_object_key(key: &PackKey) -> String {
    let hex = key.to_string();
    format!("packs/{}/{hex}", &hex[..2])
}
