//! The doors of other clients: NARs that come whole, and narinfos that describe them.
//!
//! A NAR is received first and stored as chunks; a narinfo ties it to a path. Both go through the
//! steps of every push (W1 to W4), so a path is the same by whichever door it came.

mod cutter;
mod decompress;
mod publish;
mod receive;

pub use cutter::NarUploadError;
pub use decompress::{Compression, Decompressor};
pub use publish::{Published, publish, wake};
pub use receive::{NarUpload, ReceivedNar, StoreFailure, UploadError, receive_nar};
