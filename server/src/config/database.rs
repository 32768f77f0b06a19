//! `[database]`: where rows live.
//!
//! An address may hold a password. It is never shown, and it is refused from a config file that
//! others can read: such a file gets no better treatment than a secret file, since a warning would
//! leave the password as readable as before.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::Problem;
use super::{ConfigError, Seconds, SecretString, Size, absolute, beside, read_secret_file, secret};

const DEFAULT_CONNECTIONS: u32 = 16;
const DEFAULT_STATEMENT_TIMEOUT: Seconds = Seconds::new(30);
const DEFAULT_IDLE_TIMEOUT: Seconds = Seconds::new(5);
const DEFAULT_RESERVE: Size = Size::from_mib(16);
const MIN_RESERVE: Size = Size::from_mib(4);
const MAX_RESERVE: Size = Size::from_bytes(1 << 30);

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DatabaseSection {
    url: Option<DatabaseUrl>,
    url_file: Option<PathBuf>,
    connections: Option<u32>,
    statement_timeout: Option<Seconds>,
    idle_timeout: Option<Seconds>,
    tls: Option<TlsMode>,
    tls_ca_file: Option<PathBuf>,
    reserve: Option<Size>,
}

/// What the section's values are relative to, and what wins over them.
pub(super) struct Context<'a> {
    pub data_dir: &'a Path,
    pub config_file: Option<&'a Path>,
    /// The environment's address.
    pub from_environment: Option<&'a SecretString>,
}

/// Either what is wrong with a key, or with something outside of the file.
pub(super) enum DatabaseConfigError {
    Key(Problem),
    Other(ConfigError),
}

impl From<ConfigError> for DatabaseConfigError {
    fn from(error: ConfigError) -> Self {
        Self::Other(error)
    }
}

fn wrong(key: &'static [&'static str], message: impl Into<String>) -> DatabaseConfigError {
    DatabaseConfigError::Key(Problem { key, message: message.into() })
}

impl DatabaseSection {
    /// The default is a file in the data folder. A relative path of a database is relative to the
    /// data folder, any other to the config file.
    pub(super) fn resolve(
        self,
        around: &Context<'_>,
    ) -> Result<DatabaseConfig, DatabaseConfigError> {
        let config_dir = around.config_file.and_then(Path::parent);
        if self.url.is_some() && self.url_file.is_some() {
            return Err(wrong(
                &["database", "url-file"],
                "`url` is given too; keep one of the two",
            ));
        }
        let url = if let Some(text) = around.from_environment {
            DatabaseUrl::try_from(text.expose().to_owned()).map_err(|problem| {
                ConfigError::Value(format!("SNOWBANKD_DATABASE_URL: {problem}"))
            })?
        } else if let Some(file) = &self.url_file {
            let path = absolute(&beside(config_dir, file))?;
            let text = read_secret_file(&path)
                .map_err(|error| wrong(&["database", "url-file"], error.to_string()))?;
            DatabaseUrl::try_from(text.expose().to_owned()).map_err(|problem| {
                wrong(&["database", "url-file"], format!("in {}: {problem}", path.display()))
            })?
        } else {
            if let (Some(url), Some(path)) = (&self.url, around.config_file) {
                refuse_shown_password(url, path)?;
            }
            self.url.clone().unwrap_or_else(|| DatabaseUrl::Sqlite("snowbank.db".into()))
        };
        let url = match url {
            DatabaseUrl::Sqlite(path) => DatabaseUrl::Sqlite(around.data_dir.join(path)),
            postgres @ DatabaseUrl::Postgres(_) => postgres,
        };
        self.refuse_for_sqlite(&url)?;
        let tls_ca_file =
            self.tls_ca_file.map(|path| absolute(&beside(config_dir, &path))).transpose()?;
        let postgres = PostgresConfig {
            connections: self.connections.unwrap_or(DEFAULT_CONNECTIONS),
            statement_timeout: self.statement_timeout.unwrap_or(DEFAULT_STATEMENT_TIMEOUT),
            idle_timeout: self.idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT),
            tls: self.tls,
            tls_ca_file,
        };
        if self.reserve.is_some() && matches!(url, DatabaseUrl::Postgres(_)) {
            let message = "it is for SQLite, and the database is PostgreSQL, which keeps its own \
                disk; remove it";
            return Err(wrong(&["database", "reserve"], message));
        }
        let config =
            DatabaseConfig { url, reserve: self.reserve.unwrap_or(DEFAULT_RESERVE), postgres };
        config.validate().map_err(DatabaseConfigError::Key)?;
        Ok(config)
    }

    fn refuse_for_sqlite(&self, url: &DatabaseUrl) -> Result<(), DatabaseConfigError> {
        let DatabaseUrl::Sqlite(_) = url else { return Ok(()) };
        let given: [(&'static [&'static str], bool); 5] = [
            (&["database", "connections"], self.connections.is_some()),
            (&["database", "statement-timeout"], self.statement_timeout.is_some()),
            (&["database", "idle-timeout"], self.idle_timeout.is_some()),
            (&["database", "tls"], self.tls.is_some()),
            (&["database", "tls-ca-file"], self.tls_ca_file.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(wrong(
                key,
                "it is for PostgreSQL, and the database is SQLite; remove it, or give a \
                 postgres:// address",
            )),
            None => Ok(()),
        }
    }
}

fn refuse_shown_password(url: &DatabaseUrl, path: &Path) -> Result<(), DatabaseConfigError> {
    if !url.has_password() {
        return Ok(());
    }
    match secret::exposed_mode(path) {
        Some(mode) => Err(wrong(
            &["database", "url"],
            format!(
                "it holds a password, and others can read this file (mode {mode:04o}). Run: chmod \
                 600 {}; or put the address into a file of its own (`url-file`) or into \
                 SNOWBANKD_DATABASE_URL",
                path.display()
            ),
        )),
        None => Ok(()),
    }
}

