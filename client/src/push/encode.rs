//! Compressing chunks, on threads that may block, with encoders that are kept.

use std::sync::{Arc, Mutex, PoisonError};

use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::{Encoded, FrameEncoder, FrameError};

use super::budget::Held;
use super::read::Pending;

/// Encoders that nobody uses at the moment. Clones share them.
#[derive(Clone)]
pub(super) struct Encoders {
    idle: Arc<Mutex<Vec<FrameEncoder>>>,
    level: i32,
    /// Treat every chunk with slots as one whose slots do not stay open. Real ones are too rare for
    /// tests.
    never_open: bool,
}

/// What came of a chunk.
pub(super) enum Outcome {
    /// A frame.
    Frame {
        /// The path whose reading brought the chunk up.
        path: u32,
        /// The frame and its header.
        encoded: Encoded,
        /// What the chunk held.
        held: Held,
    },
    /// Its slots do not stay open: chunks of that name have to be closed.
    Close(ChunkName),
    /// It cannot be encoded, which no chunk that was cut here should be.
    Broken(ChunkName, FrameError),
}

impl Encoders {
    pub(super) fn new(level: i32, never_open: bool) -> Self {
        Self { idle: Arc::default(), level, never_open }
    }

    /// Encodes `chunks`, in order.
    pub(super) fn encode_all(&self, chunks: Vec<Pending>) -> Vec<Outcome> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut encoder = idle.unwrap_or_else(|| FrameEncoder::new(self.level));
        let outcomes = chunks.into_iter().map(|chunk| self.encode(&mut encoder, chunk)).collect();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
        outcomes
    }

    fn encode(&self, encoder: &mut FrameEncoder, pending: Pending) -> Outcome {
        let Pending { path, name, chunk, held } = pending;
        if self.never_open && chunk.is_open() {
            return Outcome::Close(name);
        }
        match encoder.encode(&chunk, &name) {
            Ok(made) => Outcome::Frame { path, encoded: made, held },
            Err(FrameError::WillNotStayOpen) => Outcome::Close(name),
            Err(error) => Outcome::Broken(name, error),
        }
    }
}
