//! Why a queue cannot be used, each with the next step.

use std::io;
use std::path::PathBuf;

use crate::exit::{Exit, Failure};

/// A queue that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Nothing says where the queue is.
    #[error(
        "neither XDG_STATE_HOME nor HOME is set to an absolute path: name the queue's folder \
        with --queue"
    )]
    NoHome,
    /// A file or folder of the queue cannot be made, read or removed.
    #[error("cannot use the queue's {}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database refuses a statement.
    #[error("cannot use the queue's {}", .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// A newer program has made the database.
    #[error(
        "{} has the schema {found}, and this `snowbank` knows schemas up to {known}; use the newer \
         `snowbank`, which has made it", .path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// The queue has as many entries as it may.
    #[error("the queue {} is full ({max} entries); is `snowbank queue run` running? \
        --max-entries raises the limit", .folder.display())]
    Full {
        /// The queue's folder.
        folder: PathBuf,
        /// How many it takes.
        max: u64,
    },
    /// Another process works on the queue.
    #[error(
        "another process (`queue run` or `watch-store`) pushes what is in the queue {}; one is \
         enough", .folder.display()
    )]
    Locked {
        /// The queue's folder.
        folder: PathBuf,
    },
}

impl From<QueueError> for Failure {
    fn from(error: QueueError) -> Self {
        let exit = match &error {
            QueueError::NoHome | QueueError::Newer { .. } => Exit::Config,
            QueueError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Config
            }
            QueueError::Locked { .. } => Exit::Conflict,
            _ => Exit::Unexpected,
        };
        Self::new(exit, error)
    }
}