/// Which database to use, and how.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Its address.
    pub url: DatabaseUrl,
    /// How much of its disk is kept for a SQLite database; nothing, if it is 0.
    pub reserve: Size,
    /// What holds for PostgreSQL only.
    pub postgres: PostgresConfig,
}

/// How to use a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// Connections that are open at the same time at most.
    pub connections: u32,
    /// How long a statement may take.
    pub statement_timeout: Seconds,
    /// How long a transaction may stand still, holding its locks, before the server ends it.
    pub idle_timeout: Seconds,
    /// Whether the connection is encrypted; without it, what the address says.
    pub tls: Option<TlsMode>,
    /// Certificates, in PEM, of authorities to trust besides the public ones.
    pub tls_ca_file: Option<PathBuf>,
}

impl DatabaseConfig {
    /// A database of that address, with defaults for the rest.
    #[must_use]
    pub fn new(url: DatabaseUrl) -> Self {
        let postgres = PostgresConfig {
            connections: DEFAULT_CONNECTIONS,
            statement_timeout: DEFAULT_STATEMENT_TIMEOUT,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            tls: None,
            tls_ca_file: None,
        };
        Self { url, reserve: DEFAULT_RESERVE, postgres }
    }

    fn validate(&self) -> Result<(), Problem> {
        let problem = |key, message: String| Err(Problem { key, message });
        if self.reserve.bytes() > 0 && !(MIN_RESERVE..=MAX_RESERVE).contains(&self.reserve) {
            let message = format!(
                "{} is out of bounds; allowed are {MIN_RESERVE} to {MAX_RESERVE}, or 0B for none",
                self.reserve
            );
            return problem(&["database", "reserve"], message);
        }
        let DatabaseUrl::Postgres(_) = &self.url else { return Ok(()) };
        let PostgresConfig { connections, statement_timeout, idle_timeout, tls, tls_ca_file } =
            &self.postgres;
        if !(2..=1000).contains(connections) {
            return problem(
                &["database", "connections"],
                format!("{connections} is not within 2 to 1000"),
            );
        }
        if !(1..=3600).contains(&statement_timeout.get()) {
            let message = format!("{statement_timeout} is not within 1s to 1h");
            return problem(&["database", "statement-timeout"], message);
        }
        if !(1..=300).contains(&idle_timeout.get()) {
            let message = format!("{idle_timeout} is not within 1s to 5m");
            return problem(&["database", "idle-timeout"], message);
        }
        let mode = tls.or_else(|| self.url.tls_mode());
        if tls_ca_file.is_some() && !matches!(mode, Some(TlsMode::VerifyCa | TlsMode::VerifyFull)) {
            let message = "certificates are verified only with `tls = \"verify-full\"` or \
                \"verify-ca\"; set that too";
            return problem(&["database", "tls-ca-file"], message.to_owned());
        }
        Ok(())
    }
}

/// Whether the connection to PostgreSQL is encrypted, and what is verified, as libpq's `sslmode`
/// names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Where the server offers it.
    Prefer,
    /// Never.
    Disable,
    /// Always; any certificate will do.
    Require,
    /// Always, with a certificate of a trusted authority.
    VerifyCa,
    /// Always, with a certificate of a trusted authority for that very host.
    VerifyFull,
}

/// A database's address: `sqlite:PATH`, or `postgres://USER@HOST/NAME`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DatabaseUrl {
    /// A file.
    Sqlite(PathBuf),
    /// A server; the address may hold a password, and is never shown.
    Postgres(SecretString),
}

impl DatabaseUrl {
    /// The address that a secret file holds.
    ///
    /// # Errors
    /// When the file cannot be read, lets others read it, or holds no address.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = read_secret_file(path).map_err(|error| ConfigError::Value(error.to_string()))?;
        let said = |problem| ConfigError::Value(format!("{}: {problem}", path.display()));
        Self::try_from(text.expose().to_owned()).map_err(said)
    }

    /// The parameters of a PostgreSQL address, as they stand behind its `?`.
    fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = match self {
            Self::Sqlite(_) => "",
            Self::Postgres(url) => url.expose(),
        };
        let query = text.split_once('?').map_or("", |(_, query)| query);
        query.split('&').filter_map(|pair| pair.split_once('='))
    }

    fn has_password(&self) -> bool {
        let Self::Postgres(url) = self else { return false };
        let address = url.expose().split('?').next().unwrap_or_default();
        let rest = address.split_once("//").map_or("", |(_, rest)| rest);
        // Up to the last `@`: a password with a `/` that was not escaped counts too.
        let user = rest.rsplit_once('@').map_or("", |(user, _)| user);
        user.contains(':') || self.parameters().any(|(key, _)| key == "password")
    }

    fn tls_mode(&self) -> Option<TlsMode> {
        let (_, mode) =
            self.parameters().find(|(key, _)| matches!(*key, "sslmode" | "ssl-mode"))?;
        match mode {
            "verify-ca" => Some(TlsMode::VerifyCa),
            "verify-full" => Some(TlsMode::VerifyFull),
            _ => None,
        }
    }
}

impl TryFrom<String> for DatabaseUrl {
    type Error = &'static str;

    /// The text is not repeated in the error, since it may hold a password.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let problem =
            "the value is not a database address: write sqlite:PATH or postgres://USER@HOST/NAME";
        match text.split_once(':') {
            Some(("sqlite", path)) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(problem),
                path => Ok(Self::Sqlite(PathBuf::from(path))),
            },
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(SecretString::new(text)))
            }
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
