//! What Snowbank's server and client must agree on, and nothing else: store paths, hashes, NAR,
//! narinfo, signing, masking, chunking, frames, packs, bundles, manifests, receipts and wire types.
//!
//! Nothing here opens a file or a socket, reads a clock or draws a random number: whoever calls
//! brings the bytes, the time and the seeds. Every parser takes bytes from outside and either
//! understands all of them or says why not.

pub mod bundle;
pub mod cache_name;
pub mod chunk;
pub mod cut;
pub mod frame;
pub mod hash;
pub mod manifest;
pub mod mask;
pub mod nar;
pub mod narinfo;
pub mod pack;
pub mod pattern;
pub mod pin_name;
pub mod receipt;
pub mod signing;
pub mod store_path;
pub mod token;
pub mod units;
mod varint;
pub mod wire;
