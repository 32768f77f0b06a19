//! A question on the terminal, before a command that cannot be undone.

use std::io::{self, IsTerminal as _, Write as _};

/// Why a command ends without having done anything.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// Standard input is no terminal, so nobody can answer.
    #[error("{0} Nothing was done; add --yes where nobody can be asked")]
    NoTerminal(String),
    /// The answer was not the expected word.
    #[error("nothing was done")]
    Declined,
    /// The terminal cannot be written to or read from.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes `what` to standard error and waits until somebody types `word`.
///
/// # Errors
/// [`ConfirmError`] for any other answer, and where there is no terminal.
pub fn confirm(what: &str, word: &str) -> Result<(), ConfirmError> {
    if !io::stdin().is_terminal() {
        return Err(ConfirmError::NoTerminal(what.to_owned()));
    }
    write!(io::stderr(), "{what} Type `{word}` to go on: ")?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    if line.trim() == word { Ok(()) } else { Err(ConfirmError::Declined) }
}
