//! Why a file gives no key for tokens.

use std::path::PathBuf;

use crate::config::{SecretFileError, TokenAlgorithm};

/// The shortest secret for HS256: as long as its hash (RFC 7518, 3.2).
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// Why a file gives no token key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read, or is open to others.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// There is no key in it that is of use.
    #[error(
        "{} holds no key for tokens: allowed are an unencrypted private key or a public key in PEM \
         (Ed25519, P-256, or RSA of 2048 to 8192 bits), and for HS256 a secret of at least \
         {MIN_SECRET_BYTES} bytes, in base64 or as it is",
        .0.display()
    )]
    NoKey(PathBuf),
    /// There is no key in it that attic's tokens are signed with.
    #[error(
        "{} holds no key of attic: allowed are, as in its settings, base64 of a secret of at least \
         {MIN_SECRET_BYTES} bytes (HS256), or an unencrypted RSA key in PEM, private or public, or \
         base64 of that (RS256)",
        .0.display()
    )]
    NoLegacyKey(PathBuf),
    /// It is a key, for something else.
    #[error("{} holds a key for {found}, not for {wanted}; name the right algorithm, or another \
        file", path.display())]
    OtherAlgorithm {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        wanted: TokenAlgorithm,
        /// What the key is for.
        found: TokenAlgorithm,
    },
}
