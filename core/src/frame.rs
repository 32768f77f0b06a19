//! Frames: compressed chunks, at rest and on their way. A chunk is one zstd frame, with its slots
//! left open in the compressed bytes. The [`ChunkHeader`] before it has the chunk's name and the
//! places of the slots.
//!
//! An open frame holds each slot as the payload of a Raw block of exactly 32 bytes, and no other
//! byte that it decodes to depends on a slot. So [`fill`] writes the slot values over the payloads
//! and has a valid frame of the true bytes, without decompressing anything. [`FrameEncoder`] proves
//! this of every frame that it makes, and [`FrameVerifier`] of every frame from outside.
//!
//! ```
//! use snowbank_core::chunk::Chunk;
//! use snowbank_core::frame::{FrameDecoder, FrameEncoder, FrameVerifier, fill};
//! use snowbank_core::mask::{MASK, SLOT_LEN};
//!
//! // A slot behind 100 bytes.
//! let mut bytes = vec![b'x'; 200];
//! bytes[100..100 + SLOT_LEN].copy_from_slice(&MASK);
//! let value = "1b9p07z77phvv2hf6gm9f28syp39f1ag".parse()?;
//! let chunk = Chunk { bytes, slots: vec![100], values: vec![value] };
//!
//! let encoded = FrameEncoder::new(3).encode(&chunk, &chunk.name())?;
//! let entropy = [7; 32]; // in earnest: random bytes that nobody could foresee
//! FrameVerifier::new().verify(&encoded.header, &encoded.frame, &entropy)?;
//!
//! let mut frame = encoded.frame;
//! fill(&mut frame, &encoded.header.slots, &chunk.values)?;
//! let mut out = Vec::new();
//! FrameDecoder::new().decode_into(&frame, encoded.header.raw_len, &mut out)?;
//! assert_eq!(out, chunk.true_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Source of zstd's own format: RFC 8878.

mod decode;
mod encode;
mod fill;
mod filler;
mod header;
mod sample;
mod verify;
mod walk;

use thiserror::Error;

pub use self::{
    decode::FrameDecoder,
    encode::{EncodedChunk, FrameEncoder},
    fill::fill,
    header::{ChunkHeader, HeaderError, Slot, max_frame_len},
    sample::{FrameSampler, MIN_LEVEL, is_wasteful},
    verify::FrameVerifier,
};
use crate::chunk::ChunkName;

/// Why a frame is refused, or could not be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The header says something that no header may say.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The frame has another length than its header says.
    #[error("the frame has {actual} bytes where its header says {declared}")]
    Length {
        /// As the header says.
        declared: u32,
        /// As it came.
        actual: usize,
    },
    /// The first four bytes are not zstd's (a skippable or legacy frame, or something else).
    #[error("the frame does not begin with zstd's magic number")]
    NotZstd,
    /// A field of zstd's frame header has a value that is not allowed here.
    #[error("the frame's zstd header is refused: {0}")]
    FrameHeader(&'static str),
    /// The content size in zstd's frame header is not the chunk's length.
    #[error("the frame declares {declared} bytes of content for a chunk of {raw_len} bytes")]
    ContentSize {
        /// As zstd's header says.
        declared: u64,
        /// As the chunk's header says.
        raw_len: u32,
    },
    /// The frame needs a larger window than readers must have.
    #[error("the frame needs a window of {window} bytes; at most {limit} are allowed")]
    Window {
        /// As the frame says.
        window: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A block is not allowed, or the blocks do not fill the frame.
    #[error("block {index} of the frame is refused: {reason}")]
    Block {
        /// Which, from 0.
        index: usize,
        /// Why.
        reason: &'static str,
    },
    /// A slot is not exactly the payload of a Raw block.
    #[error("slot {0} is not the payload of a raw block of 32 bytes of its own")]
    SlotBlock(usize),
    /// A slot's bytes do not come out where the header says.
    #[error("slot {0} does not decode to its place in the chunk")]
    SlotPlace(usize),
    /// Bytes outside of the slots depend on what is in them.
    #[error("bytes outside of the frame's slots depend on what is in them")]
    DependsOnSlots,
    /// The frame does not decode to the declared length.
    #[error("the frame does not decode: {0}")]
    Decode(String),
    /// The decoded bytes and slots have another name.
    #[error("the chunk is named {declared} but its bytes and slots give {actual}")]
    Name {
        /// As the header says.
        declared: ChunkName,
        /// As computed.
        actual: ChunkName,
    },
    /// The values to fill in are not as many as the slots.
    #[error("{values} values for {slots} slots")]
    ValueCount {
        /// How many slots there are.
        slots: usize,
        /// How many values were given.
        values: usize,
    },
    /// A slot lies outside of the frame or the chunk.
    #[error("slot {0} lies outside of what it is in")]
    SlotBounds(usize),
    /// A chunk that nothing could have cut: empty, too long, or with slots that overlap.
    #[error("the chunk cannot be encoded: {0}")]
    Chunk(&'static str),
    /// No attempt gave a frame whose slots are independent; close the chunk and encode that.
    #[error("the chunk's slots do not stay open in the compressed bytes")]
    WillNotStayOpen,
    /// zstd itself failed.
    #[error("zstd failed: {0}")]
    Zstd(String),
}

/// zstd's error codes in words.
fn zstd_message(code: usize) -> String {
    zstd::zstd_safe::get_error_name(code).to_owned()
}
