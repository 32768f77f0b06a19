//! The server's settings: defaults, then the config file, then flags and environment variables.
//!
//! A [`Config`] is complete and checked: paths are absolute, every value is within its bounds, and
//! nothing later asks whether a setting makes sense. Keys are kebab-case; an unknown key or a bad
//! value is an error that names the file, the line, the key and what is allowed. What may hold a
//! secret is [`SecretString`], and can stand in a file of its own.

mod audit;
mod auth;
mod compression;
mod database;
mod error;
mod file;
mod gc;
mod limits;
mod listen;
mod log;
mod metrics;
mod secret;
mod server;
mod storage;
mod storage_cache;
mod tls;
mod token_algorithm;

pub use audit::AuditConfig;
pub use auth::{AuthConfig, LegacyKeyFile, OidcConfig, OidcGrant, TokenKeyFile, Transport};
pub use compression::CompressionConfig;
pub use database::{DatabaseConfig, DatabaseUrl, PostgresConfig, TlsMode};
pub use error::ConfigError;
pub use gc::GcConfig;
pub use limits::LimitsConfig;
pub use listen::{ListenAddress, SocketMode};
pub use log::{LogConfig, LogFormat, LogLevel};
pub use metrics::MetricsConfig;
pub use secret::{
    SecretFileError, SecretString, check_secret_file, read_key_file, read_secret_file,
};
pub use server::{PublicUrl, TrustedProxies, default_data_dir};
pub use snowbank_core::units::{Seconds, Size};
pub use storage::{CredentialsConfig, FixedCredentials, S3Config, StorageConfig};
pub use storage_cache::CacheConfig;
pub use tls::{ClientCertificates, TlsConfig, TlsOverrides};
pub use token_algorithm::{BadKid, TokenAlgorithm, UnknownAlgorithm, parse_kid};

use std::path::{Path, PathBuf};

use auth::SourceText;
use database::{Context, DatabaseConfigError};
use error::Problem;

/// What the command line and the environment say; each value wins over the config file's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The config file; without one there are only defaults.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data_dir: Option<PathBuf>,
    /// The address to listen on.
    pub listen: Option<ListenAddress>,
    /// The certificate to show, and its key.
    pub tls: TlsOverrides,
    /// The database's address. It may hold a password, so it is no flag, which every user of the
    /// machine could read.
    pub database_url: Option<SecretString>,
    /// The file with the server key.
    pub server_key_file: Option<PathBuf>,
}

/// Everything that can be set, resolved and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: ListenAddress,
    /// The permissions of the socket file, where that is a Unix socket.
    pub socket_mode: SocketMode,
    /// TLS on the sockets of TCP.
    pub tls: Option<TlsConfig>,
    /// The data folder, absolute.
    pub data_dir: PathBuf,
    /// The file with the key that secrets in the database are sealed with, where it is not the data
    /// folder's.
    pub server_key_file: Option<PathBuf>,
    /// The address under which clients reach the server, where it is not the listening address.
    pub public_url: Option<PublicUrl>,
    /// Proxies whose headers say where a request came from.
    pub trusted_proxies: TrustedProxies,
    /// Where rows live.
    pub database: DatabaseConfig,
    /// Where packs live.
    pub storage: StorageConfig,
    /// How much has to stay free on the disks that packs and a SQLite database lie on; `None`: a
    /// part of each.
    pub min_free: Option<Size>,
    /// Memory, sizes, times and counts that a request cannot exceed.
    pub limits: LimitsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where metrics are served.
    pub metrics: MetricsConfig,
    /// How chunks are compressed.
    pub compression: CompressionConfig,
    /// What is kept of what operators do.
    pub audit: AuditConfig,
    /// What is kept of what clients push.
    pub gc: GcConfig,
    /// Whose tokens are believed besides the database's keys'.
    pub auth: AuthConfig,
}

impl Config {
    /// Reads the config file, if there is one, and puts flags and defaults around it.
    ///
    /// # Errors
    /// When the file cannot be read, has an unknown key or a value out of bounds, or no data folder
    /// can be determined.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let (file, text) = match &overrides.config {
            Some(path) => file::read(path)?,
            None => (file::ConfigFile::default(), String::new()),
        };
        let config_dir = overrides.config.as_deref().and_then(Path::parent);
        let data_dir = match (&overrides.data_dir, file.data_dir) {
            (Some(flag), _) => absolute(flag)?,
            (None, Some(key)) => absolute(&beside(config_dir, &key))?,
            (None, None) => default_data_dir()?,
        };
        file.storage
            .validate(overrides.config.as_deref())
            .map_err(|problem| problem.locate(overrides.config.as_deref(), &text))?;
        let around = Context {
            data_dir: &data_dir,
            config_file: overrides.config.as_deref(),
            from_environment: overrides.database_url.as_ref(),
        };
        let locate = |problem: Problem| problem.locate(overrides.config.as_deref(), &text);
        let database = file.database.resolve(&around).map_err(|wrong| match wrong {
            DatabaseConfigError::Key(problem) => locate(problem),
            DatabaseConfigError::Other(error) => error,
        })?;
        let server_key_file = match (&overrides.server_key_file, file.server_key_file) {
            (Some(variable), _) => Some(absolute(variable)?),
            (None, Some(key)) => Some(absolute(&beside(config_dir, &key))?),
            (None, None) => None,
        };
        let written = SourceText { path: overrides.config.as_deref(), text: &text };
        let config = Self {
            auth: file.auth.resolve(written, config_dir)?,
            server_key_file,
            listen: overrides.listen.clone().unwrap_or(file.listen),
            socket_mode: file.socket_mode,
            tls: file.tls.resolve(&overrides.tls, config_dir)?.validate().map_err(locate)?,
            public_url: file.public_url,
            trusted_proxies: file.trusted_proxies,
            database,
            min_free: file.storage.min_free(),
            storage: file.storage.resolve(&data_dir, config_dir)?,
            limits: file.limits,
            log: file.log,
            metrics: file.metrics,
            compression: file.compression,
            audit: file.audit,
            gc: file.gc,
            data_dir,
        };
        config.validate().map_err(locate)?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), Problem> {
        self.limits.validate()?;
        self.audit.validate()?;
        self.gc.validate()?;
        let is_far = matches!(self.storage, StorageConfig::S3(_))
            && matches!(self.database.url, DatabaseUrl::Postgres(_));
        if is_far && self.min_free.is_some() {
            let message = "is for the disk of a folder or of a SQLite database, and this server \
                writes to neither; leave it out";
            return Err(Problem { key: &["storage", "min-free"], message: message.to_owned() });
        }
        Ok(())
    }
}

/// A path of the config file is meant relative to that file, not to wherever the server was
/// started.
fn beside(config_dir: Option<&Path>, path: &Path) -> PathBuf {
    config_dir.map_or_else(|| path.to_owned(), |dir| dir.join(path))
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|source| ConfigError::Path { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
