//! The data folder, and the secrets in it.
//!
//! Invariants: a secret file is made with mode 0600, and refused when everyone can read it or a
//! group write it; secrets in the database are sealed with the key in `server-key`, bound to what
//! they are for, so that a copy of the database is no copy of the keys; no secret is ever part of
//! an error, of a log line or of a `Debug` text.

mod data_dir;
mod error;
mod file;
mod sealer;

pub use crate::config::{SecretString, read_secret_file};
pub use data_dir::{DataDir, DataDirLock};
pub use error::SecretError;
pub use file::{restore_secret_file, write_secret_file};
pub use sealer::Sealer;

/// Random bytes from the system.
///
/// # Errors
/// [`SecretError::Random`] when the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
    Ok(bytes)
}

/// A random id of `N` bytes, in hexadecimal.
///
/// # Errors
/// [`SecretError::Random`] when the system gives no random bytes.
pub fn random_id<const N: usize>() -> Result<String, SecretError> {
    use std::fmt::Write;
    let mut id = String::with_capacity(2 * N);
    for byte in random::<N>()? {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
