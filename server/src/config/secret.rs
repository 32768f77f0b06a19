//! Settings that must not be shown, and the files that they are read from, which are nobody else's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Longer than any value that belongs into such a file.
const MAX_BYTES: u64 = 64 * 1024;

/// A secret text. Its `Debug` shows nothing, it has no `Display`, and its memory is cleared when it
/// is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Keeps a text secret from here on.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for the one place that uses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretString(…)")
    }
}

impl<'de> Deserialize<'de> for SecretString {
    /// White space around a secret is never part of it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        match text.trim() {
            "" => Err(serde::de::Error::custom("the secret is empty")),
            secret => Ok(Self::new(secret)),
        }
    }
}

/// Why a secret file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot read the secret file {}: {source}. It has to be there and readable for the \
        user that runs this", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has nothing in it.
    #[error("the secret file {} is empty; write the value into it, or restore it from a \
        backup", .0.display())]
    Empty(PathBuf),
    /// Everyone can read it, or a group can change it.
    #[error(
        "the secret file {} is open to others (mode {mode:04o}). Run: chmod 600 {}, or 640 for a \
         group that may read it",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads a secret file, without the white space around the secret. Its group may read it, nobody
/// else.
///
/// # Errors
/// When it cannot be read, is empty, or is open to others.
pub fn read_secret_file(path: &Path) -> Result<SecretString, SecretFileError> {
    let bytes = read(path, |_| true)?;
    let failed = |source| SecretFileError::Read { path: path.to_owned(), source };
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    match text.trim() {
        "" => Err(SecretFileError::Empty(path.to_owned())),
        secret => Ok(SecretString::new(secret)),
    }
}

/// Reads a file with a key, as it is. A public key may be open to all, anything else is a secret.
///
/// # Errors
/// As [`read_secret_file`].
pub fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let is_secret =
        |bytes: &[u8]| !bytes.trim_ascii_start().starts_with(b"-----BEGIN PUBLIC KEY-----");
    let bytes = read(path, is_secret)?;
    if bytes.trim_ascii().is_empty() {
        Err(SecretFileError::Empty(path.to_owned()))
    } else {
        Ok(bytes)
    }
}

fn read(
    path: &Path,
    is_secret: impl Fn(&[u8]) -> bool,
) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let failed = |source| SecretFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = exposed(&file.metadata().map_err(failed)?);
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    match mode {
        Some(mode) if is_secret(&bytes) => {
            Err(SecretFileError::Exposed { path: path.to_owned(), mode })
        }
        _ => Ok(bytes),
    }
}

/// Refuses a secret file that is open to others; one that is not there is not.
///
/// # Errors
/// [`SecretFileError::Exposed`].
pub fn check_secret_file(path: &Path) -> Result<(), SecretFileError> {
    exposed_mode(path)
        .map_or(Ok(()), |mode| Err(SecretFileError::Exposed { path: path.to_owned(), mode }))
}

/// The permission bits of a file that is open to others.
pub(super) fn exposed_mode(path: &Path) -> Option<u32> {
    exposed(&std::fs::metadata(path).ok()?)
}

fn exposed(metadata: &std::fs::Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o7777;
    (metadata.is_file() && mode & 0o027 != 0).then_some(mode)
}
