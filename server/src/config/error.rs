//! What can be wrong with the settings, told so that it can be mended: file, line, key, cause,
//! allowed values.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// Why there is no [`Config`](super::Config).
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The config file could not be read.
    #[error("cannot read the config file {}: {source}. Check the path given with \
        --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The config file is not TOML, has an unknown key or a value of the wrong kind.
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, the cause and the allowed values.
        message: String,
    },
    /// A value, or a combination of values, that does not come from one line of a file.
    #[error("{0}")]
    Value(String),
    /// A path could not be made absolute.
    #[error("cannot resolve the path {}: {source}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither the settings nor the environment say where data goes.
    #[error(
        "cannot tell where to keep data: neither XDG_DATA_HOME nor HOME is set. Say it with \
         --data-dir DIR, with SNOWBANKD_DATA_DIR, or with `data-dir` in the config file"
    )]
    NoDataDir,
}

/// A value that parses and still cannot be, before it is known where it stands.
#[derive(Debug)]
pub(super) struct Problem {
    /// The key's path, such as `["limits", "memory"]`.
    pub key: &'static [&'static str],
    /// The cause and the allowed values.
    pub message: String,
}

impl Problem {
    /// Finds the line of the key in the config file's text; without one, the key's name has to do.
    pub(super) fn locate(self, path: Option<&Path>, text: &str) -> ConfigError {
        let message = format!("`{}`: {}", self.key.join("."), self.message);
        match path.zip(line_of_key(text, self.key)) {
            Some((path, line)) => ConfigError::Invalid { path: path.to_owned(), line, message },
            None => ConfigError::Value(message),
        }
    }
}

/// Turns a TOML error into ours, naming the key that holds the place where it happened.
pub(super) fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let at = error.span().map_or(0, |span| span.start);
    let message = error.message().replace("unknown field", "unknown key");
    // An unknown key is named in the message already; for a bad value, its key has to be looked up.
    let key = key_at(text, at).filter(|key| !message.contains(&format!("`{key}`")));
    let message = match key {
        Some(key) => format!("`{key}`: {message}"),
        None => message,
    };
    ConfigError::Invalid {
        path: path.to_owned(),
        line: line_at(text, at),
        message: OneLine(&message).to_string(),
    }
}

struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.lines().map(str::trim).filter(|line| !line.is_empty());
        f.write_str(lines.next().unwrap_or("is not valid TOML"))?;
        lines.try_for_each(|line| write!(f, "; {line}"))
    }
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The dotted path of the key whose value holds the byte at `offset`.
fn key_at(text: &str, offset: usize) -> Option<String> {
    fn find(table: &DeTable<'_>, offset: usize) -> Option<String> {
        table.iter().find_map(|(key, value)| {
            let key = key.get_ref();
            let below = |below| format!("{key}.{below}");
            match value.get_ref() {
                // A section's own span is only its head, so that it says nothing about what is in
                // it.
                DeValue::Table(section) => find(section, offset).map(below),
                DeValue::Array(list)
                    if list.iter().any(|one| one.get_ref().as_table().is_some()) =>
                {
                    list.iter()
                        .filter_map(|one| one.get_ref().as_table())
                        .find_map(|one| find(one, offset))
                        .map(below)
                }
                _ => value.span().contains(&offset).then(|| key.to_string()),
            }
        })
    }
    find(DeTable::parse(text).ok()?.get_ref(), offset)
}

fn line_of_key(text: &str, path: &[&str]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut line = None;
    for part in path {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == part)?;
        line = Some(line_at(text, key.span().start));
        if let Some(inner) = value.get_ref().as_table() {
            table = inner;
        }
    }
    line
}
