//! Why a store cannot be watched, each with the next step.

use std::io;
use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::queue::QueueError;
use crate::store::StoreError;

/// A store that cannot be watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The system does not report changes in the store's folder.
    #[error(
        "cannot watch {}; where the system's limit is the reason, \
         `sysctl fs.inotify.max_user_instances` and `fs.inotify.max_user_watches` show it",
        .folder.display()
    )]
    Watch {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: notify::Error,
    },
    /// The store's folder cannot be listed.
    #[error("cannot list {}", .folder.display())]
    List {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nix cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Store(error) => error.into(),
            WatchError::Queue(error) => error.into(),
            other => Self::new(Exit::Store, other),
        }
    }
}
