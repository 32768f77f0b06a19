//! Why a NAR is not served.

use std::sync::Arc;

use snowbank_core::frame::FrameError;
use thiserror::Error;

use crate::damage::Suspect;
use crate::db::DbError;
use crate::pack::ReadError;

/// Why a NAR could not be served to its end. The connection is broken off, so that no client takes
/// it for complete.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The database failed or contradicts itself.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The same, told to all that asked together.
    #[error(transparent)]
    Shared(#[from] Arc<DbError>),
    /// A chunk could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A frame cannot be filled or decoded.
    #[error("chunk {chunk}: {source}")]
    Frame {
        /// The chunk's id.
        chunk: u64,
        /// Why.
        source: FrameError,
    },
    /// The manifest does not parse.
    #[error("the manifest is damaged: {0}")]
    Manifest(String),
    /// Manifest and chunk disagree.
    #[error("chunk {0} is not as long as the manifest says, or is gone")]
    Chunk(u64),
    /// A worker thread stopped.
    #[error("a worker thread stopped before it had finished")]
    Stopped,
}

impl ServeError {
    /// What may be damaged, where that is what the failure looks like.
    #[must_use]
    pub fn suspect(&self) -> Option<Suspect> {
        match self {
            Self::Frame { chunk, .. } | Self::Chunk(chunk) => Some(Suspect::Chunk(*chunk)),
            Self::Manifest(_)
            | Self::Database(DbError::Corrupt(_))
            | Self::Read(ReadError::Database(DbError::Corrupt(_))) => Some(Suspect::Manifest),
            Self::Read(error) => error.suspect().map(Suspect::Pack),
            Self::Database(_) | Self::Shared(_) | Self::Stopped => None,
        }
    }
}
