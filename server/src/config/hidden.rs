//! Values that may hold a secret: never shown, and read from files that are nobody else's.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

/// Longer than any value that belongs into such a file.
const MAX_BYTES: u64 = 64 * 1024;

/// A text that is not shown, since it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Keeps a text from being shown from here on.
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

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// Reads a secret file, without the white space around the secret. The error is what to tell the operator.
pub(super) fn read(path: &Path) -> Result<Hidden, String> {
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
        secret => Ok(Hidden::new(secret)),
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
