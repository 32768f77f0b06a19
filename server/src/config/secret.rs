//! Settings that must not be shown, and the files that they are read from, which are nobody else's.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// Longer than any value that belongs into such a file.
const MAX_BYTES: u64 = 64 * 1024;

/// A secret text. Its `Debug` shows nothing, it has no `Display`, and its memory is cleared when it is dropped.
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

/// Reads a secret file, without the white space around the secret. The error is what to tell the operator.
pub(super) fn read(path: &Path) -> Result<SecretString, String> {
    let failed = |error: std::io::Error| {
        format!(
            "cannot read the secret file {}: {error}. It has to be there and readable for the user that runs this",
            path.display()
        )
    };
    let file = File::open(path).map_err(failed)?;
    if let Some(mode) = exposed(&file.metadata().map_err(failed)?) {
        let path = path.display();
        return Err(format!("the secret file {path} can be read by others (mode {mode:04o}). Run: chmod 600 {path}"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    match text.trim() {
        "" => Err(format!("the secret file {} is empty; write the value into it", path.display())),
        secret => Ok(SecretString::new(secret)),
    }
}

/// The permission bits of a file that others can read.
pub(super) fn exposed_mode(path: &Path) -> Option<u32> {
    exposed(&std::fs::metadata(path).ok()?)
}

fn exposed(metadata: &std::fs::Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o7777;
    (metadata.is_file() && mode & 0o077 != 0).then_some(mode)
}
