//! How the process ends: one code per kind of failure, and the error type that carries it up to
//! `main`.
//!
//! The codes are a promise to scripts: a code never changes its meaning. `snowbank --help` lists
//! them all.

use std::fmt;

/// The exit codes of `snowbank`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done: for a push, every path is in the cache.
    Success = 0,
    /// Something that has no code of its own.
    Unexpected = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration or a token file is missing or wrong.
    Config = 3,
    /// The Nix store cannot be asked, or does not know a path.
    Store = 4,
    /// A path is damaged or missing on this machine's disk.
    Damaged = 5,
    /// The server cannot be reached, or answers too late.
    Unreachable = 6,
    /// The server fails (5xx), or is too busy (429).
    Server = 7,
    /// The server's storage is full (507).
    StorageFull = 8,
    /// The server does not accept the token (401).
    Unauthenticated = 9,
    /// The token does not permit this (403).
    Forbidden = 10,
    /// There is no such cache, or the token may not see it (404).
    NotFound = 11,
    /// The server refuses a path.
    Refused = 12,
    /// The cache has a path with other contents.
    Different = 13,
    /// A receipt does not hold.
    Receipt = 14,
    /// The cache has no such path or pin, or the server no such token (404).
    Absent = 15,
    /// It does not go together with what is there, such as a name that is taken (409).
    Conflict = 16,
    /// Interrupted by SIGINT: 128 + 2.
    Interrupted = 130,
    /// Terminated by SIGTERM: 128 + 15.
    Terminated = 143,
}

impl Exit {
    /// Every code, in rising order.
    pub const ALL: [Self; 19] = [
        Self::Success,
        Self::Unexpected,
        Self::Usage,
        Self::Config,
        Self::Store,
        Self::Damaged,
        Self::Unreachable,
        Self::Server,
        Self::StorageFull,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Refused,
        Self::Different,
        Self::Receipt,
        Self::Absent,
        Self::Conflict,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether `--best-effort` turns this failure into a warning: the server's trouble, never the
    /// caller's mistake.
    #[must_use]
    pub const fn is_forgivable(self) -> bool {
        matches!(self, Self::Unreachable | Self::Server | Self::StorageFull)
    }

    /// The code for two failures of one run: a success gives way to anything, and what only a
    /// person can mend (9 and up) goes before what may pass by itself.
    #[must_use]
    pub const fn worse(self, other: Self) -> Self {
        if self.rank() <= other.rank() { self } else { other }
    }

    /// Lower is more telling.
    const fn rank(self) -> u16 {
        match self.code() {
            0 => u16::MAX,
            code @ 1..=8 => code as u16 + 256,
            code => code as u16,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error on its way to `main`: what to print, and the code to exit with.
///
/// Each layer's error type has its own `From` beside its definition, so that the mapping to a code
/// stands in one place.
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// What to print, with its causes.
    pub error: anyhow::Error,
}

impl Failure {
    /// An error that ends the process with `exit`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// Says what was being done when the error arose.
    #[must_use]
    pub fn context(self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { exit: self.exit, error: self.error.context(doing) }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (exit code {})", self.error, self.exit.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Unexpected, error }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { exit: Exit::Unexpected, error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        let help = crate::cli::Cli::command().render_long_help().to_string();
        for exit in Exit::ALL {
            let start = format!("{:>5}  ", exit.code());
            assert!(help.lines().any(|line| line.starts_with(&start)), "{exit:?} is not in --help");
        }
    }

    #[test]
    fn the_more_telling_of_two_failures_wins() {
        assert_eq!(Exit::Success.worse(Exit::Store), Exit::Store);
        assert_eq!(Exit::Unreachable.worse(Exit::Forbidden), Exit::Forbidden);
        assert_eq!(Exit::Different.worse(Exit::Refused), Exit::Refused);
        assert_eq!(Exit::Success.worse(Exit::Success), Exit::Success);
    }
}
