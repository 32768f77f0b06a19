//! The formats that Snowbank's server and client agree on, for anybody who wants to read or write
//! them.
//!
//! | module | format |
//! |---|---|
//! | [`store_path`] | store paths |
//! | [`hash`], [`signing`] | SHA-256 digests and ed25519 keys as Nix writes them |
//! | [`nar`], [`narinfo`] | the archive that Nix ships, and the text that describes it |
//! | [`mask`], [`cut`], [`chunk`] | a NAR without its store hashes, cut into chunks by content |
//! | [`frame`] | a compressed chunk, into which store hashes can be written back |
//! | [`bundle`], [`pack`] | many frames: in a request, and in the object store |
//! | [`manifest`] | the list of chunks and store hashes that make up a NAR |
//! | [`receipt`] | a server's signed promise about a path |
//! | [`wire`], [`token`] | the JSON of the HTTP API, and the look of its tokens |
//! | [`attic`] | the JSON of attic's HTTP API, and what its tokens allow |
//! | [`cache_name`], [`pin_name`], [`pattern`] | names of caches and pins, patterns with `*` |
//! | [`units`] | sizes and lengths of time in messages and settings |
//!
//! The crate opens no file and no socket. It reads no clock and draws no random number: the caller
//! brings bytes, times and seeds. Every parser takes bytes from outside, and either understands all
//! of them or returns an error that says why not.
//!
//! A NAR on its way from a client to a reader:
//!
//! ```
//! use snowbank_core::chunk::{Chunker, CutParams};
//! use snowbank_core::frame::{FrameDecoder, FrameEncoder, fill};
//! use snowbank_core::nar::encode;
//! use snowbank_core::store_path::StoreDir;
//!
//! // A NAR of one file. The file names a store path.
//! let text = b"see /nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-hello";
//! let mut nar = Vec::new();
//! encode::magic(&mut nar);
//! encode::regular_start(&mut nar, false, text.len() as u64);
//! nar.extend_from_slice(text);
//! encode::regular_end(&mut nar, text.len() as u64);
//!
//! // The client cuts the NAR into chunks, here one. The hash is no part of the chunk's bytes.
//! let mut chunks = Vec::new();
//! let mut chunker = Chunker::new(&StoreDir::default(), CutParams::DEFAULT)?;
//! chunker.feed(&nar, &mut |chunk| chunks.push(chunk));
//! chunker.finish(&mut |chunk| chunks.push(chunk));
//! let chunk = &chunks[0];
//! assert_eq!(chunk.values[0].to_string(), "1b9p07z77phvv2hf6gm9f28syp39f1ag");
//!
//! // It compresses the chunk and sends the frame.
//! let mut encoded = FrameEncoder::new(3).encode(chunk, &chunk.name())?;
//!
//! // The server writes the hash into the frame, and serves zstd of the true bytes.
//! fill(&mut encoded.frame, &encoded.header.slots, &chunk.values)?;
//! let mut served = Vec::new();
//! FrameDecoder::new().decode_into(&encoded.frame, encoded.header.raw_len, &mut served)?;
//! assert_eq!(served, nar);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::missing_errors_doc)]

pub mod attic;
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
