//! `[database]`: where rows live.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Problem;

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DatabaseSection {
    url: Option<DatabaseUrl>,
}

impl DatabaseSection {
    /// The default is a file in the data folder; a relative path is relative to the data folder.
    pub(super) fn resolve(self, data_dir: &Path) -> DatabaseConfig {
        let url = match self.url {
            Some(DatabaseUrl::Sqlite(path)) => DatabaseUrl::Sqlite(data_dir.join(path)),
            Some(postgres @ DatabaseUrl::Postgres(_)) => postgres,
            None => DatabaseUrl::Sqlite(data_dir.join("snowbank.db")),
        };
        DatabaseConfig { url }
    }
}

/// Which database to use.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Its address.
    pub url: DatabaseUrl,
}

impl DatabaseConfig {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        match self.url {
            DatabaseUrl::Sqlite(_) => Ok(()),
            DatabaseUrl::Postgres(_) => Err(Problem {
                key: &["database", "url"],
                message:
                    "PostgreSQL is not supported by this version; use sqlite:PATH, or leave the key out for a file \
                          in the data folder"
                        .to_owned(),
            }),
        }
    }
}

/// A database's address: `sqlite:PATH`, or `postgres://USER@HOST/NAME`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the address may hold a password, and is never shown.
    Postgres(String),
}

impl TryFrom<String> for DatabaseUrl {
    type Error = &'static str;

    /// The text is not repeated in the error, since it may hold a password.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let problem = "the value is not a database address: write sqlite:PATH or postgres://USER@HOST/NAME";
        match text.split_once(':') {
            Some(("sqlite", path)) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(problem),
                path => Ok(Self::Sqlite(PathBuf::from(path))),
            },
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Self::Postgres(text)),
            _ => Err(problem),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}
