//! Compression of chunks, on threads that may block, with encoders that are used again.

use std::sync::{Arc, Mutex, PoisonError};

use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::{EncodedChunk, FrameEncoder, FrameError};

use super::budget::Permit;
use super::reader::PathChunk;

/// The encoders that are idle. Clones share them.
#[derive(Clone)]
pub(super) struct EncoderPool {
    idle: Arc<Mutex<Vec<FrameEncoder>>>,
    level: i32,
    /// Treat every chunk with slots as one whose slots do not stay open. Real ones are too rare for
    /// tests.
    never_open: bool,
}

/// The result for one chunk.
pub(super) enum EncodeOutcome {
    /// A frame.
    Frame {
        /// The path that the chunk was cut from first.
        path: u32,
        /// The frame and its header.
        encoded: EncodedChunk,
        /// The chunk's permit.
        permit: Permit,
    },
    /// Its slots do not stay open: chunks of that name have to be closed.
    Close(ChunkName),
    /// It cannot be encoded. That happens to no chunk that was cut here.
    Broken(ChunkName, FrameError),
}

impl EncoderPool {
    pub(super) fn new(level: i32, never_open: bool) -> Self {
        Self { idle: Arc::default(), level, never_open }
    }

    /// Encodes `chunks`, in order.
    pub(super) fn encode_all(&self, chunks: Vec<PathChunk>) -> Vec<EncodeOutcome> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut encoder = idle.unwrap_or_else(|| FrameEncoder::new(self.level));
        let outcomes = chunks.into_iter().map(|chunk| self.encode(&mut encoder, chunk)).collect();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
        outcomes
    }

    fn encode(&self, encoder: &mut FrameEncoder, chunk: PathChunk) -> EncodeOutcome {
        let PathChunk { path, name, chunk, permit } = chunk;
        if self.never_open && chunk.is_open() {
            return EncodeOutcome::Close(name);
        }
        match encoder.encode(&chunk, &name) {
            Ok(frame) => EncodeOutcome::Frame { path, encoded: frame, permit },
            Err(FrameError::WillNotStayOpen) => EncodeOutcome::Close(name),
            Err(error) => EncodeOutcome::Broken(name, error),
        }
    }
}
