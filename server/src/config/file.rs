//! The config file as it is written: the top-level keys and sections, before paths are resolved.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::auth::AuthSection;
use super::database::DatabaseSection;
use super::storage::StorageSection;
use super::tls::TlsSection;
use super::{
    AuditConfig, CompressionConfig, ConfigError, GcConfig, LimitsConfig, ListenAddress, LogConfig,
    MetricsConfig, PublicUrl, SocketMode, TrustedProxies, error,
};

/// Every key that a config file can have.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ConfigFile {
    pub listen: ListenAddress,
    pub socket_mode: SocketMode,
    pub tls: TlsSection,
    pub data_dir: Option<PathBuf>,
    pub public_url: Option<PublicUrl>,
    pub trusted_proxies: TrustedProxies,
    pub server_key_file: Option<PathBuf>,
    pub database: DatabaseSection,
    pub storage: StorageSection,
    pub limits: LimitsConfig,
    pub log: LogConfig,
    pub metrics: MetricsConfig,
    pub compression: CompressionConfig,
    pub audit: AuditConfig,
    pub gc: GcConfig,
    pub auth: AuthSection,
}

/// Reads and parses a config file; also gives its text, for errors that are found later.
pub(super) fn read(path: &Path) -> Result<(ConfigFile, String), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let file = toml::from_str(&text).map_err(|problem| error::from_toml(path, &text, &problem))?;
    Ok((file, text))
}
