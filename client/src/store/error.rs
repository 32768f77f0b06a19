//! Why the Nix store could not answer, each with the way out.

use std::io;
use std::path::PathBuf;

use crate::exit::{Exit, Failure};

/// A question to the Nix store that got no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A store address of a kind that cannot be pushed from.
    #[error(
        "cannot push from the store {uri:?}: {reason}; it must be a store on this machine (auto, daemon, unix://SOCKET, \
         local, local?root=DIR or DIR)"
    )]
    Address {
        /// The address.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon's socket cannot be used.
    #[error("cannot connect to the Nix daemon at {}; is it running, and may this user talk to it?", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No daemon listens, and `nix-daemon --stdio` could not be started either.
    #[error("no Nix daemon is listening, and `nix-daemon` cannot be started; is Nix installed and in PATH?")]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost the connection to the Nix daemon{}", said(.stderr))]
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
    /// A path that Nix does not know.
    #[error("{path} is not a valid path of the Nix store (no such path was built or fetched here){context}")]
    NotValid {
        /// The path in full.
        path: String,
        /// Which other path needs it, in words that continue the sentence; or nothing.
        context: String,
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

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it said: {stderr}") }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Exit::Store, error)
    }
}
