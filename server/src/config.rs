//! The server's settings: defaults, then the config file, then flags and environment variables.
//!
//! A [`Config`] is complete and checked: paths are absolute, every value is within its bounds, and nothing later asks
//! whether a setting makes sense. Keys are kebab-case; an unknown key or a bad value is an error that names the file, the
//! line, the key and what is allowed. Secrets are never settings: they live in files of the data folder.

mod compression;
mod database;
mod error;
mod file;
mod limits;
mod log;
mod metrics;
mod secret;
mod server;
mod storage;
mod storage_cache;
mod units;

pub use compression::CompressionConfig;
pub use database::{DatabaseConfig, DatabaseUrl};
pub use error::ConfigError;
pub use limits::LimitsConfig;
pub use log::{LogConfig, LogFormat, LogLevel};
pub use metrics::MetricsConfig;
pub use secret::SecretString;
pub use server::{PublicUrl, default_data_dir};
pub use storage::{CredentialsConfig, FixedCredentials, S3Config, StorageConfig};
pub use storage_cache::CacheConfig;
pub use units::{Seconds, Size};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the command line and the environment say; each value wins over the config file's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The config file; without one there are only defaults.
    pub config: Option<PathBuf>,
    /// The data folder.
    pub data_dir: Option<PathBuf>,
    /// The address to listen on.
    pub listen: Option<SocketAddr>,
}

/// Everything that can be set, resolved and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The data folder, absolute.
    pub data_dir: PathBuf,
    /// The address under which clients reach the server, where it is not the listening address.
    pub public_url: Option<PublicUrl>,
    /// Where rows live.
    pub database: DatabaseConfig,
    /// Where packs live.
    pub storage: StorageConfig,
    /// Memory, sizes, times and counts that a request cannot exceed.
    pub limits: LimitsConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where metrics are served.
    pub metrics: MetricsConfig,
    /// How chunks are compressed.
    pub compression: CompressionConfig,
}

impl Config {
    /// Reads the config file, if there is one, and puts flags and defaults around it.
    ///
    /// # Errors
    /// When the file cannot be read, has an unknown key or a value out of bounds, or no data folder can be determined.
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
        file.storage.validate().map_err(|problem| problem.locate(overrides.config.as_deref(), &text))?;
        let config = Self {
            listen: overrides.listen.unwrap_or(file.listen.0),
            public_url: file.public_url,
            database: file.database.resolve(&data_dir),
            storage: file.storage.resolve(&data_dir, config_dir)?,
            limits: file.limits,
            log: file.log,
            metrics: file.metrics,
            compression: file.compression,
            data_dir,
        };
        config.validate().map_err(|problem| problem.locate(overrides.config.as_deref(), &text))?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), error::Problem> {
        self.database.validate()?;
        self.limits.validate()
    }
}

/// A path of the config file is meant relative to that file, not to wherever the server was started.
fn beside(config_dir: Option<&Path>, path: &Path) -> PathBuf {
    config_dir.map_or_else(|| path.to_owned(), |dir| dir.join(path))
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|source| ConfigError::Path { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
