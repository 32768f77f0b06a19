//! Where a token is read from, and how: stripped of white space, refused when empty, its file's
//! mode looked at.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{ConfigError, Secret};

/// The longest token file that is read, in bytes: tokens are a few hundred.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// A place that holds a token. Its `Display` names the place, never the token.
#[derive(Clone)]
pub enum TokenSource {
    /// An environment variable, already read.
    Variable(&'static str, Secret),
    /// A file, not yet read.
    File(PathBuf),
}

impl TokenSource {
    /// The token.
    ///
    /// # Errors
    /// A file that is missing, unreadable or empty; what cannot be a token. All name the source.
    pub fn read(&self) -> Result<Secret, ConfigError> {
        match self {
            Self::Variable(name, secret) => checked(Some(secret.clone()), name),
            Self::File(path) => read_token_file(path),
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name, _) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Reads a token from a file, and warns where everybody on this machine can.
///
/// # Errors
/// As [`TokenSource::read`].
pub fn read_token_file(path: &Path) -> Result<Secret, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && metadata.mode() & 0o004 != 0 {
        tracing::warn!(
            "everybody on this machine can read the token in {0}: run `chmod 600 {0}`",
            path.display()
        );
    }
    read_token(file, &path.display().to_string())
}

/// Reads a token from `source`, to its end.
///
/// # Errors
/// As [`TokenSource::read`], with `name` for the source.
pub(crate) fn read_token(source: impl Read, name: &str) -> Result<Secret, ConfigError> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    source
        .take(MAX_TOKEN_BYTES)
        .read_to_string(&mut text)
        .map_err(|source| ConfigError::Read { path: PathBuf::from(name), source })?;
    checked(Secret::from_text(&text), name)
}

fn checked(secret: Option<Secret>, name: &str) -> Result<Secret, ConfigError> {
    let secret = secret.ok_or_else(|| ConfigError::EmptyToken { source_name: name.to_owned() })?;
    if secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(secret)
    } else {
        Err(ConfigError::BadToken { source_name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_token_is_stripped() {
        let secret = read_token("\n  abc.def \r\n".as_bytes(), "standard input").unwrap();
        assert_eq!(secret.expose(), "abc.def");
    }

    #[test]
    fn what_is_no_token_is_refused_by_its_sources_name() {
        for (text, want) in
            [(" \n", "is empty"), ("two words", "does not hold a token"), ("caf\u{e9}", "does not")]
        {
            let error = read_token(text.as_bytes(), "standard input").err().unwrap().to_string();
            assert!(error.contains("standard input") && error.contains(want), "{error}");
        }
    }
}
