//! Manifest to bytes: what any Nix reads.
//!
//! Nothing here writes to the database (R2); what was read is noted in memory ([`PathUses`]). A NAR
//! goes out as the stored frames, slots filled with the path's own hashes: nothing is decompressed
//! unless the raw stream is asked for, and the length is known before the first byte.

mod bench;
mod error;
mod load;
mod lookups;
mod nar;
mod narinfo;
mod range;
mod representation;
mod small;
mod source;
mod uses;

pub use bench::Bench;
pub use error::ServeError;
pub use lookups::{FoundNar, Lookups};
pub use nar::{NarBody, nar_stream};
pub use narinfo::{Narinfos, RenderedNarinfo, nix_cache_info};
pub use range::{RangeRequest, parse_range};
pub use representation::Representation;
pub use small::{SMALL_NAR_BYTES, SmallNar, SmallNars, charged};
pub use uses::{PathUses, TakenUses};
