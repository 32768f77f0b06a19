//! Why a NAR does not pass verification.

use snowbank_core::chunk::ChunkName;
use snowbank_core::frame::FrameError;
use snowbank_core::nar::decode::NarError;
use thiserror::Error;

use super::WorkerStopped;
use crate::damage::Suspect;
use crate::db::DbError;
use crate::pack::ReadError;

/// Why a manifest is not the NAR that it claims to be.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// These chunks are not stored; the client is to send them again.
    #[error("{} chunks of this NAR are not stored", .0.len())]
    Missing(Vec<ChunkName>),
    /// The stream's SHA-256 or size is not the declared one. What it is instead is not told.
    #[error("the chunks do not make up the declared NAR: {0} differs")]
    Mismatch(&'static str),
    /// The stream is not a well-formed NAR.
    #[error("not a valid NAR: {0}")]
    Nar(#[from] NarError),
    /// Slot values and the slots of the chunks do not fit each other.
    #[error("the manifest has {values} slot values, but its chunks have {slots} slots")]
    Slots {
        /// Values in the manifest.
        values: usize,
        /// Slots found so far.
        slots: usize,
    },
    /// The declared size is beyond what a commit may make the server decode.
    #[error(
        "the NAR is {declared} bytes; this server takes at most {limit} (`[limits] max-nar-size`)"
    )]
    TooLarge {
        /// As declared.
        declared: u64,
        /// As configured.
        limit: u64,
    },
    /// A stored frame does not decode.
    #[error("chunk {chunk}: {source}")]
    Frame {
        /// The chunk's id.
        chunk: u64,
        /// Why.
        source: FrameError,
    },
    /// A stored chunk could not be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The server is stopping.
    #[error(transparent)]
    Stopped(#[from] WorkerStopped),
}

impl VerifyError {
    /// What may be damaged, where that is what the failure looks like.
    pub(super) fn suspect(&self) -> Option<Suspect> {
        match self {
            Self::Read(error) => error.suspect().map(Suspect::Pack),
            Self::Frame { chunk, .. } => Some(Suspect::Chunk(*chunk)),
            _ => None,
        }
    }
}
