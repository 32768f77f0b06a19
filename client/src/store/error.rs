//! Why the Nix store could not answer, each with the way out.

use std::io;
use std::path::PathBuf;

use crate::exit::{Exit, Failure};

/// A question to the Nix store that got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A store address of a kind that is not supported.
    #[error(
        "cannot use the store {uri:?}: {reason}; it must be a store on this machine (auto, \
         daemon, unix://SOCKET, local, local?root=DIR or DIR)"
    )]
    Address {
        /// The address.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon's socket cannot be used.
    #[error("cannot connect to the Nix daemon at {}; is it running, and may this user talk to \
        it?", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No daemon listens, and `nix-daemon --stdio` could not be started either.
    #[error("no Nix daemon is listening, and `nix-daemon` cannot be started{}", way_out(.source))]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost the connection to the Nix daemon{}", stderr_clause(.stderr))]
    Broken {
        /// What a `nix-daemon` of ours wrote before it ended.
        stderr: String,
        /// How.
        #[source]
        source: io::Error,
    },
    /// What came is not the worker protocol, or a version that is not spoken here.
    #[error("cannot talk to the Nix daemon: {0}")]
    Protocol(String),
    /// Nix answered with an error.
    #[error("Nix says: {0}")]
    Nix(String),
    /// No store is where one was named.
    #[error("there is no Nix store at {uri:?}: {} does not exist; is the path \
        right?", .database.display())]
    Nowhere {
        /// The address.
        uri: String,
        /// The folder in which Nix would keep what it knows of the store's paths.
        database: PathBuf,
    },
    /// An argument that names no store path.
    #[error("{argument:?} names no store path: {reason}")]
    Installable {
        /// The argument.
        argument: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn way_out(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound { "; is Nix installed and in PATH?" } else { "" }
}

fn stderr_clause(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it said: {stderr}") }
}

/// The error for a path that Nix knew a moment ago.
pub const COLLECTED: &str = "Nix no longer knows it: it was garbage-collected before it could be \
    pushed, since nothing kept it. Build it again with a result link (`nix build` without \
    `--no-link`), which keeps it";

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::Store, error)
    }
}
