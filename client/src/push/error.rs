//! Failures that stop a push as a whole.

use std::io;
use std::path::PathBuf;

use snowbank_core::cut::CutParamsError;
use snowbank_core::pin_name::PinName;
use snowbank_core::store_path::StoreDir;

use crate::api::ApiError;
use crate::exit::{Exit, Failure};
use crate::store::StoreError;

/// A push that could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The server failed, or cannot be reached.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The Nix store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cache is for another store.
    #[error(
        "the cache holds paths of {cache}, and this store's are in {local}; push to a cache that \
         was created for {local}"
    )]
    StoreDir {
        /// The cache's store directory.
        cache: String,
        /// This machine's.
        local: StoreDir,
    },
    /// The server is newer than this program, or wrong.
    #[error("the server asks for a way of cutting that cannot be used")]
    Cut(#[from] CutParamsError),
    /// The server named a key that is none.
    #[error("the server names {key:?} as a key of the cache, which is none")]
    Key {
        /// As it was named.
        key: String,
    },
    /// A pin was asked for with more or fewer paths than one.
    #[error(
        "--pin {name} names one path, and {paths} were given; name one, and push others without it"
    )]
    PinOfMany {
        /// The pin.
        name: PinName,
        /// How many were given.
        paths: usize,
    },
    /// The path that was to be pinned is in another cache.
    #[error(
        "`{name}` was not pinned: {store_path} is left to upstream, so that it is not in this \
         cache; --no-upstream-filter pushes it"
    )]
    PinOfUpstream {
        /// The pin.
        name: PinName,
        /// The path.
        store_path: String,
    },
    /// A filter left out the path that was to be pinned.
    #[error(
        "`{name}` was not pinned: {store_path} was left out, since {reason}; change the filter, or \
         pin another path"
    )]
    PinOfLeftOut {
        /// The pin.
        name: PinName,
        /// The path.
        store_path: String,
        /// Why.
        reason: String,
    },
    /// The path is in the cache, and the pin was not made.
    #[error("everything was pushed, but `{name}` was not pinned")]
    NotPinned {
        /// The pin.
        name: PinName,
        /// Why.
        #[source]
        source: ApiError,
    },
    /// Receipts cannot be written.
    #[error("cannot write receipts to {}", .path.display())]
    Receipts {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard input cannot be read for the paths to push.
    #[error("cannot read installables from standard input")]
    Input(#[source] io::Error),
    /// Nothing was named.
    #[error("nothing is named that could be pushed; {}", if *.is_piped {
        "to push what the pipe names, add --stdin: COMMAND | snowbank push CACHE --stdin"
    } else {
        "name store paths or links to them, such as ./result, or give a list of them to --stdin"
    })]
    NothingNamed {
        /// Standard input is a pipe or a file.
        is_piped: bool,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// This program has a fault.
    #[error(
        "the push stopped by a fault of this program ({0}); please report it, and run the push \
         again"
    )]
    Internal(String),
}

impl PushError {
    /// The exit code of the process.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Api(error) => error.exit(),
            Self::Store(_) => Exit::Store,
            Self::NotPinned { source, .. } => source.exit(),
            Self::StoreDir { .. } | Self::PinOfUpstream { .. } | Self::PinOfLeftOut { .. } => {
                Exit::Refused
            }
            Self::NothingNamed { .. } | Self::PinOfMany { .. } => Exit::Usage,
            _ => Exit::Unexpected,
        }
    }
}

impl From<PushError> for Failure {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Api(error) => error.into(),
            PushError::Store(error) => error.into(),
            error => Self::new(error.exit(), error),
        }
    }
}
