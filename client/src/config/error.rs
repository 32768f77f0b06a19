//! What can be wrong with the configuration, each with the way out.

use std::path::PathBuf;

use super::path_filter::PatternError;
use crate::exit::{Exit, Failure};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Neither `XDG_CONFIG_HOME` nor `HOME` says where the user's configuration is.
    #[error(
        "neither XDG_CONFIG_HOME nor HOME is set to an absolute path: name a configuration file \
         with --config"
    )]
    NoHome,
    /// A file could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process holds the lock on a file's folder.
    #[error(
        "another process has been changing files beside {0} for two minutes; `fuser -v {1}` names \
         it: end it, or try again",
        .path.display(), .path.parent().unwrap_or(.path).display()
    )]
    Locked {
        /// The file that was to be changed.
        path: PathBuf,
    },
    /// A configuration file is not what it should be.
    #[error("{}: {message}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        message: String,
    },
    /// A server's address is not one.
    #[error("{url:?} is no server address: {reason}; one looks like https://cache.example.org")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A server's name is not one.
    #[error(
        "{name:?} cannot name a server: use 1 to 64 letters, digits, `-`, `_` or `.`, the first a \
         letter or digit"
    )]
    BadServerName {
        /// What was given.
        name: String,
    },
    /// `[SERVER:]CACHE` is not of that form.
    #[error("{given:?} is no cache: {reason}; write CACHE or SERVER:CACHE")]
    BadCache {
        /// What was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern of the command line is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// No such server is configured.
    #[error("no server is named {name:?} ({known}): run `snowbank login {name} URL`")]
    UnknownServer {
        /// What was given.
        name: String,
        /// The servers that there are, in words.
        known: String,
    },
    /// No server is configured at all, or several and none is the default.
    #[error("{0}")]
    NoServer(&'static str),
    /// A client certificate without its key, or a key without its certificate.
    #[error("{0}")]
    NoPair(&'static str),
    /// A token was expected and there is only white space.
    #[error("{source_name} is empty: it must hold a token")]
    EmptyToken {
        /// The file or variable.
        source_name: String,
    },
    /// A token has characters that no token has.
    #[error(
        "{source_name} does not hold a token: a token is one line of printable ASCII without spaces"
    )]
    BadToken {
        /// The file or variable.
        source_name: String,
    },
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = match error {
            ConfigError::BadUrl { .. }
            | ConfigError::BadServerName { .. }
            | ConfigError::BadCache { .. }
            | ConfigError::Pattern(_) => Exit::Usage,
            _ => Exit::Config,
        };
        Self::new(exit, error)
    }
}
